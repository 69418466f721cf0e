"""Find the images of a gallery that are nearest to some images.

python -m tools.search GALLERY photo.png --modality infrared
python -m tools.search GALLERY photo.png --modality infrared --rerank --out sheet.png

GALLERY is a folder that tools.embed wrote with the same model, or, with --milvus, a collection that tools.hand_over
made of one. An image that lies in the gallery does not find itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from engine.embed import open_model
from engine.gallery.folder import Gallery, model_file, require_model
from engine.gallery.milvus import Collection
from engine.gallery.search import INDEXES, recall
from tools.searching.answers import answers_of, queries_of, search
from tools.searching.galleries import among, opened
from tools.searching.saying import as_json, as_share, as_text
from tools.searching.search_options import build_parser
from tools.searching.sheet import sheet
from utils.cli import exit_code, require_place
from utils.device import pick_device
from utils.errors import UserError
from utils.files import write_bytes
from utils.logging import warn_on_terminal


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    warn_on_terminal()
    require_place(args.out)
    with opened(args.gallery, args.milvus) as gallery:
        answer(args, gallery)


def answer(args: argparse.Namespace, gallery: Gallery | Collection) -> None:
    """Search, and say what was found."""
    allowed = among(gallery, args.among, args.camera)
    queries = queries_of(gallery, args.images, args.modality, args.identity)
    embedder = open_model(args.model or model_file(gallery), pick_device(args.device))
    require_model(gallery, embedder)
    vectors = np.concatenate([embedder([query.path], query.modality).numpy() for query in queries])
    top = min(args.top, len(gallery))
    asked = partial(search, queries=queries, vectors=vectors, top=top, allowed=allowed, rerank=args.rerank)
    found = asked(gallery if args.milvus else INDEXES[args.index](gallery))
    share = None if args.index == "exact" else recall(found, asked(INDEXES["exact"](gallery)))
    answers = answers_of(gallery, found, queries, vectors if args.rerank else None, top)
    if args.json:
        index = "milvus" if args.milvus else args.index
        about = {"gallery": str(gallery.root), "model": embedder.hash, "index": index, "recall": share}
        print(as_json({**about, "reranked": args.rerank}, answers))
    else:
        missed = [] if share is None else [as_share(args.index, share, found.rows.shape[1])]
        print("\n\n".join([*map(as_text, answers), *missed]))
    if args.out:
        write_bytes(args.out, sheet(answers, embedder.size))
        if not args.json:
            print(f"\nsheet: {args.out}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    args = build_parser(__doc__).parse_intermixed_args(argv)
    if not args.top:
        raise UserError("--top 0: give 1 or more")
    if args.milvus and args.index != "exact":
        raise UserError(
            f"--index {args.index} is for a folder; a collection has the index that tools.hand_over gave it"
        )
    return args


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

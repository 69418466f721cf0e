"""Find the images of a gallery that are nearest to some images.

python -m tools.search GALLERY photo.png --modality infrared
python -m tools.search GALLERY photo.png --modality infrared --rerank --out sheet.png

GALLERY is a folder that tools.embed wrote with the same model, or, with --milvus, a collection that tools.hand_over made of
one. An image that lies in the gallery does not find itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from engine.embed import MODALITIES, open_model
from engine.gallery.folder import Gallery, model_file, require_model
from engine.gallery.milvus import Collection
from engine.gallery.search import INDEXES, recall
from engine.gallery.sources import PARENT
from tools.searching.answers import CANDIDATES, answers_of, queries_of, search
from tools.searching.galleries import among, opened
from tools.searching.saying import as_json, as_text, endings
from tools.searching.sheet import sheet
from utils.cli import Parser, exit_code, natural, require_place
from utils.device import pick_device
from utils.errors import UserError
from utils.files import expanded, write_bytes
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
    if args.out:
        write_bytes(args.out, sheet(answers, embedder.size))
    if args.json:
        index = "milvus" if args.milvus else args.index
        about = {"gallery": str(gallery.root), "model": embedder.hash, "index": index, "recall": share}
        print(as_json({**about, "reranked": args.rerank}, answers))
    else:
        share_of = None if share is None else (args.index, share, found.rows.shape[1])
        print("\n\n".join([*map(as_text, answers), *endings(share_of, args.out)]))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.search", description=__doc__)
    gallery = "Search this folder, which tools.embed wrote, or the collection of this name."
    parser.add_argument("gallery", type=expanded, metavar="GALLERY", help=gallery)
    parser.add_argument("images", type=expanded, nargs="+", metavar="IMAGE", help="Search for these image files.")
    model = (
        "Embed the images by the model that made GALLERY, a run folder or a checkpoint (default: where GALLERY says)."
    )
    parser.add_argument("--model", type=expanded, help=model)
    modality = (
        "Say which sensor took the images (default: what GALLERY says of those that lie in it; for others, the modality "
        "that a GALLERY folder has no image of)."
    )
    parser.add_argument("--modality", choices=sorted(MODALITIES), help=modality)
    identity = "Tell right from wrong by the name of an image's folder (default: by what GALLERY says of the image)."
    parser.add_argument("--identity", choices=[PARENT], help=identity)
    top = "Show the first N images (default: %(default)s)."
    parser.add_argument("--top", type=natural, default=10, metavar="N", help=top)
    again = f"Order the first {CANDIDATES} images anew, by k-reciprocal re-ranking among themselves."
    parser.add_argument("--rerank", action="store_true", help=again)
    index = "Search all images, or a part of them by faiss, which prints what it misses (default: %(default)s)."
    parser.add_argument("--index", choices=sorted(INDEXES), default="exact", help=index)
    milvus = "Search the collection GALLERY of this Milvus: http://HOST:19530, or a file of Milvus Lite."
    parser.add_argument("--milvus", metavar="URI", help=milvus)
    side = "Search images of this modality only (default: both)."
    parser.add_argument("--among", choices=sorted(MODALITIES), help=side)
    cameras = "Search images of these cameras only (default: all)."
    parser.add_argument("--camera", nargs="+", default=[], metavar="NAME", help=cameras)
    out = "Write a sheet of the images to this file (default: none)."
    parser.add_argument("--out", type=expanded, metavar="FILE.png", help=out)
    parser.add_argument("--json", action="store_true", help="Print the answers as JSON, and nothing else.")
    parser.add_argument("--device", help="Embed on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    args = parser.parse_intermixed_args(argv)
    if not args.top:
        raise UserError("--top 0: give 1 or more")
    if args.milvus and args.index != "exact":
        raise UserError(
            f"--index {args.index} is for a folder; a collection has the index that tools.hand_over gave it"
        )
    return args


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

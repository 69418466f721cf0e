"""Give a gallery to Milvus, a vector database, where it has grown too large for one machine.

python -m tools.hand_over GALLERY --milvus http://HOST:19530
python -m tools.hand_over GALLERY --milvus ./gallery.db

A file whose name ends in .db is one of Milvus Lite, for a first try. The token of a server is read from the environment
variable MILVUS_TOKEN. Given again, the command adds what is missing; `tools.search --milvus` searches what is there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial

from tqdm import tqdm

from engine.gallery.folder import open_gallery
from engine.gallery.handing_over import INDEXES, hand_over
from engine.gallery.milvus import connected, require_name
from utils.cli import Parser, exit_code
from utils.files import expanded
from utils.logging import warn_on_terminal
from utils.terminal import bar_options


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    warn_on_terminal()
    gallery = open_gallery(args.gallery)
    name = require_name(args.collection or name_of(gallery.root.absolute().name))
    try:
        with connected(args.milvus) as client, tqdm(total=len(gallery), desc="rows ", **bar_options()) as bar:
            added = hand_over(gallery, client, name, args.index, bar.update)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("give the same command again to continue") from None
    what = f"{added} of them new" if added else "nothing to do"
    print(f"{args.milvus}: the collection {name} holds {len(gallery)} rows, {what}")


def name_of(folder: str) -> str:
    """A collection's name that looks like a folder's; "gallery" where nothing of it can be kept."""
    kept = re.sub(r"\W+", "_", folder, flags=re.ASCII).strip("_")
    return f"_{kept}" if kept[:1].isdigit() else kept or "gallery"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.hand_over", description=__doc__)
    parser.add_argument(
        "gallery", type=expanded, metavar="GALLERY", help="Give away this folder, which tools.embed wrote."
    )
    parser.add_argument(
        "--milvus", required=True, metavar="URI", help="Give it to this server, or to this file of Milvus Lite."
    )
    parser.add_argument(
        "--collection", metavar="NAME", help="Give it to the collection of this name (default: the folder's)."
    )
    parser.add_argument(
        "--index",
        choices=INDEXES,
        default="FLAT",
        help="Compare a query with every vector, as exact search does, or leave the choice of an index to Milvus, "
        "which is faster from millions of rows on and may miss some (default: %(default)s).",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

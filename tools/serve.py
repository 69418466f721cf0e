"""Serves a page for searching galleries in the browser, and its API (docs/search.md).

python -m tools.serve GALLERY... --model MODEL
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from engine.embed import open_model
from engine.gallery.folder import open_gallery, require_model
from utils.cli import Parser, exit_code, natural, positive
from utils.device import pick_device
from utils.errors import UserError
from utils.extras import require
from utils.files import expanded

LOCAL = ("127.0.0.1", "localhost", "::1")
PACKAGES = ("fastapi", "uvicorn", "python_multipart", "jinja2")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    for name in PACKAGES:
        require(name, "the page")
    from tools.serving.app import build_app
    from tools.serving.listening import answer, listen

    with listen(args.host, args.port) as socket:
        if args.host not in LOCAL:
            print(f"warning: whoever reaches {args.host} can search and see these images", file=sys.stderr)
        embedder = open_model(args.model, pick_device(args.device))
        galleries = [open_gallery(path) for path in args.galleries]
        for gallery in galleries:
            require_model(gallery, embedder)
            if not len(gallery):
                raise UserError(f"{gallery.root}: holds no image; add some with tools.embed --append")
        app = build_app(embedder, galleries, round(args.upload_mb * 2**20), args.name)
        answer(app, socket, args.open, args.check)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.serve", description=__doc__)
    parser.add_argument(
        "galleries", nargs="+", type=expanded, metavar="GALLERY", help="Search these folders, which tools.embed wrote."
    )
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="Embed what people send with this checkpoint or run folder, the one that the galleries were made with.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="Listen on this address; 0.0.0.0 lets everyone in the network in (default: 127.0.0.1, this machine only).",
    )
    parser.add_argument(
        "--port", type=natural, default=8000, metavar="N", help="Listen on this port, 0 for a free one (default: 8000)."
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="Answer to this name of the machine, too; may be given several times.",
    )
    parser.add_argument(
        "--upload-mb", type=positive, default=16.0, metavar="MB", help="Take images up to this size (default: 16)."
    )
    parser.add_argument("--device", help="Embed on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    parser.add_argument("--open", action="store_true", help="Open the page in the browser where there is a screen.")
    parser.add_argument("--check", action="store_true", help="Answer one search of its own, say so, and end.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

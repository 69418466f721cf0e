"""Takes screenshots of the page that tools.serve shows, for the documents.

python -m tools.screenshots http://127.0.0.1:8000/ --out figs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

from tools.serving.browser import shot
from utils.cli import Parser, exit_code, natural
from utils.errors import UserError
from utils.files import expanded, write_bytes

WIDE, PHONE = (1366, 900), (400, 860)  # pixels


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if not args.out.is_dir():
        raise UserError(f"--out {args.out}: there is no such folder")
    for name, path, size, night in shots(args.row):
        target = args.out / f"{name}.webp"
        write_bytes(target, shot(urljoin(args.url, path), size, night))
        print(f"written: {target}")


def shots(row: int) -> list[tuple[str, str, tuple[int, int], bool]]:
    """(name, address, size, dark) of each screenshot."""
    search = f"/search?query_row={row}"
    return [
        ("page_start", "/", WIDE, False),
        ("page_result", f"{search}&top=10&rerank=1", WIDE, False),
        ("page_phone", search, PHONE, False),
    ]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("url", help="Take screenshots of the page at this address.")
    parser.add_argument("--row", type=natural, default=0, metavar="N", help="Search with this row (default: 0).")
    parser.add_argument(
        "--out", type=expanded, default=Path("figs"), metavar="FOLDER", help="Write to this folder (default: figs)."
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

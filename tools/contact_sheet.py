"""Lay images of a SYSU-MM01 folder out on one sheet: a row per identity, a column per camera.

python -m tools.contact_sheet demo/SYSU-MM01 sheet.png --ids 6
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from data.images.decode import load_image
from data.sets.common import list_images, require_folder
from utils.cli import Parser, exit_code
from utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(prog="python -m tools.contact_sheet", description=__doc__)
    parser.add_argument("root", help="Read the data set in this folder.")
    parser.add_argument("out", type=Path, help="Write the sheet to this image file.")
    parser.add_argument(
        "--ids",
        type=int,
        default=6,
        help="Identities to show, the first that every camera saw (default: %(default)s).",
    )
    parser.add_argument(
        "--height", type=int, default=128, help="Give each image this height, in pixels (default: %(default)s)."
    )
    args = parser.parse_args(argv)
    root = require_folder(args.root, "cam1", "SYSU-MM01")
    cameras = sorted(root.glob("cam?"))
    rows = [[list_images(camera / person.name)[:1] for camera in cameras] for person in sorted(cameras[0].iterdir())]
    complete = [[path for (path,) in row] for row in rows if all(row)][: args.ids]
    if not complete:
        raise UserError(f"{root}: no identity was seen by all of {len(cameras)} cameras")
    sheet(complete, args.height).save(args.out)


def sheet(rows: Sequence[Sequence[Path]], height: int) -> Image.Image:
    """The images in a grid, each `height` pixels high and half as wide."""
    width, gap = height // 2, 4
    page = Image.new("RGB", (len(rows[0]) * (width + gap) + gap, len(rows) * (height + gap) + gap), "white")
    for y, row in enumerate(rows):
        for x, path in enumerate(row):
            pixels = load_image(str(path), (height, width)).permute(1, 2, 0).numpy()
            page.paste(Image.fromarray(pixels), (gap + x * (width + gap), gap + y * (height + gap)))
    return page


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

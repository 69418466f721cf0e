"""The answers of a search: each query on the left, and the images that were found, nearest first."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.figures.style import BLACK, CLOSE, CROSS, RIGHT, TEXT, TICK, WRONG, frame, new_figure, show_image, styled
from tools.figures.style import to_png as plain_png

COLUMNS = 10  # images that stand beside each other
LONGEST = 14  # letters under an image


class Tile(NamedTuple):
    """An image with what is said under it. pixels: [H, W, 3] uint8; None where the image is gone."""

    pixels: np.ndarray | None
    below: Sequence[str]
    right: bool | None = None  # None: not known


class Line(NamedTuple):
    """A query and some of its places."""

    heading: str
    query: Tile | None  # None: the line continues the one above
    found: Sequence[Tile]


def lines_of(heading: str, query: Tile, found: Sequence[Tile]) -> list[Line]:
    """The lines of one query, one at least."""
    starts = range(0, max(1, len(found)), COLUMNS)
    return [Line(heading * (not at), None if at else query, found[at : at + COLUMNS]) for at in starts]


@styled
def search_sheet(lines: Sequence[Line], shape: tuple[int, int]) -> Figure:
    """Right images have a solid green frame and a tick, wrong ones a dashed orange one and a cross.

    shape: an image's (H, W).
    """
    figure = new_figure(0.3 + len(lines) * (0.72 + 0.6 * shape[0] / shape[1]), gap=CLOSE)
    for part, line in zip(np.atleast_1d(figure.subfigures(len(lines), 1)), lines):
        part.suptitle(line.heading or " ", x=0.01, ha="left", fontsize=TEXT + 1, parse_math=False)
        panels = part.subplots(1, 1 + COLUMNS)
        tiles = [line.query, *line.found, *[None] * (COLUMNS - len(line.found))]
        for axes, tile in zip(panels, tiles):
            if tile is None:
                axes.set_axis_off()
            else:
                _draw(axes, tile, shape)
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file's content. Letters that the font lacks are boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        return plain_png(figure)


def _draw(axes: Axes, tile: Tile, shape: tuple[int, int]) -> None:
    sign, colour, style = {
        True: (TICK + " ", RIGHT, "-"),
        False: (CROSS + " ", WRONG, (0, (2, 1.2))),
        None: ("", BLACK, "-"),
    }[tile.right]
    show_image(axes, np.full((*shape, 3), 0xBB, dtype=np.uint8) if tile.pixels is None else tile.pixels)
    if tile.pixels is None:
        axes.text(0.5, 0.5, "image\nis gone", transform=axes.transAxes, ha="center", va="center")
    frame(axes, colour, style, 2.5 if sign else 1)
    text = sign + "\n".join(short(words) for words in tile.below)
    axes.set_xlabel(text, color=colour, labelpad=4, parse_math=False, fontsize=TEXT - 1)


def short(text: str) -> str:
    """What fits under an image."""
    readable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return readable if len(readable) <= LONGEST else readable[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"

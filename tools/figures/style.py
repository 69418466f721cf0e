"""What the figures share: size, letters, colours that colour-blind readers tell apart, and the way to PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from engine.retrieval.rankers import label_of, uses_queries
from utils.types import Modality

WIDTH = 7.2  # inches: the text of an A4 page, and half of a laptop's screen at 100 %
DPI, SMALL_DPI = 150, 100
STEP = 17  # of a colour in a small PNG: 0 and 255 stay as they are
TEXT = 9  # points
CLOSE = 0.03  # inches between images that belong together
# Okabe and Ito, https://jfly.uni-koeln.de/color/; their yellow is too light for white paper.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "#000000 #E69F00 #56B4E9 #009E73 #0072B2 #D55E00 #CC79A7".split()
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = "osD^vPX"
RIGHT, WRONG = GREEN, RED
TICK, CROSS = "\u2713", "\u2717"
MODALITY_NAMES = {Modality.VISIBLE: "visible", Modality.INFRARED: "infrared"}
STYLE = {
    "font.size": TEXT,
    "axes.titlesize": TEXT + 1,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "figure.titlesize": TEXT + 2,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}
Drawing = TypeVar("Drawing", bound=Callable[..., Any])


def ranking_name(name: str) -> str:
    """As a figure's title has it: whether the ranker uses the other queries has to be known beside its numbers."""
    return label_of(name) + " (uses the other queries)" * uses_queries(name)


def styled(drawing: Drawing) -> Drawing:
    """A function that draws in the project's style, whatever matplotlib's settings are; they stay as they were."""

    @wraps(drawing)
    def draw(*args, **kwargs):
        with matplotlib.style.context(["default", STYLE]):
            return drawing(*args, **kwargs)

    return draw


def new_figure(height: float, width: float = WIDTH, gap: float = 0.09) -> Figure:
    """An empty figure of the given size in inches, on white. gap: inches on each side of a panel."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=gap, h_pad=0.09)
    return figure


@styled
def to_png(figure: Figure, small: bool = False) -> bytes:
    """The figure as a PNG file's content. small: a fraction of the bytes, in fewer dots and 16 steps of each colour."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=SMALL_DPI if small else DPI, facecolor="white")
    if not small:
        return drawn.getvalue()
    with Image.open(drawn) as image:
        pixels = np.asarray(image.convert("RGB"))
    reduced = io.BytesIO()
    Image.fromarray(((pixels.astype(np.int16) + STEP // 2) // STEP * STEP).astype(np.uint8)).save(
        reduced, format="PNG", optimize=True
    )
    return reduced.getvalue()


def show_image(axes: Axes, pixels: Any, **settings: Any) -> None:
    """An image, [H, W, 3] uint8 or [H, W] float, without ticks and grid."""
    axes.imshow(pixels, **settings)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def frame(axes: Axes, colour: str, line: str, width: float) -> None:
    """Draw the four sides of the axes in one colour and line style."""
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=colour, linestyle=line, linewidth=width, capstyle="butt")


def legend_below(figure: Figure, handles: Mapping[str, Any], columns: int) -> None:
    """One legend for the whole figure, under it."""
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)

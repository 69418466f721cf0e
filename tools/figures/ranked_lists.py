"""Ranked lists: a query and the gallery images nearest to it, right and wrong ones told apart by colour and by sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.retrieval.ranked import Match
from tools.figures.style import (
    BLACK,
    CLOSE,
    CROSS,
    MODALITY_NAMES,
    RIGHT,
    TEXT,
    TICK,
    WRONG,
    frame,
    new_figure,
    ranking_name,
    show_image,
    styled,
)
from utils.types import Modality

PLACES = 10


class Person(NamedTuple):
    """An image, with what is known of it."""

    pixels: np.ndarray  # [H, W, 3] uint8
    pid: int
    camera: int


class Found(NamedTuple):
    """A gallery image of a ranked list."""

    person: Person
    distance: float
    rank: int  # among the images that the query does not skip, from 1


class RankedList(NamedTuple):
    """One query's first places, nearest first; images that it skips are none of them.

    Where none of them is right, the first right one has the last place.
    """

    kind: str  # "best" | "median" | "worst"
    query: Person
    modality: Modality  # of the query
    precision: float  # average precision, a fraction
    found: Sequence[Found]
    match: Match  # the first right one


def pick_queries(precision: np.ndarray, counts: np.ndarray, each: int) -> list[tuple[str, int]]:
    """(kind, row) of the `each` best, median and worst queries by average precision; fewer where there are too few.

    precision: [Q] float. counts: [Q] bool, whether the query has a match in its gallery. No query is picked twice, ties
    go to the lower row.
    """
    rows = np.flatnonzero(counts)
    order = rows[np.argsort(-precision[rows], kind="stable")].tolist()
    middle = max(0, (len(order) - each) // 2)
    picked = {row: "worst" for row in order[max(0, len(order) - each) :]}
    picked |= {row: "median" for row in order[middle : middle + each]}
    picked |= {row: "best" for row in order[:each]}
    return [(picked[row], row) for row in order if row in picked]


@styled
def ranked_lists_figure(lists: Sequence[RankedList], ranking: str) -> Figure:
    """A row for each query: itself, then its first places, each with a tick or a cross, its distance and its identity.

    Right ones have a solid green frame, wrong ones a dashed orange one. One that is shown after a gap has its rank
    under it.
    """
    columns = 1 + max(len(each.found) for each in lists)
    height, width = lists[0].query.pixels.shape[:2]
    figure = new_figure(0.3 + len(lists) * (0.66 + 0.6 * height / width), gap=CLOSE)
    figure.suptitle(f"Ranked by {ranking_name(ranking)}")
    for part, each in zip(np.atleast_1d(figure.subfigures(len(lists), 1)), lists):
        part.suptitle(heading(each), x=0.01, ha="left", fontsize=TEXT + 1)
        panels = part.subplots(1, columns)
        for axes in panels[1 + len(each.found) :]:
            axes.set_axis_off()
        _draw(panels[0], each.query, "query", f"id {each.query.pid}", BLACK, "-")
        for place, (axes, found) in enumerate(zip(panels[1:], each.found), start=1):
            right = found.person.pid == each.query.pid
            sign, colour, line = (TICK, RIGHT, "-") if right else (CROSS, WRONG, (0, (2, 1.2)))
            below = f"{sign} {found.distance:.2f}"
            name = f"id {found.person.pid}" if found.rank == place else f"rank {found.rank}"
            _draw(axes, found.person, below, name, colour, line)
    return figure


def heading(shown: RankedList) -> str:
    """The heading of a row."""
    return (
        f"{shown.kind.capitalize()} query (id {shown.query.pid}, camera {shown.query.camera}, "
        f"{MODALITY_NAMES[shown.modality]}): AP {100 * shown.precision:.1f} %, "
        f"first right one at rank {shown.match.rank} of {shown.match.of}"
    )


def _draw(axes: Axes, person: Person, below: str, identity: str, colour: str, line) -> None:
    show_image(axes, person.pixels)
    frame(axes, colour, line, 2.5)
    axes.set_xlabel(f"{below}\n{identity}", color=colour, labelpad=4)

"""How far the same and different identities lie apart across the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.figures.style import BLUE, RANKING_NAMES, RED, new_figure, styled

BINS = 50


class Pairs(NamedTuple):
    """Distances of query-gallery pairs under one ranking."""

    same: np.ndarray  # [P] float, of one identity
    different: np.ndarray  # [N] float, of two


class Histograms(NamedTuple):
    """Shares of the pairs in common bins, each summing to 1."""

    edges: np.ndarray  # [B + 1] float64
    same: np.ndarray  # [B] float64
    different: np.ndarray  # [B] float64

    @property
    def overlap(self) -> float:
        """The share that the two have in common, 0..1: 0 where a threshold would part them, 1 where they are alike."""
        return float(np.minimum(self.same, self.different).sum())


def histograms(pairs: Pairs, bins: int = BINS) -> Histograms:
    """Both histograms in equal bins from the smallest to the largest distance. Neither kind of pair may be missing."""
    both = np.concatenate(pairs)
    edges = np.histogram_bin_edges(both, bins)
    same, different = (np.histogram(kind, edges)[0] / len(kind) for kind in pairs)
    return Histograms(edges, same, different)


@styled
def distances_figure(pairs: Mapping[str, Pairs]) -> Figure:
    """A panel for each ranking: the shares of pairs of the same and of different identities at each distance."""
    figure = new_figure(3.1, 7.2 if len(pairs) > 1 else 4.6)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (ranking, found) in zip(panels, pairs.items()):
        _draw(axes, found)
        axes.set(title=RANKING_NAMES.get(ranking, ranking), xlabel="distance, no unit")
    panels[0].set_ylabel("share of the pairs, %")
    return figure


def _draw(axes: Axes, pairs: Pairs) -> None:
    found = histograms(pairs)
    kinds = (("same identity", found.same, pairs.same, RED, "///", "-"), ("different", found.different, pairs.different, BLUE, "", "--"))  # fmt: skip
    for name, shares, kind, colour, hatch, line in kinds:
        axes.stairs(
            100 * shares,
            found.edges,
            fill=True,
            facecolor=colour,
            edgecolor=colour,
            alpha=0.25,
            hatch=hatch,
            linewidth=0,
        )
        label = f"{name}, {len(kind)} pairs"
        axes.stairs(100 * shares, found.edges, color=colour, linestyle=line, linewidth=1.8, label=label)
    axes.legend(title=f"overlap {100 * found.overlap:.1f} %", loc="best")
    axes.set_ylim(0, 133 * max(found.same.max(), found.different.max()))  # room for the legend

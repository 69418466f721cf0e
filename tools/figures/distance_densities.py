"""How far the same and different identities lie apart across the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.figures.style import BLUE, RED, legend_below, new_figure, ranking_name, styled

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
    """A panel for each ranking: the shares of pairs of the same and of different identities at each distance.

    The rankings must be of the same pairs: there is one legend, under all panels.
    """
    figure = new_figure(3.3, 7.2 if len(pairs) > 1 else 4.6)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (ranking, found) in zip(panels, pairs.items()):
        overlap, outlines = _draw(axes, found)
        title = f"{ranking_name(ranking)}\noverlap {100 * overlap:.1f} %"
        axes.set(title=title, xlabel="distance, no unit")
    panels[0].set_ylabel("share of the pairs, %")
    legend_below(figure, outlines, columns=2)
    return figure


def _draw(axes: Axes, pairs: Pairs) -> tuple[float, dict[str, Artist]]:
    """Both histograms; their overlap, and their outlines by name."""
    found, outlines = histograms(pairs), {}
    kinds = (
        ("same identity", found.same, pairs.same, RED, "///", "-"),
        ("different identities", found.different, pairs.different, BLUE, "", "--"),
    )
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
        outlines[label] = axes.stairs(100 * shares, found.edges, color=colour, linestyle=line, linewidth=1.8)
    axes.set_ylim(0, 105 * max(found.same.max(), found.different.max()))
    return found.overlap, outlines

"""CMC curves: the share of the queries whose identity is among the first k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from tools.figures.style import MARKERS, SERIES, legend_below, new_figure, ranking_name, styled

DEEPEST = 20
MARKED = (1, 5, 10, 15, 20)


def cmc_curve(first: Sequence[np.ndarray], deepest: int = DEEPEST) -> np.ndarray:
    """Matching rate at ranks 1..deepest, in percent, mean over the trials: [deepest] float64.

    first: of each trial, the rank of each query's identity, [Q] int, from 1; 0 where a query has no match and does not
    count. A trial without a match anywhere counts 0.
    """
    ranks = np.arange(1, deepest + 1)
    trials = [(trial[trial > 0, None] <= ranks) for trial in first]
    return np.mean([100 * hits.mean(axis=0) if len(hits) else np.zeros(deepest) for hits in trials], axis=0)


@styled
def cmc_figure(curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """A panel for each ranking with a curve for each protocol: {ranking: {protocol: [K] percent at ranks 1..K}}."""
    figure = new_figure(3.4, 7.2 if len(curves) > 1 else 4.6)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    lines = {}
    for axes, (ranking, protocols) in zip(panels, curves.items()):
        for number, (protocol, rates) in enumerate(protocols.items()):
            ranks = np.arange(1, len(rates) + 1)
            (lines[protocol],) = axes.plot(
                ranks,
                rates,
                color=SERIES[number % len(SERIES)],
                marker=MARKERS[number % len(MARKERS)],
                markevery=[k - 1 for k in MARKED if k <= len(rates)],
            )
        axes.set(title=ranking_name(ranking), xlabel="rank k", ylim=(None, 101))
        axes.xaxis.set_major_locator(FixedLocator(MARKED))
    panels[0].set_ylabel("queries found within rank k, %")
    legend_below(figure, lines, columns=4)
    return figure

"""How a training went: losses, accuracy, learning rate, and rank-1 and mAP on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.retrieval.rankers import PLAIN, label_of
from tools.figures.style import MARKERS, SERIES, new_figure, styled
from utils.types import ResultRow

Curve = Sequence[tuple[int, float]]  # (epoch, value)


class Panel(NamedTuple):
    """What one pair of axes shows."""

    title: str
    unit: str
    curves: Mapping[str, Curve]
    scale: str = "linear"


@styled
def curves_figure(scalars: Mapping[str, Curve], rows: Iterable[ResultRow]) -> Figure:
    """A panel for each loss, the accuracy, the learning rate, and rank-1 and mAP, by epoch; none without a curve.

    scalars: epoch means by name; "accuracy" is a fraction, "lr" the learning rate, every other one a loss, "loss" their
    sum. rows: of the whole run (`progress_curves`). Raises ValueError where there is nothing to show.
    """
    panels = [
        *map(_scalar_panel, scalars.items()),
        Panel(f"On evaluated images, {label_of(PLAIN)}", "%", progress_curves(rows)),
    ]
    shown = [panel for panel in panels if panel.curves]
    if not shown:
        raise ValueError("a run without a curve")
    lines = (len(shown) + 1) // 2
    figure = new_figure(2.2 * lines + 0.1)
    for place, panel in enumerate(shown, start=1):
        axes = figure.add_subplot(lines, min(2, len(shown)), place)
        draw_curves(axes, panel.curves)
        axes.set(title=panel.title, xlabel="epoch", ylabel=panel.unit, yscale=panel.scale)
    return figure


def progress_curves(rows: Iterable[ResultRow]) -> dict[str, Curve]:
    """Rank-1 and mAP by epoch, in percent, of each protocol that was evaluated while training; the start included."""
    found = [row for row in rows if row.ranking == PLAIN and row.stage in ("initial", "train")]
    protocols = list(dict.fromkeys(row.protocol for row in found if row.stage == "train"))
    return {
        f"{name}, {protocol}": [(row.epoch, getattr(row, metric)) for row in found if row.protocol == protocol]
        for protocol in protocols
        for metric, name in (("r1", "rank-1"), ("mAP", "mAP"))
    }


def draw_curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Each curve in a colour and with a marker of its own; a legend where there are several."""
    for number, (name, curve) in enumerate(curves.items()):
        epochs, values = zip(*curve)
        axes.plot(
            epochs,
            values,
            label=name,
            color=SERIES[number % len(SERIES)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=max(1, len(curve) // 10),
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len({epoch for curve in curves.values() for epoch, _ in curve}) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    if len(curves) > 1:
        axes.legend(frameon=True, framealpha=0.85, edgecolor="none")


def _scalar_panel(scalar: tuple[str, Curve]) -> Panel:
    name, curve = scalar
    if name == "accuracy":
        return Panel("Accuracy on training batches", "%", {name: [(epoch, 100 * value) for epoch, value in curve]})
    if name == "lr":
        return Panel("Learning rate", "rate", {name: curve}, "log")
    return Panel("Loss, sum of all terms" if name == "loss" else f"Loss, {name}", "loss", {name: curve})

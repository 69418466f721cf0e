"""A map of the embeddings: images that the model finds alike lie near one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.manifold import TSNE

from tools.figures.style import MODALITY_NAMES, TEXT, new_figure, styled
from utils.types import Modality

IDENTITIES = 10
SEED = 0  # of the identities and of t-SNE
IMAGES = 12  # of an identity in one modality
# M. Petroff, Accessible color sequences for data visualization (arXiv:2107.02270): ten, for colour-blind readers too.
COLOURS = "#3f90da #ffa90e #bd1f01 #94a4a2 #832db6 #a96b59 #e76300 #b9ac70 #717581 #92dadd".split()
MODALITY_MARKERS = {Modality.VISIBLE: "o", Modality.INFRARED: "^"}
PERPLEXITY = 20.0
SMALLEST = 4  # images
LABEL_GAP = 0.2  # inches between a label and the points


def pick_images(
    pids: dict[Modality, np.ndarray], identities: int = IDENTITIES, images: int = IMAGES
) -> dict[Modality, np.ndarray]:
    """Rows to show of each modality, [n] int64: random identities that both have, evenly spread images of each.

    pids: [N] int of each modality. The same identities at every call, so that runs can be compared.
    """
    both = np.intersect1d(pids[Modality.VISIBLE], pids[Modality.INFRARED])
    shared = np.sort(np.random.default_rng(SEED).permutation(both)[:identities])
    return {
        modality: np.concatenate([_spread(np.flatnonzero(labels == pid), images) for pid in shared] or [np.arange(0)])
        for modality, labels in pids.items()
    }


def flatten(embeddings: np.ndarray, seed: int = SEED) -> np.ndarray:
    """t-SNE by the cosine distance, [N, D] float -> [N, 2] float32; N is at least `SMALLEST`.

    The same at every call; embeddings that differ in their last bits may give a mirrored map.
    """
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(min=1e-12)
    return TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed).fit_transform(units)


@styled
def embedding_figure(points: np.ndarray, pids: Sequence[int], modalities: Sequence[int]) -> Figure:
    """Points [N, 2] in their identity's colour, circles or triangles by modality, and each identity's number beside."""
    pids, modalities = np.asarray(pids), np.asarray(modalities)
    figure = new_figure(5.6)
    axes = figure.add_subplot()
    inch = np.ptp(points, axis=0).clip(min=1e-12) / figure.get_size_inches()
    labels: list[np.ndarray] = []
    for number, pid in enumerate(np.unique(pids)):
        for modality, marker in MODALITY_MARKERS.items():
            own = points[(pids == pid) & (modalities == modality)]
            if len(own):
                colour = COLOURS[number % len(COLOURS)]
                axes.scatter(*own.T, c=colour, marker=marker, s=45, edgecolor="black", linewidth=0.6)
                labels.append(label_place(own / inch, np.concatenate([points / inch, *labels])))
                _write(axes, labels[-1][0] * inch, str(pid))
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1, no unit", ylabel="t-SNE 2, no unit")
    axes.set_title("Test images by their embedding; the numbers are identities")
    axes.margins(0.06)
    axes.grid(False)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color="#555555", markersize=7, label=MODALITY_NAMES[modality])
        for modality, marker in MODALITY_MARKERS.items()
    ]
    axes.legend(handles=handles, loc="best", frameon=True)
    return figure


def label_place(own: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The place of a group's label, [1, 2]: beside one of its points, where there is room, rather near its middle.

    own: [n, 2], the group's points. taken: [N, 2], all points, and the labels that are there already. In inches.
    """
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around = LABEL_GAP * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    places = (own[:, None] + around).reshape(-1, 2)
    room = np.linalg.norm(places[:, None] - taken, axis=2).min(axis=1).clip(max=0.95 * LABEL_GAP)
    away = np.linalg.norm(places - np.median(own, axis=0), axis=1)
    return places[[(room - 0.03 * away).argmax()]]


def _write(axes: Axes, place: np.ndarray, name: str) -> None:
    outline = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(*place, name, fontsize=TEXT, weight="bold", ha="center", va="center", path_effects=outline)


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64))]

"""Our re-ranking and metrics against the definition on a part, and against float64 on a whole trial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch.nn.functional as F

from benchmarks import plain
from benchmarks.features import SPREAD, Data, sysu_like
from engine.retrieval.metrics import ranking_metrics
from engine.retrieval.mser import mser_distance
from tests import reference as slow
from utils.types import Modality, Setting

GAP = 1e-6  # between squared distances, below which float32 may take another neighbour


def check(split: Path, width: int) -> str:
    """The fast way against the definition on a part, and against float64 on a whole trial."""
    data = sysu_like(split, SPREAD["weak"], width)
    query, gallery = sides(data, data.settings[0], slice(None, None, 60), slice(None, None, 150))
    fast, exact = mser_distance(query, gallery, 10, 4, 0.3, True), slow.mser(query, gallery, 10, 4, 0.3, True)
    labels = [data.features[m].pids[step] for m, step in ((1, slice(None, None, 60)), (0, slice(None, None, 150)))]
    out = np.zeros(fast.shape, dtype=bool)
    found, expected = ranking_metrics(fast, *labels, out), slow.metrics(fast.numpy(), *map(np.asarray, labels), out)
    lines = [
        f"a part, against tests/reference.py: MSER distances differ by {np.abs(fast.numpy() - exact).max():.1e}, "
        f"metrics of the same distances by {max(abs(found[name] - expected[name]) for name in found):.1e}"
    ]
    for name, spread in SPREAD.items():
        data = sysu_like(split, spread, width)
        setting = data.settings[0]
        query, gallery = sides(data, setting, setting.trials[0].query, setting.trials[0].gallery)
        fast = mser_distance(query, gallery, *data.mser).numpy()
        double = (query.astype(np.float64), gallery.astype(np.float64))
        difference = np.abs(fast - plain.mser(*double, *data.mser))
        close = boundaries(*double, *data.mser[:2])
        lines.append(
            f"{name}, one whole trial of {setting.protocol}, against float64: {close} of "
            f"{query.shape[1] + 4 * gallery.shape[1]} images have a gap below {GAP:.0e} at k1 or k2; MSER distances "
            f"differ by {difference.max():.1e} at most, {(difference > 1e-5).sum()} of {difference.size} by more "
            "than 1e-5"
        )
    return "\n".join(lines)


def sides(data: Data, setting: Setting, query, gallery) -> tuple[np.ndarray, np.ndarray]:
    """Normalised embeddings of the chosen infrared queries and visible gallery images."""
    chosen = ((data.features[Modality.INFRARED], query), (data.features[Modality.VISIBLE], gallery))
    return tuple(F.normalize(features.embeddings[:, rows], dim=2).numpy() for features, rows in chosen)


def boundaries(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int) -> int:
    """Images whose last neighbour at k1 + 1 or k2, among the queries, is no nearer than the next one by GAP."""
    near = np.sort(plain.squared(np.concatenate([*query, *gallery]), query[0]), axis=1)

    def unsure(rows: np.ndarray, k: int) -> np.ndarray:
        return rows[:, k] - rows[:, k - 1] < GAP if k < rows.shape[1] else np.zeros(len(rows), dtype=bool)

    expanded, own = unsure(near, k2), unsure(near[: query.shape[1]], k1 + 1)
    return int(expanded[len(own) :].sum() + (expanded[: len(own)] | own).sum())

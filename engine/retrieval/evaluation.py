"""Protocol settings: trials -> distances -> metrics -> their mean (docs/method.md, 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.retrieval.distances import RESULT_SHARE, blocks, cosine_distances, may_keep, take, take_columns
from engine.retrieval.k_reciprocal import KReciprocalDefaults, k_reciprocal_ranking
from engine.retrieval.metrics import Scores, chance_rank1, query_scores, summary
from engine.retrieval.mser import mser_ranking
from engine.retrieval.reranking import Ranking
from utils.types import Exclusion, Features, Modality, MserDefaults, Setting, Split, Trial

# (query [Vq, Q, D], gallery [Vg, N, D], both normalised, memory in GB) -> a ranking of any part of that gallery.
# Whatever trials with the same queries share is computed when the ranker is called.
Ranker = Callable[[Tensor, Tensor, float], Ranking]


def rankers(mser: MserDefaults) -> dict[str, Ranker]:
    """Every ranking by its name. mser: the data set's parameters."""
    return {
        "cosine": cosine_ranking,
        "mser": partial(_with, mser_ranking, mser),
        "k_reciprocal": partial(_with, k_reciprocal_ranking, KReciprocalDefaults()),
    }


def cosine_ranking(query: Tensor, gallery: Tensor, memory_gb: float) -> Ranking:
    """Cosine distances of the original spectra."""
    query, gallery = query[0], gallery[0]
    kept = cosine_distances(query, gallery) if may_keep(len(query) * len(gallery), memory_gb) else None

    def ranking(columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
        chosen = take(gallery, columns, 0) if kept is None else None
        for part in blocks(len(query), len(columns), memory_gb, RESULT_SHARE):
            yield part, cosine_distances(query[part], chosen) if kept is None else take_columns(kept[part], columns)

    return ranking


def evaluate_settings(
    features: Mapping[Modality, Features],
    settings: Sequence[Setting],
    excluded: Exclusion,
    ranker: Ranker,
    memory_gb: float,
) -> dict[str, dict[str, float]]:
    """Mean metrics over its trials, as fractions, of each setting by its protocol's name.

    features: of both modalities, on one device; not changed. Trials with the same queries share their distances.
    """
    results: dict[tuple[str, int], dict[str, float]] = {}
    for group in _groups(settings).values():
        setting, _, first = group[0]
        used = np.unique(np.concatenate([trial.gallery for _, _, trial in group]))
        query, gallery = (_units(side, rows) for side, rows in zip(_sides(features, setting), (first.query, used)))
        ranking = ranker(query.embeddings, gallery.embeddings, memory_gb)
        for setting, number, trial in group:
            columns = torch.as_tensor(np.searchsorted(used, trial.gallery), device=gallery.pids.device)
            results[setting.protocol, number] = summary(_scores(ranking, query, gallery, columns, excluded))
    return {
        setting.protocol: _mean([results[setting.protocol, number] for number in range(len(setting.trials))])
        for setting in settings
    }


def narrowed(split: Split, protocols: Sequence[str]) -> tuple[Split, dict[Modality, np.ndarray]]:
    """A split of these protocols and of the pictures that they use; and the rows of those pictures in the given split."""
    settings = [setting for setting in split.settings if setting.protocol in protocols]
    asked = defaultdict(list)
    for setting in settings:
        for trial in setting.trials:
            asked[setting.query_modality].append(trial.query)
            asked[_other(setting.query_modality)].append(trial.gallery)
    rows = {modality: np.unique(np.concatenate(asked[modality])) for modality in Modality}

    def renumbered(setting: Setting) -> Setting:
        query, gallery = rows[setting.query_modality], rows[_other(setting.query_modality)]
        found = [Trial(np.searchsorted(query, t.query), np.searchsorted(gallery, t.gallery)) for t in setting.trials]
        return setting._replace(trials=found)

    records = ([given[row] for row in rows[m]] for m, given in zip(Modality, (split.visible, split.infrared)))
    return Split(*records, [renumbered(setting) for setting in settings], tuple(protocols)), rows


def chance(features: Mapping[Modality, Features], setting: Setting, excluded: Exclusion) -> float:
    """Rank-1 that a random order would have, as a fraction, mean over the trials."""
    values = []
    for trial in setting.trials:
        query, gallery = (_take(side, rows) for side, rows in zip(_sides(features, setting), trial))
        values.append(chance_rank1(query.pids, gallery.pids, _excluded(query, gallery, excluded)))
    return sum(values) / len(values)


def _with(ranking: Callable, parameters: tuple, query: Tensor, gallery: Tensor, memory_gb: float) -> Ranking:
    return ranking(query, gallery, parameters, memory_gb)


def _groups(settings: Sequence[Setting]) -> dict[tuple[int, bytes], list[tuple[Setting, int, Trial]]]:
    """Trials that have the same queries."""
    groups = defaultdict(list)
    for setting in settings:
        for number, trial in enumerate(setting.trials):
            groups[setting.query_modality, trial.query.tobytes()].append((setting, number, trial))
    return groups


def _scores(
    ranking: Ranking, query: Features, gallery: Features, columns: Tensor, excluded: Exclusion
) -> Iterator[Scores]:
    pids, cameras = gallery.pids[columns], gallery.cameras[columns]
    for part, distances in ranking(columns):
        skipped = excluded(query.pids[part], query.cameras[part], pids, cameras)
        yield query_scores(distances, query.pids[part], pids, skipped)


def _sides(features: Mapping[Modality, Features], setting: Setting) -> tuple[Features, Features]:
    return features[setting.query_modality], features[_other(setting.query_modality)]


def _other(modality: Modality) -> Modality:
    return Modality.INFRARED if modality == Modality.VISIBLE else Modality.VISIBLE


def _take(features: Features, rows: np.ndarray) -> Features:
    rows = torch.as_tensor(rows, device=features.embeddings.device)
    return Features(take(features.embeddings, rows, 1), features.pids[rows], features.cameras[rows])


def _units(features: Features, rows: np.ndarray) -> Features:
    """The chosen rows with normalised embeddings, spectrum by spectrum: a copy of all would be as large as the result."""
    chosen = torch.as_tensor(rows, device=features.embeddings.device)
    units = features.embeddings.new_empty(len(features.embeddings), len(chosen), features.embeddings.shape[2])
    for spectrum, embeddings in zip(units, features.embeddings):
        F.normalize(take(embeddings, chosen, 0), dim=1, out=spectrum)
    return Features(units, features.pids[chosen], features.cameras[chosen])


def _excluded(query: Features, gallery: Features, rule: Exclusion) -> Tensor:
    return rule(query.pids, query.cameras, gallery.pids, gallery.cameras)


def _mean(results: Iterable[Mapping[str, float]]) -> dict[str, float]:
    results = list(results)
    return {name: sum(result[name] for result in results) / len(results) for name in results[0]}

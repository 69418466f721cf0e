"""Protocol settings: trials -> distances -> metrics -> their mean (docs/method.md, 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.retrieval.distances import take
from engine.retrieval.metrics import Scores, chance_rank1, query_scores, summary
from engine.retrieval.rankers import Rank
from engine.retrieval.reranking import Ranking
from utils.types import Exclusion, Features, Modality, Setting, Split, Trial


class TrialBlock(NamedTuple):
    """The distances of some queries of a trial to its G gallery images."""

    part: slice  # which queries
    distances: Tensor  # [q, G] float
    skipped: Tensor  # [q, G] bool, gallery images that a query skips
    query_pids: Tensor  # [q] int64
    gallery_pids: Tensor  # [G] int64

    def scores(self) -> Scores:
        """How well each of these queries found its identity."""
        return query_scores(self.distances, self.query_pids, self.gallery_pids, self.skipped)


class RankedTrial(NamedTuple):
    """A trial while it is ranked; its blocks of queries, in order, can be run through once."""

    setting: Setting
    number: int  # of the trial in its setting
    blocks: Iterator[TrialBlock]


def ranked_trials(
    features: Mapping[Modality, Features],
    settings: Sequence[Setting],
    excluded: Exclusion,
    rank: Rank,
    memory_gb: float,
    lengths: bool = False,
) -> Iterator[RankedTrial]:
    """Every trial of every setting, those with the same queries together: what they share is computed once.

    features: of both modalities, on one device; not changed. lengths: rank the vectors as they are, not those of length
    1.
    """
    picked = _take if lengths else _units
    for group in _groups(settings).values():
        setting, _, first = group[0]
        used = np.unique(np.concatenate([trial.gallery for _, _, trial in group]))
        query, gallery = (picked(side, rows) for side, rows in zip(_sides(features, setting), (first.query, used)))
        ranking = rank(query.embeddings, gallery.embeddings, memory_gb)
        for setting, number, trial in group:
            columns = torch.as_tensor(np.searchsorted(used, trial.gallery), device=gallery.pids.device)
            yield RankedTrial(setting, number, _blocks(ranking, query, gallery, columns, excluded))


def evaluate_settings(
    features: Mapping[Modality, Features],
    settings: Sequence[Setting],
    excluded: Exclusion,
    rank: Rank,
    memory_gb: float,
    lengths: bool = False,
) -> dict[str, dict[str, float]]:
    """Mean metrics over its trials, as fractions, of each setting by its protocol's name; arguments as above."""
    results: dict[tuple[str, int], dict[str, float]] = {}
    for setting, number, blocks in ranked_trials(features, settings, excluded, rank, memory_gb, lengths):
        results[setting.protocol, number] = summary(block.scores() for block in blocks)
    return {
        setting.protocol: _mean([results[setting.protocol, number] for number in range(len(setting.trials))])
        for setting in settings
    }


def narrowed(split: Split, protocols: Sequence[str]) -> tuple[Split, dict[Modality, np.ndarray]]:
    """A split of these protocols and of the images that they use; and the rows of those images in the given split."""
    settings = [setting for setting in split.settings if setting.protocol in protocols]
    asked = defaultdict(list)
    for setting in settings:
        for trial in setting.trials:
            asked[setting.query_modality].append(trial.query)
            asked[setting.query_modality.other].append(trial.gallery)
    rows = {modality: np.unique(np.concatenate(asked[modality])) for modality in Modality}

    def renumbered(setting: Setting) -> Setting:
        query, gallery = rows[setting.query_modality], rows[setting.query_modality.other]
        found = [Trial(np.searchsorted(query, t.query), np.searchsorted(gallery, t.gallery)) for t in setting.trials]
        return setting._replace(trials=found)

    visible, infrared = ([split.records[modality][row] for row in rows[modality]] for modality in Modality)
    return Split(visible, infrared, [renumbered(setting) for setting in settings], tuple(protocols)), rows


def chance(features: Mapping[Modality, Features], setting: Setting, excluded: Exclusion) -> float:
    """Rank-1 that a random order would have, as a fraction, mean over the trials."""
    values = []
    for trial in setting.trials:
        query, gallery = (_take(side, rows) for side, rows in zip(_sides(features, setting), trial))
        values.append(chance_rank1(query.pids, gallery.pids, _excluded(query, gallery, excluded)))
    return sum(values) / len(values)


def _groups(settings: Sequence[Setting]) -> dict[tuple[int, bytes], list[tuple[Setting, int, Trial]]]:
    """Trials that have the same queries."""
    groups = defaultdict(list)
    for setting in settings:
        for number, trial in enumerate(setting.trials):
            groups[setting.query_modality, trial.query.tobytes()].append((setting, number, trial))
    return groups


def _blocks(
    ranking: Ranking, query: Features, gallery: Features, columns: Tensor, excluded: Exclusion
) -> Iterator[TrialBlock]:
    pids, cameras = gallery.pids[columns], gallery.cameras[columns]
    for part, distances in ranking(columns):
        skipped = excluded(query.pids[part], query.cameras[part], pids, cameras)
        yield TrialBlock(part, distances, skipped, query.pids[part], pids)


def _sides(features: Mapping[Modality, Features], setting: Setting) -> tuple[Features, Features]:
    return features[setting.query_modality], features[setting.query_modality.other]


def _take(features: Features, rows: np.ndarray) -> Features:
    rows = torch.as_tensor(rows, device=features.embeddings.device)
    return Features(take(features.embeddings, rows, 1), features.pids[rows], features.cameras[rows])


def _units(features: Features, rows: np.ndarray) -> Features:
    """The chosen rows, normalised, spectrum by spectrum: a copy of all would be as large as the result."""
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

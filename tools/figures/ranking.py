"""The trials of a setting, ranked once for all pictures that show a ranking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.retrieval.evaluation import Ranker
from engine.retrieval.metrics import Scores, positions, query_scores
from tools.figures.distance_densities import Pairs
from utils.types import Exclusion, Features, Modality, Setting, Trial


class RankedTrial(NamedTuple):
    """One trial under one ranking: Q queries, G gallery pictures; on the device that ranked."""

    trial: Trial
    distances: Tensor  # [Q, G] float32
    skipped: Tensor  # [Q, G] bool, gallery pictures that a query skips
    same: Tensor  # [Q, G] bool, of one identity
    scores: Scores  # of the queries


class RankedSetting(NamedTuple):
    """A setting under one ranking."""

    setting: Setting
    shown: RankedTrial  # the first trial
    first: list[
        np.ndarray
    ]  # of each trial, [Q] int64: rank of each query's identity, 0 for a query that does not count


def rank_setting(
    features: Mapping[Modality, Features], setting: Setting, excluded: Exclusion, ranker: Ranker, memory_gb: float
) -> RankedSetting:
    """Every trial of a setting, whose queries are the same; all distances are kept of the first one only."""
    trials = ranked_trials(features, setting, excluded, ranker, memory_gb)
    shown = next(trials)
    return RankedSetting(setting, shown, [each.scores.first.cpu().numpy() for each in (shown, *trials)])


def ranked_trials(
    features: Mapping[Modality, Features], setting: Setting, excluded: Exclusion, ranker: Ranker, memory_gb: float
) -> Iterator[RankedTrial]:
    """The trials of a setting in order; what they share is computed once."""
    side = setting.query_modality
    other = Modality.INFRARED if side == Modality.VISIBLE else Modality.VISIBLE
    used = np.unique(np.concatenate([trial.gallery for trial in setting.trials]))
    query, gallery = take(features[side], setting.trials[0].query), take(features[other], used)
    units = (F.normalize(part.embeddings, dim=2) for part in (query, gallery))
    ranking = ranker(*units, memory_gb)
    for trial in setting.trials:
        columns = torch.as_tensor(np.searchsorted(used, trial.gallery), device=gallery.pids.device)
        pids, cameras = gallery.pids[columns], gallery.cameras[columns]
        distances = torch.cat([block for _, block in ranking(columns)])
        skipped = excluded(query.pids, query.cameras, pids, cameras)
        scores = query_scores(distances, query.pids, pids, skipped)
        yield RankedTrial(trial, distances, skipped, query.pids[:, None] == pids, scores)


def take(features: Features, rows: np.ndarray) -> Features:
    """The chosen pictures' features."""
    chosen = torch.as_tensor(rows, device=features.pids.device)
    return Features(features.embeddings[:, chosen], features.pids[chosen], features.cameras[chosen])


def nearest(ranked: RankedTrial, query: int, places: int) -> list[int]:
    """Columns of the gallery images at a query's first places, nearest first; those that it skips are left out."""
    kept = ~ranked.skipped[query : query + 1]
    place = positions(ranked.distances[query : query + 1], kept)[0]
    return place.argsort()[: min(places, int(kept.sum()))].tolist()


class Match(NamedTuple):
    """The first gallery image of a query's identity."""

    column: int  # of the trial's gallery
    rank: int  # among the gallery images that the query does not skip, from 1
    of: int  # how many these are


def first_match(ranked: RankedTrial, query: int) -> Match | None:
    """Where a query's identity is found first; None where the gallery does not hold it."""
    kept = ~ranked.skipped[query : query + 1]
    place = positions(ranked.distances[query : query + 1], kept)[0]
    right = torch.nonzero(kept[0] & ranked.same[query]).flatten()
    if not len(right):
        return None
    column = int(right[place[right].argmin()])
    return Match(column, int(place[column]), int(kept.sum()))


def pairs_of(ranked: RankedTrial) -> Pairs:
    """Distances of all pairs that count."""
    kept = ~ranked.skipped
    return Pairs(*(ranked.distances[kept & kind].cpu().numpy() for kind in (ranked.same, ~ranked.same)))

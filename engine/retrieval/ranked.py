"""The trials of a setting, ranked and kept for whoever looks at single queries: figures, ranked lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.retrieval.evaluation import TrialBlock, ranked_trials
from engine.retrieval.metrics import Scores, positions
from engine.retrieval.rankers import Rank
from utils.types import Exclusion, Features, Modality, Setting, Trial


class KeptTrial(NamedTuple):
    """One trial under one ranker: Q queries, G gallery images; on the device that ranked."""

    trial: Trial
    distances: Tensor  # [Q, G] float32
    skipped: Tensor  # [Q, G] bool, gallery images that a query skips
    same: Tensor  # [Q, G] bool, of one identity
    scores: Scores  # of the queries


class RankedSetting(NamedTuple):
    """A setting under one ranker."""

    setting: Setting
    shown: KeptTrial  # the first trial
    first: list[np.ndarray]  # of each trial, [Q] int64: rank of each query's identity, 0 for one that does not count


def rank_setting(
    features: Mapping[Modality, Features],
    setting: Setting,
    excluded: Exclusion,
    rank: Rank,
    memory_gb: float,
    lengths: bool = False,
) -> RankedSetting:
    """Every trial of a setting; all distances are kept of the first one only. Arguments as for `ranked_trials`."""
    shown, first = None, {}
    for _, number, blocks in ranked_trials(features, [setting], excluded, rank, memory_gb, lengths):
        if number == 0:
            shown = _kept(setting.trials[0], list(blocks))
            scores = [shown.scores]
        else:
            scores = [block.scores() for block in blocks]
        first[number] = torch.cat([part.first for part in scores]).cpu().numpy()
    return RankedSetting(setting, shown, [first[number] for number in range(len(setting.trials))])


def _kept(trial: Trial, blocks: Sequence[TrialBlock]) -> KeptTrial:
    distances = torch.cat([block.distances for block in blocks])
    skipped = torch.cat([block.skipped for block in blocks])
    same = torch.cat([block.query_pids[:, None] == block.gallery_pids for block in blocks])
    scores = Scores(*map(torch.cat, zip(*(block.scores() for block in blocks))))
    return KeptTrial(trial, distances, skipped, same, scores)


def nearest(ranked: KeptTrial, query: int, places: int) -> list[int]:
    """Columns of the gallery images at a query's first places, nearest first; those that it skips are left out."""
    kept = ~ranked.skipped[query : query + 1]
    place = positions(ranked.distances[query : query + 1], kept)[0]
    return place.argsort()[: min(places, int(kept.sum()))].tolist()


class Match(NamedTuple):
    """The first gallery image of a query's identity."""

    column: int  # of the trial's gallery
    rank: int  # among the gallery images that the query does not skip, from 1
    of: int  # how many these are


def first_match(ranked: KeptTrial, query: int) -> Match | None:
    """Where a query's identity is found first; None where the gallery does not hold it."""
    kept = ~ranked.skipped[query : query + 1]
    place = positions(ranked.distances[query : query + 1], kept)[0]
    right = torch.nonzero(kept[0] & ranked.same[query]).flatten()
    if not len(right):
        return None
    column = int(right[place[right].argmin()])
    return Match(column, int(place[column]), int(kept.sum()))


def pairs_of(ranked: KeptTrial) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all pairs that count: [P] float of one identity, [N] float of two."""
    same, different = (ranked.distances[~ranked.skipped & kind] for kind in (ranked.same, ~ranked.same))
    return same.cpu().numpy(), different.cpu().numpy()

"""CMC, mAP and mINP under a data set's exclusion rule (docs/method.md, 6)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.retrieval import cpu_ranking as kernels
from engine.retrieval.distances import Array

RANKS = (1, 5, 10, 20)
METRICS = tuple(f"r{k}" for k in RANKS) + ("mAP", "mINP")
QUERIES_AT_ONCE = 256  # of one thread


class Scores(NamedTuple):
    """How well each of Q queries found its identity; 0 where it has no match."""

    first: Tensor  # [Q] int64: rank of its identity, each gallery identity standing once, at its best position; from 1
    precision: Tensor  # [Q] float64: AP
    penalty: Tensor  # [Q] float64: INP


def ranking_metrics(dist: Array, query_pids: Array, gallery_pids: Array, excluded: Array) -> dict[str, float]:
    """Fractions r1, r5, r10, r20, mAP, mINP of one ranking: [Q, G] float, [Q], [G] int, [Q, G] bool -> floats in 0..1.

    Gallery images where `excluded` is True do not exist for that query; a query without a match left does not count,
    and with no valid query every metric is 0, with a warning. CMC counts identities: each is kept once, at its best
    position. AP is the mean over the matches i = 1.. of i / rank_i; INP is (number of matches) / (rank of the last).
    Ties in distance go to the lower gallery index, and what is not a number is farthest. The arguments are not changed.
    """
    return summary([query_scores(*map(torch.as_tensor, (dist, query_pids, gallery_pids, excluded)))])


def summary(parts: Iterable[Scores]) -> dict[str, float]:
    """The metrics of all queries, whose scores come in parts."""
    first, precision, penalty = map(torch.cat, zip(*parts))
    valid = first > 0
    if not valid.any():
        warnings.warn("no query has a match in its gallery: every metric is 0", stacklevel=3)
        return dict.fromkeys(METRICS, 0.0)
    cmc = [(first[valid] <= k).double().mean() for k in RANKS]
    return dict(zip(METRICS, torch.stack([*cmc, precision[valid].mean(), penalty[valid].mean()]).tolist()))


def query_scores(dist: Tensor, query_pids: Tensor, gallery_pids: Tensor, excluded: Tensor) -> Scores:
    """Scores of every query, each [Q] float64 or int64; arguments as for `ranking_metrics`, all on one device."""
    if not dist.numel():
        nothing = dist.new_zeros(len(dist), dtype=torch.float64)
        return Scores(nothing.long(), nothing, nothing)
    if not kernels.on_cpu(dist):
        return _query_scores(dist, query_pids, gallery_pids, excluded)
    if dist.dtype not in (torch.float32, torch.float64):
        dist = dist.double()
    identities, column = gallery_pids.unique(return_inverse=True)
    own = _position(identities, query_pids)
    arrays = [part.numpy() for part in (dist.detach(), excluded, own)]
    gallery = column.numpy()
    parts = kernels.in_threads(
        lambda start, stop: kernels.rank_queries(*(a[start:stop] for a in arrays), gallery, len(identities)),
        len(dist),
        QUERIES_AT_ONCE,
    )
    return Scores(*(torch.cat([torch.from_numpy(p) for p in part]) for part in zip(*parts)))


def chance_rank1(query_pids: Array, gallery_pids: Array, excluded: Array) -> float:
    """Expected rank-1 of a random order, as a fraction: the mean share of matches in the valid queries' galleries."""
    query_pids, gallery_pids, excluded = map(torch.as_tensor, (query_pids, gallery_pids, excluded))
    matches = ((query_pids[:, None] == gallery_pids[None, :]) & ~excluded).sum(dim=1).double()
    kept = (~excluded).sum(dim=1)
    valid = matches > 0
    return float((matches[valid] / kept[valid]).mean()) if valid.any() else 0.0


def _position(identities: Tensor, pids: Tensor) -> Tensor:
    """The position of each pid [N] among the sorted identities [I], [N] int64; -1 for a foreign one."""
    place = torch.searchsorted(identities, pids.to(identities.dtype).contiguous()).clamp(
        max=max(0, len(identities) - 1)
    )
    known = identities[place] == pids if len(identities) else torch.zeros_like(place, dtype=torch.bool)
    return torch.where(known, place, -1)


def _query_scores(dist: Tensor, query_pids: Tensor, gallery_pids: Tensor, excluded: Tensor) -> Scores:
    """The same by tensor operations: whole rows are sorted."""
    kept = ~excluded
    match = (query_pids[:, None] == gallery_pids[None, :]) & kept
    rank = positions(dist, kept)
    count = match.sum(dim=1)
    first = identity_ranks(rank, match, kept, gallery_pids)
    precision, penalty = average_precision(rank, match, count)
    return Scores(torch.where(count > 0, first, 0), precision, penalty)


def positions(dist: Tensor, kept: Tensor) -> Tensor:
    """Rank of each kept gallery image among the kept ones, from 1: [Q, G] -> [Q, G] int64; more than G elsewhere."""
    order = dist.argsort(dim=1, stable=True)
    ordered = kept.gather(1, order)
    rank = torch.where(ordered, ordered.cumsum(dim=1), dist.shape[1] + 1)
    return torch.empty_like(order).scatter_(1, order, rank)


def identity_ranks(rank: Tensor, match: Tensor, kept: Tensor, gallery_pids: Tensor) -> Tensor:
    """Rank of each query's identity when every gallery identity counts once, at its best position: [Q] int64."""
    identities, column = gallery_pids.unique(return_inverse=True)
    absent = rank.shape[1] + 1
    best = rank.new_full((len(rank), len(identities)), absent)
    best.scatter_reduce_(1, column.expand_as(rank), torch.where(kept, rank, absent), "amin")
    own = torch.where(match, rank, absent).amin(dim=1, keepdim=True)
    return (best <= own).sum(dim=1)


def average_precision(rank: Tensor, match: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """(AP [Q], INP [Q]) float64 from the ranks of the matches and their number; 0 for a query without matches."""
    most = max(1, int(count.max()))
    hits = torch.where(match, rank, rank.shape[1] + 1).topk(most, dim=1, largest=False).values.sort(dim=1).values
    order = torch.arange(1, most + 1, device=rank.device)
    present = order <= count[:, None]
    precision = torch.where(present, order.double() / hits, 0).sum(dim=1) / count.clamp(min=1)
    return precision, count.double() / torch.where(present, hits, 0).amax(dim=1).clamp(min=1)

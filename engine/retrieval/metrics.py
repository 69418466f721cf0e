"""CMC, mAP and mINP under a data set's exclusion rule (docs/method.md, 6)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from engine.retrieval.distances import Array

RANKS = (1, 5, 10, 20)
METRICS = tuple(f"r{k}" for k in RANKS) + ("mAP", "mINP")


def ranking_metrics(dist: Array, query_pids: Array, gallery_pids: Array, excluded: Array) -> dict[str, float]:
    """Fractions r1, r5, r10, r20, mAP, mINP of one ranking: [Q, G] float, [Q], [G] int, [Q, G] bool -> floats in 0..1.

    Gallery pictures where `excluded` is True do not exist for that query; a query without a match left does not count,
    and with no valid query every metric is 0, with a warning. CMC counts identities: each is kept once, at its best position. AP is the
    mean over the matches i = 1.. of i / rank_i; INP is (number of matches) / (rank of the last). Ties in distance go to
    the lower gallery index. The arguments are not changed.
    """
    dist, query_pids, gallery_pids, excluded = map(torch.as_tensor, (dist, query_pids, gallery_pids, excluded))
    match = (query_pids[:, None] == gallery_pids[None, :]) & ~excluded
    valid = match.any(dim=1)
    if not valid.any():
        warnings.warn("no query has a match in its gallery: every metric is 0", stacklevel=2)
        return dict.fromkeys(METRICS, 0.0)
    dist, match, kept = dist[valid], match[valid], ~excluded[valid]
    rank = positions(dist, kept)
    first = identity_ranks(rank, match, kept, gallery_pids)
    precision, penalty = average_precision(rank, match)
    values = [(first <= k).double().mean() for k in RANKS] + [precision.mean(), penalty.mean()]
    return dict(zip(METRICS, torch.stack(values).tolist()))


def positions(dist: Tensor, kept: Tensor) -> Tensor:
    """Rank of each kept gallery picture among the kept ones, from 1: [Q, G] -> [Q, G] int64; more than G elsewhere."""
    order = dist.argsort(dim=1, stable=True)
    ordered = kept.gather(1, order)
    rank = torch.where(ordered, ordered.cumsum(dim=1), dist.shape[1] + 1)
    return torch.empty_like(order).scatter_(1, order, rank)


def identity_ranks(rank: Tensor, match: Tensor, kept: Tensor, gallery_pids: Tensor) -> Tensor:
    """Rank of each query's identity when every gallery identity stands once, at its best position: [Q] int64."""
    identities, column = gallery_pids.unique(return_inverse=True)
    absent = rank.shape[1] + 1
    best = rank.new_full((len(rank), len(identities)), absent)
    best.scatter_reduce_(1, column.expand_as(rank), torch.where(kept, rank, absent), "amin")
    own = torch.where(match, rank, absent).amin(dim=1, keepdim=True)
    return (best <= own).sum(dim=1)


def average_precision(rank: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    """(AP [Q], INP [Q]) float64 from the ranks of the matches; every query must have one."""
    count = match.sum(dim=1)
    most = int(count.max())
    hits = torch.where(match, rank, rank.shape[1] + 1).topk(most, dim=1, largest=False).values.sort(dim=1).values
    order = torch.arange(1, most + 1, device=rank.device)
    present = order <= count[:, None]
    precision = torch.where(present, order.double() / hits, 0).sum(dim=1) / count
    return precision, count.double() / torch.where(present, hits, 0).amax(dim=1)


def chance_rank1(query_pids: Array, gallery_pids: Array, excluded: Array) -> float:
    """Expected rank-1 of a random order, as a fraction: the mean share of matches in the valid queries' galleries."""
    query_pids, gallery_pids, excluded = map(torch.as_tensor, (query_pids, gallery_pids, excluded))
    matches = ((query_pids[:, None] == gallery_pids[None, :]) & ~excluded).sum(dim=1).double()
    kept = (~excluded).sum(dim=1)
    valid = matches > 0
    return float((matches[valid] / kept[valid]).mean()) if valid.any() else 0.0

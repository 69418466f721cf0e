"""k-reciprocal re-ranking of the original spectrum (Zhong et al., CVPR 2017), as a reference beside MSER."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from engine.retrieval.distances import MEMORY_GB, Array, blocks, take
from engine.retrieval.neighbours import Neighbours, Pairs, contains, neighbours, reciprocal_pairs
from engine.retrieval.reranking import CrossDistances, Ranking, expansion_sources, final_distances, split, weights_of
from engine.retrieval.sparse import Rows, ranges


class KReciprocalDefaults(NamedTuple):
    """The parameters that its authors publish."""

    k1: int = 20
    k2: int = 6
    lam: float = 0.3


def k_reciprocal_distance(
    query: Array, gallery: Array, k1: int = 20, k2: int = 6, lam: float = 0.3, memory_gb: float = MEMORY_GB
) -> Tensor:
    """Re-ranked distances, [Q, D], [G, D] float with L2-normalised rows -> [Q, G] in 0..1.

    The neighbours of an image are its k1 + 1 nearest among all queries and gallery images, itself included; its
    reciprocal set grows by the sets, of half the size, of its members that share more than two thirds with it. Ties go
    to the lower index, queries first. memory_gb: what the computation may hold beside its arguments and its result.
    """
    query, gallery = (torch.as_tensor(side).detach() for side in (query, gallery))
    ranking = k_reciprocal_ranking(query[None], gallery[None], KReciprocalDefaults(k1, k2, lam), memory_gb)
    return torch.cat([distances for _, distances in ranking(torch.arange(len(gallery), device=gallery.device))])


def k_reciprocal_ranking(query: Tensor, gallery: Tensor, parameters: KReciprocalDefaults, memory_gb: float) -> Ranking:
    """The same for any part of a gallery; of [V, N, D] only the first spectrum counts."""
    return lambda columns: _rank(query[:1], take(gallery[:1], columns, 1), parameters, memory_gb)


def _rank(
    query: Tensor, gallery: Tensor, parameters: KReciprocalDefaults, memory_gb: float
) -> Iterator[tuple[slice, Tensor]]:
    k1, k2, lam = parameters
    nodes = torch.cat([query[0], gallery[0]])
    near = neighbours(nodes, max(k1 + 1, k2), memory_gb)
    weights = weights_of(expanded_pairs(nodes, near, k1, memory_gb), near.farthest)
    expansion = split(expansion_sources(near, k2), query.shape[1], 1)
    cross, farthest = CrossDistances(query[0], gallery, memory_gb), near.farthest[: query.shape[1]]
    everything = torch.arange(gallery.shape[1], device=gallery.device)
    return final_distances(weights, expansion, cross, everything, farthest, 1, lam, memory_gb)


def expanded_pairs(nodes: Tensor, near: Neighbours, k1: int, memory_gb: float) -> Pairs:
    """Reciprocal pairs of the k1 + 1 nearest, each set R(i) joined by the smaller sets of its members that fit it.

    The smaller set R'(j) of a member j is that of the round(k1 / 2) + 1 nearest; it joins where more than two thirds of
    it are in R(i).
    """
    count = len(nodes)
    full, half = reciprocal_pairs(near, k1 + 1), reciprocal_pairs(near, round(k1 / 2) + 1)
    keys = full.rows * count + full.columns
    halves = Rows.of(half.rows.bincount(minlength=count), half.columns, half.distances, count)
    sizes = halves.bounds.diff()
    added = []
    for part in blocks(len(keys), 8 * (k1 + 1), memory_gb):
        rows, members = full.rows[part], full.columns[part]
        entries, owner = ranges(halves.bounds[members], sizes[members], int(sizes[members].sum()))
        candidates = rows[owner] * count + halves.columns[entries]
        inside = contains(keys, candidates)
        shared = torch.zeros_like(rows).index_add_(0, owner, inside.long())
        fits = 3 * shared > 2 * sizes[members]
        added.append(candidates[fits[owner] & ~inside].unique())
    return _join(nodes, full, keys, torch.cat(added).unique(), memory_gb)


def _join(nodes: Tensor, full: Pairs, keys: Tensor, added: Tensor, memory_gb: float) -> Pairs:
    """All pairs, sorted; the added ones are no neighbours, so their distances are computed one by one."""
    rows, columns = added // len(nodes), added % len(nodes)
    distances = [
        (nodes[rows[part]] - nodes[columns[part]]).square().sum(dim=1)
        for part in blocks(len(added), 2 * nodes.shape[1], memory_gb)
    ]
    keys, order = torch.cat([keys, added]).sort()
    return Pairs(keys // len(nodes), keys % len(nodes), torch.cat([full.distances, *distances])[order])

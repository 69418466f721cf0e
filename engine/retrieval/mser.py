"""Multi-Spectral Enhanced Ranking: k-reciprocal re-ranking over spectra (MCJA paper; docs/method.md, 6)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.retrieval.distances import MEMORY_GB, Array, take
from engine.retrieval.neighbours import neighbours, reciprocal_pairs
from engine.retrieval.reranking import (
    CrossDistances,
    Expansion,
    Ranking,
    expansion_sources,
    final_distances,
    split,
    survey,
    weights_of,
)
from utils.types import MserDefaults


def mser_distance(
    query: Array, gallery: Array, k1: int, k2: int, lam: float, queries_only: bool, memory_gb: float = MEMORY_GB
) -> Tensor:
    """Re-ranked distances, [Vq, Q, D], [Vg, G, D] float with L2-normalised rows -> [Q, G] in 0..1.

    Vq > 1 holds the spectra of visible queries (visible-to-infrared), Vg > 1 those of visible gallery images
    (infrared-to-visible); the result is the mean over them. queries_only: only queries may be neighbours. Ties go to
    the lower index in the order queries, gallery, spectrum by spectrum. memory_gb: what the computation may hold beside
    its arguments and its result. Raises ValueError when both have spectra.
    """
    query, gallery = (torch.as_tensor(side).detach() for side in (query, gallery))
    ranking = mser_ranking(query, gallery, MserDefaults(k1, k2, lam, queries_only), memory_gb)
    return torch.cat([distances for _, distances in ranking(torch.arange(gallery.shape[1], device=gallery.device))])


def mser_ranking(query: Tensor, gallery: Tensor, parameters: MserDefaults, memory_gb: float) -> Ranking:
    """The re-ranking of one set of queries against any part of a gallery; arguments as for `mser_distance`.

    With `queries_only`, all that a trial's gallery does not change (neighbours, reciprocal pairs, distances) is
    computed here, once; else each trial starts from the embeddings.
    """
    if len(query) > 1 and len(gallery) > 1:
        raise ValueError(f"only one side is visible, but there are {len(query)} and {len(gallery)} spectra")
    if parameters.queries_only:
        return _among_queries(query, gallery, parameters, memory_gb)
    return lambda columns: _among_all(query, gallery, columns, parameters, memory_gb)


def _among_queries(query: Tensor, gallery: Tensor, parameters: MserDefaults, memory_gb: float) -> Ranking:
    k1, k2, lam, _ = parameters
    queries = query.flatten(0, 1)
    own = neighbours(queries, max(k1 + 1, k2), memory_gb)
    pairs = reciprocal_pairs(own, k1 + 1)
    cross, near = survey(queries, gallery, k2, memory_gb)
    expanded = expansion_sources(own, k2)
    # Without expansion an image's row of V' is its row of V, and a gallery image, being nobody's neighbour, has none.
    near = near if k2 > 1 else near[..., :0]

    def ranking(columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
        farthest = torch.maximum(own.farthest, cross.farthest(columns))
        expansion = Expansion(expanded, take(near, columns, 1))
        weights = weights_of(pairs, farthest)
        return final_distances(weights, expansion, cross, columns, farthest, len(query), lam, memory_gb)

    return ranking


def _among_all(
    query: Tensor, gallery: Tensor, columns: Tensor, parameters: MserDefaults, memory_gb: float
) -> Iterator[tuple[slice, Tensor]]:
    k1, k2, lam, _ = parameters
    queries, gallery = query.flatten(0, 1), take(gallery, columns, 1)
    nodes = torch.cat([queries, gallery.flatten(0, 1)])
    near = neighbours(nodes, max(k1 + 1, k2), memory_gb)
    weights = weights_of(reciprocal_pairs(near, k1 + 1), near.farthest)
    expansion = split(expansion_sources(near, k2), len(queries), len(gallery))
    cross, farthest = CrossDistances(queries, gallery, memory_gb), near.farthest[: len(queries)]
    everything = torch.arange(gallery.shape[1], device=gallery.device)
    return final_distances(weights, expansion, cross, everything, farthest, len(query), lam, memory_gb)

"""Distances of the original spectrum: cosine, with which every other ranking is compared, and inner products."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from engine.retrieval.distances import (
    RESULT_SHARE,
    blocks,
    cosine_distances,
    inner_distances,
    may_keep,
    take,
    take_columns,
)
from engine.retrieval.reranking import Ranking


def cosine_ranking(query: Tensor, gallery: Tensor, memory_gb: float) -> Ranking:
    """The ranking of any part of a gallery: [Vq, Q, D], [Vg, N, D] float with L2-normalised rows.

    Of the spectra only the first counts. memory_gb: what the distances may hold beside the embeddings.
    """
    return _ranking(cosine_distances, query[0], gallery[0], memory_gb)


def inner_ranking(query: Tensor, gallery: Tensor, memory_gb: float) -> Ranking:
    """The same by inner products, of rows at their own lengths."""
    return _ranking(inner_distances, query[0], gallery[0], memory_gb)


def _ranking(between: Callable[[Tensor, Tensor], Tensor], query: Tensor, gallery: Tensor, memory_gb: float) -> Ranking:
    kept = between(query, gallery) if may_keep(len(query) * len(gallery), memory_gb) else None

    def ranking(columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
        chosen = take(gallery, columns, 0) if kept is None else None
        for part in blocks(len(query), len(columns), memory_gb, RESULT_SHARE):
            yield part, between(query[part], chosen) if kept is None else take_columns(kept[part], columns)

    return ranking

"""Nearest vectors of a gallery, for a few queries: exact over any number of rows, or by an index that skips most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from engine.gallery.folder import VECTORS, Gallery, require_unit
from engine.gallery.inverted_lists import InvertedLists
from engine.retrieval.k_reciprocal import KReciprocalDefaults, k_reciprocal_distance
from utils.errors import UserError

BLOCK_BYTES = 2**27  # of gallery vectors that are multiplied at once
QUERIES_AT_ONCE = 64
RESCORED = 4096  # rows whose products are computed in float64 at a time
EPSILON = 2.0**-24  # relative rounding of float32
CANDIDATES = 100  # so many of the nearest images are re-ranked among themselves, where a person searches
NOTHING = -1  # the row of a place that no image has


class Found(NamedTuple):
    """The first images of Q queries, best first; equal scores go to the lower row.

    Where a query has fewer than K, the last rows are -1 and their scores are -inf.
    """

    rows: np.ndarray  # [Q, K] int64, rows of the gallery
    scores: np.ndarray  # [Q, K] float64, cosines
    vectors: np.ndarray | None = None  # [Q, K, D] float32 where the index gives them; else they are the gallery's

    def candidates(self, query: int, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One query's rows and their vectors, [k] int64 and [k, D] float32, k <= K. vectors: the gallery's, [N, D]."""
        there = self.rows[query] != NOTHING
        rows = self.rows[query][there]
        return rows, vectors[rows] if self.vectors is None else self.vectors[query][there]


class Index(Protocol):
    """What searches a gallery, whatever it stands on."""

    def search(self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None) -> Found:
        """The first `count` rows of each query, [Q, D] float32 of unit length. allowed: [N] bool, what may be found."""


def exact(queries: np.ndarray, vectors: np.ndarray, count: int, allowed: np.ndarray | None = None) -> Found:
    """The `count` rows of largest inner product, [Q, D], [N, D] float32 of unit length -> [Q, count].

    vectors are read by blocks, so a memory map of any length takes the same memory. allowed: [N] bool, the rows that
    may be found; None for all. Float32 products choose the candidates, with room for their rounding, and float64 orders
    them: equal vectors tie wherever they lie, and a query finds the same alone and among others. Raises ValueError for
    shapes that do not fit, and UserError for a row of the gallery that is not finite, or that was found and is not of
    unit length.
    """
    if queries.ndim != 2 or vectors.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries {queries.shape} and vectors {vectors.shape} must be [Q, D] and [N, D]")
    if allowed is not None and allowed.shape != (len(vectors),):
        raise ValueError(f"allowed has shape {allowed.shape}; there are {len(vectors)} rows")
    found = nothing(len(queries), count)
    if count:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            _fill(Found(found.rows[part], found.scores[part]), queries[part], vectors, allowed)
    return found


def nothing(queries: int, count: int) -> Found:
    """No image for any of so many queries."""
    return Found(np.full((queries, count), NOTHING), np.full((queries, count), -np.inf))


def rescored(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray, count: int) -> Found:
    """The best `count` of the rows that were found, [Q, C] int64, -1 for none: by cosines in float64, then by row."""
    found = nothing(len(queries), count)
    for query, candidates in enumerate(rows):
        _merge(found, query, candidates[candidates != NOTHING], queries, vectors)
    return found


def _fill(found: Found, queries: np.ndarray, vectors: np.ndarray, allowed: np.ndarray | None) -> None:
    """`exact` for so few queries that their products with a block are small; writes into `found`."""
    count, width = found.rows.shape[1], vectors.shape[1]
    rounding = 2 * (width + 1) * EPSILON  # between two products of unit vectors that are equal
    step = max(1, BLOCK_BYTES // (4 * max(1, width)))
    for start in range(0, len(vectors), step):
        passed = slice(None) if allowed is None else np.flatnonzero(allowed[start : start + step])
        if isinstance(passed, np.ndarray) and not len(passed):
            continue
        products = queries @ vectors[start : start + step].T
        if not np.isfinite(products).all():
            row = start + int(np.isfinite(products).all(axis=0).argmin())
            raise UserError(f"row {row} of {VECTORS} has a vector that is not finite; embed the images again")
        numbers = np.arange(start, start + products.shape[1])[passed]
        for query, values in enumerate(products[:, passed]):
            near = np.flatnonzero(values >= found.scores[query, -1] - rounding)
            if len(near) > count:
                least = np.partition(values[near], -count)[-count]
                near = near[values[near] >= least - rounding]
            _merge(found, query, numbers[near], queries, vectors)


def _merge(found: Found, query: int, rows: np.ndarray, queries: np.ndarray, vectors: np.ndarray) -> None:
    """Put these rows among those that the query has found, as far as they are good enough."""
    if not len(rows):
        return
    scores = []
    for start in range(0, len(rows), RESCORED):
        part = rows[start : start + RESCORED]
        own = vectors[part]
        require_unit(own, part)
        scores.append((own.astype(np.float64) * queries[query]).sum(axis=1))
    rows, cosines = np.concatenate([found.rows[query], rows]), np.concatenate([found.scores[query], *scores])
    order = np.lexsort((rows, -cosines))[: found.rows.shape[1]]
    found.rows[query], found.scores[query] = rows[order], cosines[order]


def without(found: Found, own: Sequence[np.ndarray], count: int) -> Found:
    """The first `count` images that are not the query's own rows. own: rows that each query skips, such as itself."""
    rows, scores = nothing(len(found.rows), count)[:2]
    vectors = None if found.vectors is None else np.zeros((*rows.shape, found.vectors.shape[2]), dtype=np.float32)
    for query, left_out in enumerate(own):
        kept = np.flatnonzero(~np.isin(found.rows[query], left_out))[:count]
        rows[query, : len(kept)], scores[query, : len(kept)] = found.rows[query, kept], found.scores[query, kept]
        if vectors is not None:
            vectors[query, : len(kept)] = found.vectors[query, kept]
    return Found(rows, scores, vectors)


def recall(found: Found, truth: Found) -> float:
    """The share of the images of an exact search that `found` has too, 0..1; 1 where there is none."""
    hits = [np.isin(right[right != NOTHING], rows) for right, rows in zip(truth.rows, found.rows)]
    together = np.concatenate([*hits, np.empty(0, dtype=bool)])
    return float(together.mean()) if len(together) else 1.0


def reranked(query: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k-reciprocal re-ranking of a query's first images among themselves, [D], [K, D] float32 of unit length.

    Returns the new order of the candidates, [K] int64, and their distances in that order, [K] float32 in 0..1. k1, k2
    and lambda are the published ones; with fewer than 2 k1 candidates, k1 is half of them, since a neighbourhood that
    holds all candidates tells none from another, and k2 is at most k1.
    """
    if not len(candidates):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    published = KReciprocalDefaults()
    k1 = min(published.k1, max(1, len(candidates) // 2))
    near, far = (np.array(side, dtype=np.float32) for side in (query[None], candidates))
    (distances,) = k_reciprocal_distance(near, far, k1, min(published.k2, k1), published.lam).numpy()
    order = np.argsort(distances, kind="stable")
    return order, distances[order]


class ExactIndex:
    """Exact search over the gallery's own file."""

    def __init__(self, gallery: Gallery):
        self.vectors = gallery.vectors

    def search(self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None) -> Found:
        """See `exact`."""
        return exact(queries, self.vectors, count, allowed)


class FaissIndex:
    """Search in a few of faiss's lists; cosines are computed from the gallery's own file."""

    def __init__(self, gallery: Gallery):
        self.vectors, self.lists = gallery.vectors, InvertedLists(gallery)

    def search(self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None) -> Found:
        """As `exact`, but some of the nearest may be missing; `recall` says how many."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        return rescored(queries, self.vectors, self.lists.rows(queries, count, allowed), count)


INDEXES: Mapping[str, Callable[[Gallery], Index]] = {"exact": ExactIndex, "faiss": FaissIndex}

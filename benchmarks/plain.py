"""Ranking the way it is usually written: each trial from the embeddings, N x N matrices, loops over queries. NumPy.

Computes in the type of its arguments; what `tests/reference.py` defines, at a size that a day has time for.
"""

from __future__ import annotations

import numpy as np


def cosine(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """[Vq, Q, D], [Vg, G, D], normalised -> [Q, G]."""
    return 1 - query[0] @ gallery[0].T


def squared(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    lengths = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None]
    return np.maximum(lengths - 2 * left @ right.T, 0)


def mser(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lam: float, queries_only: bool) -> np.ndarray:
    """Multi-Spectral Enhanced Ranking, [Vq, Q, D], [Vg, G, D] -> [Q, G]."""
    nodes = np.concatenate([*query, *gallery])
    queries = query.shape[0] * query.shape[1]
    dist = squared(nodes, nodes)
    order = np.argsort(dist[:, :queries] if queries_only else dist, axis=1, kind="stable")[:, : max(k1 + 1, k2)]
    weights = reciprocal_weights(dist / dist.max(axis=1, keepdims=True), order[:, : k1 + 1])
    if k2 > 1:
        weights = np.stack([weights[row].mean(axis=0) for row in order[:, :k2]])
    scaled = dist[:queries, queries:] / dist[:queries].max(axis=1, keepdims=True)
    final = (1 - lam) * jaccard(weights[:queries], weights[queries:]) + lam * scaled
    return final.reshape(len(query), query.shape[1], len(gallery), gallery.shape[1]).mean(axis=(0, 2))


def reciprocal_weights(scaled: np.ndarray, near: np.ndarray) -> np.ndarray:
    weights = np.zeros_like(scaled)
    for i, row in enumerate(near):
        mutual = row[(near[row] == i).any(axis=1)]
        if len(mutual):
            values = np.exp(-scaled[i, mutual])
            weights[i, mutual] = values / values.sum()
    return weights


def jaccard(queries: np.ndarray, galleries: np.ndarray) -> np.ndarray:
    holders = [np.flatnonzero(column) for column in galleries.T]
    out = np.empty((len(queries), len(galleries)), queries.dtype)
    for i, row in enumerate(queries):
        shared = np.zeros(len(galleries), queries.dtype)
        for column in np.flatnonzero(row):
            rows = holders[column]
            shared[rows] += np.minimum(row[column], galleries[rows, column])
        out[i] = 1 - shared / (2 - shared)
    return out


def metrics(
    dist: np.ndarray, query_pids: np.ndarray, gallery_pids: np.ndarray, excluded: np.ndarray
) -> dict[str, float]:
    """CMC over identities, mAP and mINP of one trial."""
    first, precisions, penalties = [], [], []
    for row, pid, out in zip(dist, query_pids, excluded):
        order = np.argsort(row, kind="stable")
        pids = gallery_pids[order[~out[order]]]
        places = np.flatnonzero(pids == pid) + 1
        if len(places):
            first.append(len(np.unique(pids[: places[0]])))
            precisions.append((np.arange(1, len(places) + 1) / places).mean())
            penalties.append(len(places) / places[-1])
    cmc = {f"r{k}": float(np.mean(np.array(first) <= k)) for k in (1, 5, 10, 20)}
    return {**cmc, "mAP": float(np.mean(precisions)), "mINP": float(np.mean(penalties))}

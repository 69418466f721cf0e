"""Multi-Spectral Enhanced Ranking: k-reciprocal re-ranking over spectra (MCJA paper; docs/method.md, 6)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.retrieval.distances import Array, squared_distances

ENTRIES_AT_ONCE = 2**25  # of a block of distances


def mser_distance(query: Array, gallery: Array, k1: int, k2: int, lam: float, queries_only: bool) -> Tensor:
    """Re-ranked distances, [Vq, Q, D], [Vg, G, D] float with L2-normalised rows -> [Q, G] in 0..1.

    Vq > 1 holds the spectra of visible queries (visible-to-infrared), Vg > 1 those of visible gallery pictures
    (infrared-to-visible); the result is the mean over them. queries_only: only queries may be neighbours. Ties go to
    the lower index in the order queries, gallery, spectrum by spectrum. Raises ValueError when both have spectra.
    """
    query, gallery = torch.as_tensor(query), torch.as_tensor(gallery)
    if len(query) > 1 and len(gallery) > 1:
        raise ValueError(f"only one side is visible, but there are {len(query)} and {len(gallery)} spectra")
    queries, galleries = query.flatten(0, 1), gallery.flatten(0, 1)
    nodes = torch.cat([queries, galleries])
    candidates = queries if queries_only else nodes
    encoded = expand(nodes, candidates, reciprocal_weights(candidates, nodes, k1), k2)
    similarity = shared_weight(encoded[: len(queries)], encoded[len(queries) :])
    jaccard = 1 - similarity / (2 - similarity)
    scaled = squared_distances(queries, galleries) / row_maxima(queries, nodes)[:, None]
    final = (1 - lam) * jaccard + lam * scaled
    return final.view(len(query), query.shape[1], len(gallery), gallery.shape[1]).mean(dim=(0, 2))


def reciprocal_weights(candidates: Tensor, nodes: Tensor, k1: int) -> Tensor:
    """V: weights of each candidate's reciprocal neighbours among the candidates, rows summing to 1 (or 0): [C, C].

    exp(-distance / the row's largest distance to any node) over j that are among the k1 + 1 nearest of i and have i
    among theirs.
    """
    near = torch.zeros(len(candidates), len(candidates), dtype=torch.bool, device=nodes.device)
    weights = torch.zeros_like(near, dtype=nodes.dtype)
    for rows in blocks(len(candidates), len(candidates)):
        distances = squared_distances(candidates[rows], candidates)
        neighbours = nearest(distances, k1 + 1)
        near[rows] = near[rows].scatter(1, neighbours, True)
        maxima = row_maxima(candidates[rows], nodes)[:, None]
        weights[rows] = torch.exp(-distances / maxima)
    weights *= near & near.T
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def expand(nodes: Tensor, candidates: Tensor, weights: Tensor, k2: int) -> Tensor:
    """V': each node's mean of V over its k2 nearest candidates, [N, C]; k2 = 1 leaves V as it is.

    Nodes that are no candidates have an empty row in V.
    """
    if k2 == 1:
        return torch.cat([weights, weights.new_zeros(len(nodes) - len(weights), weights.shape[1])])
    encoded = weights.new_zeros(len(nodes), weights.shape[1])
    for rows in blocks(len(nodes), len(candidates)):
        neighbours = nearest(squared_distances(nodes[rows], candidates), k2)
        encoded[rows] = sum(weights[column] for column in neighbours.T) / neighbours.shape[1]
    return encoded


def shared_weight(queries: Tensor, galleries: Tensor) -> Tensor:
    """Sum over columns of the smaller weight, [Q, C], [G, C] -> [Q, G], over the columns that a query has."""
    by_column = galleries.T.contiguous()
    shared = [
        torch.minimum(by_column[columns], row[columns, None]).sum(dim=0)
        for row in queries
        for columns in (row.nonzero()[:, 0],)
    ]
    return torch.stack(shared)


def nearest(distances: Tensor, k: int) -> Tensor:
    """Columns of the k smallest entries of each row, [R, C] -> [R, min(k, C)] int64; ties go to the lower column.

    The order within a row is not defined.
    """
    k = min(k, distances.shape[1])
    values, columns = distances.topk(k, dim=1, largest=False)
    # topk may keep any of the entries that tie at the boundary: such rows are sorted in full.
    tied = (distances <= values[:, -1:]).sum(dim=1) > k
    if tied.any():
        columns[tied] = distances[tied].argsort(dim=1, stable=True)[:, :k]
    return columns


def row_maxima(rows: Tensor, nodes: Tensor) -> Tensor:
    """Each row's largest squared distance to any node, [R] > 0."""
    parts = [squared_distances(rows[part], nodes).amax(dim=1) for part in blocks(len(rows), len(nodes))]
    return torch.cat(parts).clamp(min=torch.finfo(rows.dtype).tiny)


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows such that a block of distances to all columns stays small."""
    size = max(1, ENTRIES_AT_ONCE // max(1, columns))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))

"""Distances between rows of embeddings, a block at a time if the whole would be too large."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.retrieval import cpu_ranking as kernels

Array = Tensor | np.ndarray

MEMORY_GB = 1.0
BLOCK_SHARE = 1 / 64  # of the memory, for one block of numbers: several live at a time
RESULT_SHARE = 1 / 8  # for the finished distances of some queries
KEPT_SHARE = 1 / 2
ROWS_AT_ONCE = 256  # of one thread


def cosine_distances(query: Array, gallery: Array) -> Tensor:
    """1 - cosine similarity, [Q, D], [G, D] float -> [Q, G] in 0..2; rows need not be normalised."""
    query, gallery = (F.normalize(torch.as_tensor(rows), dim=1) for rows in (query, gallery))
    return (query @ gallery.T).neg_().add_(1)


def inner_distances(query: Tensor, gallery: Tensor) -> Tensor:
    """Inner products below 0, [Q, D], [G, D] float -> [Q, G], so that the largest product is nearest."""
    return (query @ gallery.T).neg_()


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Squared Euclidean distances, [N, D], [M, D] float -> [N, M], never below 0."""
    distances = torch.addmm(right.square().sum(dim=1), left, right.T, alpha=-2)
    return distances.add_(left.square().sum(dim=1)[:, None]).clamp_(min=0)


def blocks(rows: int, columns: int, memory_gb: float, share: float = BLOCK_SHARE) -> Iterator[slice]:
    """Slices of the rows so that a float32 block of all columns takes its share of the memory, one row at least."""
    size = max(1, int(share * memory_gb * 2**30 / 4) // max(1, columns))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def tile_side(memory_gb: float) -> int:
    """Columns for which `blocks` gives as many rows."""
    return max(1, int((BLOCK_SHARE * memory_gb * 2**30 / 4) ** 0.5))


def may_keep(entries: int, memory_gb: float) -> bool:
    """Whether this many float32 numbers may be held during the whole ranking."""
    return 4 * entries <= KEPT_SHARE * memory_gb * 2**30


def take(rows: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """The chosen [G] int64 indices of dimension `dim`; the tensor itself if they are all of them in order."""
    if _all_in_order(chosen, rows.shape[dim]):
        return rows
    return rows.index_select(dim, chosen)


def take_columns(matrix: Tensor, chosen: Tensor) -> Tensor:
    """The chosen columns, [R, N], [G] int64 -> [R, G]; the matrix itself where they are all of them in order."""
    if _all_in_order(chosen, matrix.shape[1]):
        return matrix
    if not kernels.on_cpu(matrix):
        return matrix.index_select(1, chosen)
    out = matrix.new_empty(len(matrix), len(chosen))
    result, rows, columns = out.numpy(), matrix.numpy(), chosen.numpy()
    kernels.each_range(
        lambda start, stop: kernels.take_columns(result[start:stop], rows[start:stop], columns), len(rows), ROWS_AT_ONCE
    )
    return out


def _all_in_order(chosen: Tensor, count: int) -> bool:
    return len(chosen) == count and torch.equal(chosen, torch.arange(count, device=chosen.device))

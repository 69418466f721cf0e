"""Nearest neighbours and reciprocal neighbours, exact, ties going to the lower index."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engine.retrieval.distances import blocks, squared_distances, tile_side


class Neighbours(NamedTuple):
    """The k nearest candidates of R nodes, the nearest first, and how far the farthest candidate is."""

    columns: Tensor  # [R, k] int64
    distances: Tensor  # [R, k] float, squared Euclidean
    farthest: Tensor  # [R] float


class Pairs(NamedTuple):
    """Pairs (row, column), each once, sorted by row and then by column."""

    rows: Tensor  # [E] int64
    columns: Tensor  # [E] int64
    distances: Tensor  # [E] float, squared Euclidean


def neighbours(nodes: Tensor, k: int, memory_gb: float) -> Neighbours:
    """The min(k, N) nearest nodes of every node, itself included, [N, D] float; never holds the [N, N] distances.

    The matrix is symmetric: each tile of it serves its rows and, turned, its columns.
    """
    parts = list(blocks(len(nodes), tile_side(memory_gb), memory_gb))
    found: list[Neighbours | None] = [None] * len(parts)
    for i, rows in enumerate(parts):
        for j in range(i, len(parts)):
            tile = squared_distances(nodes[rows], nodes[parts[j]])
            found[i] = _merge(found[i], tile, parts[j].start, k)
            if i != j:
                found[j] = _merge(found[j], tile.T.contiguous(), rows.start, k)
    return Neighbours(*map(torch.cat, zip(*found)))


def _merge(found: Neighbours | None, distances: Tensor, start: int, k: int) -> Neighbours:
    """The nearest of those found and of the nodes `start`, `start` + 1, ..., which come after them."""
    columns, values = nearest(distances, k)
    tile = Neighbours(columns + start, values, distances.amax(dim=1))
    if found is None:
        return tile
    columns, values = (torch.cat(pair, dim=1) for pair in list(zip(found, tile))[:2])
    values, order = values.sort(dim=1, stable=True)
    farthest = torch.maximum(found.farthest, tile.farthest)
    return Neighbours(columns.gather(1, order)[:, :k], values[:, :k], farthest)


def nearest(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(columns int64, values) of each row's k smallest entries, [R, C] -> [R, min(k, C)], by value, then column."""
    count = distances.shape[1]
    k = min(k, count)
    values, columns = distances.topk(min(k + 1, count), dim=1, largest=False)
    if k < count:
        # topk may keep any of the entries that tie at the boundary: there, the first ones are taken.
        tied = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
        values, columns = values[:, :k], columns[:, :k]
        if len(tied):
            columns[tied] = _first_of_the_smallest(distances[tied], values[tied, -1:], k)
    columns = columns.sort(dim=1).values
    values, order = distances.gather(1, columns).sort(dim=1, stable=True)
    return columns.gather(1, order), values


def reciprocal_pairs(near: Neighbours, k: int) -> Pairs:
    """Pairs (i, j) of candidates that are among each other's k nearest. near: of the candidates among themselves."""
    count = len(near.columns)
    columns = near.columns[:, :k]
    rows = torch.arange(count, device=columns.device)[:, None].expand_as(columns)
    keys, order = (rows * count + columns).flatten().sort()
    rows, columns = keys // count, keys % count
    mutual = contains(keys, columns * count + rows)
    return Pairs(rows[mutual], columns[mutual], near.distances[:, :k].flatten()[order][mutual])


def contains(keys: Tensor, wanted: Tensor) -> Tensor:
    """Whether each wanted number is among the sorted keys, [K], [N] int64 -> [N] bool."""
    if not len(keys):
        return torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return keys[place] == wanted


def _first_of_the_smallest(distances: Tensor, boundary: Tensor, k: int) -> Tensor:
    below, equal = distances < boundary, distances == boundary
    room = k - below.sum(dim=1, keepdim=True)
    chosen = below | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)

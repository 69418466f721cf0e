"""Sparse rows of weights, and the two operations of re-ranking on them: numba on a CPU, tensor operations elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from engine.retrieval import cpu_ranking as kernels
from engine.retrieval.distances import blocks

ROWS_AT_ONCE = 512  # of one thread
TILE = 1024  # gallery rows that one thread holds by columns: few enough for its cache
TERMS_SHARE = 1 / 8  # of the memory, for what the tensor operations lay out at a time: few launches, few waits
BYTES_PER_TERM = 48  # what the tensor operations hold for one term of a sum of smaller weights


class Rows(NamedTuple):
    """A sparse matrix by compressed rows."""

    bounds: Tensor  # [R + 1] int64: entries bounds[r]..bounds[r + 1] are row r
    columns: Tensor  # [E] int64
    values: Tensor  # [E] float
    width: int

    @staticmethod
    def of(lengths: Tensor, columns: Tensor, values: Tensor, width: int) -> Rows:
        return Rows(_bounds(lengths), columns, values, width)


def mean_rows(weights: Rows, sources: Tensor, memory_gb: float) -> Rows:
    """Row i is the mean of the rows sources[i], [N, k] int64; empty where k = 0."""
    if not kernels.on_cpu(sources):
        return _mean_rows(weights, sources, memory_gb)
    arrays, indices = [part.numpy() for part in weights[:3]], sources.contiguous().numpy()
    parts = kernels.in_threads(
        lambda start, stop: kernels.mean_rows(indices[start:stop], *arrays, weights.width), len(indices), ROWS_AT_ONCE
    )
    lengths, columns, values = (torch.cat([torch.from_numpy(p) for p in part]) for part in zip(*parts))
    return Rows.of(lengths, columns, values, weights.width)


def jaccard_to(queries: Rows, weights: Rows, sources: Tensor, memory_gb: float) -> Callable[[Tensor], Tensor]:
    """Distances 1 - s / (2 - s), s summing the smaller weight of two rows over all columns: a function of chosen rows.

    It takes rows [Q] int64 of `queries` and gives [Q, G]. The other side, for spectrum v of gallery image g, is the
    mean of the rows sources[v, g] of `weights`, [V, G, k] int64; the distance is the mean over V. Rows sum to 1 or are
    empty.
    """
    spectra, images, _ = sources.shape
    sources = sources.transpose(0, 1).flatten(0, 1)  # the spectra of an image are adjacent
    if kernels.on_cpu(sources):
        return partial(_jaccard_in_tiles, queries, weights, sources.contiguous(), spectra)
    gallery = Turned.of(mean_rows(weights, sources, memory_gb))

    def distances(chosen: Tensor) -> Tensor:
        shared = _shared_weight(queries, chosen, gallery, memory_gb)
        return (1 - shared / (2 - shared)).view(len(chosen), images, spectra).mean(dim=2)

    return distances


def _jaccard_in_tiles(queries: Rows, weights: Rows, sources: Tensor, spectra: int, chosen: Tensor) -> Tensor:
    """By compiled loops: a thread makes the rows of some gallery images and ends them while they are in its cache."""
    out = torch.empty(len(chosen), len(sources) // spectra, dtype=weights.values.dtype)
    result, indices, rows = out.numpy(), sources.numpy(), chosen.numpy()
    query_arrays, arrays = ([part.numpy() for part in side[:3]] for side in (queries, weights))

    def tile(start: int, stop: int) -> None:
        means = kernels.mean_rows(indices[start * spectra : stop * spectra], *arrays, weights.width)
        turned = kernels.by_column(*means, weights.width)
        kernels.jaccard(result[:, start:stop], spectra, rows, *query_arrays, *turned)

    kernels.each_range(tile, out.shape[1], max(1, TILE // spectra))
    return out


def blend(jaccard: Tensor, means: Tensor, rows: Tensor, columns: Tensor, farthest: Tensor, lam: float) -> Tensor:
    """(1 - lam) jaccard + lam means[rows, columns] / farthest[rows], [Q, G]; overwrites `jaccard`."""
    if not kernels.on_cpu(jaccard):
        scaled = means[rows][:, columns] / farthest[rows][:, None]
        return jaccard.mul_(1 - lam).add_(scaled, alpha=lam)
    out, chosen = jaccard.numpy(), rows.numpy()
    arrays = means.numpy(), columns.numpy(), farthest.numpy()
    kernels.each_range(
        lambda start, stop: kernels.blend(out[start:stop], chosen[start:stop], *arrays, out.dtype.type(lam)),
        len(chosen),
        ROWS_AT_ONCE,
    )
    return jaccard


def _mean_rows(weights: Rows, sources: Tensor, memory_gb: float) -> Rows:
    """The same by tensor operations; waits for the device twice in each block."""
    lengths, columns, values = [], [], []
    for part in blocks(len(sources), weights.width, memory_gb, TERMS_SHARE):
        chosen = sources[part].flatten()
        first, count = weights.bounds[chosen], weights.bounds[chosen + 1] - weights.bounds[chosen]
        entries, which = ranges(first, count, int(count.sum()))
        owner = which // max(1, sources.shape[1])
        total = weights.values.new_zeros(len(sources[part]), weights.width)
        total.view(-1).index_add_(0, owner * weights.width + weights.columns[entries], weights.values[entries])
        rows, found = total.nonzero().unbind(dim=1)
        lengths.append((total != 0).sum(dim=1))
        columns.append(found)
        values.append(total[rows, found] / max(1, sources.shape[1]))
    return Rows.of(torch.cat(lengths), torch.cat(columns), torch.cat(values), weights.width)


class Turned(NamedTuple):
    """A sparse matrix of R rows by compressed columns."""

    bounds: Tensor  # [width + 1] int64: entries bounds[c]..bounds[c + 1] are column c
    rows: Tensor  # [E] int64, ascending in each column
    values: Tensor  # [E] float
    height: int

    @staticmethod
    def of(matrix: Rows) -> Turned:
        count, order = len(matrix.bounds) - 1, matrix.columns.argsort(stable=True)
        numbers = torch.arange(count, device=order.device)
        rows = numbers.repeat_interleave(matrix.bounds.diff(), output_size=len(order))[order]
        ordered, edges = matrix.columns[order], torch.arange(matrix.width + 1, device=order.device)
        return Turned(torch.searchsorted(ordered, edges), rows, matrix.values[order], count)


def _shared_weight(queries: Rows, chosen: Tensor, gallery: Turned, memory_gb: float) -> Tensor:
    """Sums of the smaller weight over all columns, [Q, G], by tensor operations: every term of the sums is laid out.

    Waits for the device three times, whatever the number of terms.
    """
    first, lengths = queries.bounds[chosen], queries.bounds[chosen + 1] - queries.bounds[chosen]
    entries, of_query = ranges(first, lengths, int(lengths.sum()))
    columns, weights = queries.columns[entries], queries.values[entries]
    starts, terms = gallery.bounds[columns], gallery.bounds.diff()[columns]
    shared = weights.new_zeros(len(chosen), gallery.height)
    for part, size in _parts(terms, int(TERMS_SHARE * memory_gb * 2**30 / BYTES_PER_TERM)):
        other, which = ranges(starts[part], terms[part], size)
        smaller = torch.minimum(weights[part][which], gallery.values[other])
        target = of_query[part][which].mul_(gallery.height).add_(gallery.rows[other])
        shared.view(-1).index_add_(0, target, smaller)
    return shared


def _parts(sizes: Tensor, limit: int) -> Iterator[tuple[slice, int]]:
    """Slices of consecutive sizes whose sum stays within about the limit, one element at least; and their sums."""
    if not len(sizes):
        return
    ends = sizes.cumsum(dim=0)
    total, largest = torch.stack([ends[-1], sizes.max()]).tolist()
    limit = max(limit, largest, 1)
    marks = torch.arange(1, total // limit + 2, device=ends.device) * limit
    cuts = torch.searchsorted(ends, marks, right=True)
    start = before = 0
    for stop, reached in torch.stack([cuts, ends[cuts - 1]], dim=1).tolist():
        if reached > before:
            yield slice(start, stop), reached - before
        start, before = stop, reached


def ranges(starts: Tensor, lengths: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """start, start + 1, ... for each start, as many as its length, one after another; and which start each is of.

    total: the sum of the lengths, which only the caller can know without waiting for the device.
    """
    which = torch.arange(len(starts), device=starts.device).repeat_interleave(lengths, output_size=total)
    shifts = starts - lengths.cumsum(dim=0) + lengths
    return torch.arange(total, device=starts.device).add_(shifts[which]), which


def _bounds(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(dim=0)])

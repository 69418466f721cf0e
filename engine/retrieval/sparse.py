"""Sparse rows of weights, and the two operations of re-ranking on them: numba on a CPU, tensor operations elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from engine.retrieval import kernels
from engine.retrieval.distances import BLOCK_SHARE, blocks

ROWS_AT_ONCE = 512  # of one thread
TILE = 1024  # gallery rows that one thread holds by columns: few enough for its cache
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


def jaccard_distances(queries: Rows, chosen: Tensor, weights: Rows, sources: Tensor, memory_gb: float) -> Tensor:
    """1 - s / (2 - s), s summing the smaller weight of two rows over all columns; the mean over the gallery's spectra.

    One side are the rows `chosen` [Q] int64 of `queries`; the other, for spectrum v of gallery picture g, is the mean
    of the rows sources[v, g] of `weights`, [V, G, k] int64. Rows sum to 1 or are empty. -> [Q, G].
    """
    spectra, pictures, _ = sources.shape
    sources = sources.transpose(0, 1).flatten(0, 1)  # a picture's spectra stand together
    if not kernels.on_cpu(sources):
        shared = _shared_weight(queries, chosen, mean_rows(weights, sources, memory_gb), memory_gb)
        return (1 - shared / (2 - shared)).view(len(chosen), pictures, spectra).mean(dim=2)
    out = torch.empty(len(chosen), pictures, dtype=weights.values.dtype)
    result, indices = out.numpy(), sources.contiguous().numpy()
    query_arrays, arrays = ([part.numpy() for part in rows[:3]] for rows in (queries, weights))
    rows = chosen.numpy()

    def tile(start: int, stop: int) -> None:
        means = kernels.mean_rows(indices[start * spectra : stop * spectra], *arrays, weights.width)
        turned = kernels.by_column(*means, weights.width)
        kernels.jaccard(result[:, start:stop], spectra, rows, *query_arrays, *turned)

    kernels.each_range(tile, pictures, max(1, TILE // spectra))
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
    """The same by tensor operations."""
    lengths, columns, values = [], [], []
    for part in blocks(len(sources), weights.width, memory_gb):
        chosen = sources[part].flatten()
        owner = torch.arange(len(sources[part]), device=chosen.device).repeat_interleave(sources.shape[1])
        count = weights.bounds[chosen + 1] - weights.bounds[chosen]
        entries = ranges(weights.bounds[chosen], count)
        total = weights.values.new_zeros(len(sources[part]), weights.width)
        target = owner.repeat_interleave(count) * weights.width + weights.columns[entries]
        total.view(-1).index_add_(0, target, weights.values[entries])
        places = total.nonzero()
        lengths.append(places[:, 0].bincount(minlength=len(total)))
        columns.append(places[:, 1])
        values.append(total[places[:, 0], places[:, 1]] / max(1, sources.shape[1]))
    return Rows.of(torch.cat(lengths), torch.cat(columns), torch.cat(values), weights.width)


def _shared_weight(queries: Rows, chosen: Tensor, gallery: Rows, memory_gb: float) -> Tensor:
    """Sums of the smaller weight over all columns, [Q, G], by tensor operations: every term of the sums is laid out."""
    size = len(gallery.bounds) - 1
    order = gallery.columns.argsort(stable=True)
    owner = torch.arange(size, device=order.device).repeat_interleave(gallery.bounds.diff())[order]
    values, bounds = gallery.values[order], _bounds(gallery.columns.bincount(minlength=gallery.width))
    lengths = queries.bounds[chosen + 1] - queries.bounds[chosen]
    entries = ranges(queries.bounds[chosen], lengths)
    terms = bounds.diff()[queries.columns[entries]]
    shared = queries.values.new_zeros(len(chosen), size)
    of_query = torch.arange(len(chosen), device=order.device).repeat_interleave(lengths)
    for part in _parts(terms, int(BLOCK_SHARE * memory_gb * 2**30 / BYTES_PER_TERM)):
        entry, count = entries[part], terms[part]
        other = ranges(bounds[queries.columns[entry]], count)
        smaller = torch.minimum(queries.values[entry].repeat_interleave(count), values[other])
        shared.view(-1).index_add_(0, of_query[part].repeat_interleave(count) * size + owner[other], smaller)
    return shared


def _parts(sizes: Tensor, limit: int) -> Iterator[slice]:
    """Slices of consecutive sizes whose sum stays within about the limit, one element at least."""
    ends = sizes.cumsum(dim=0)
    if not len(ends):
        return
    limit = max(limit, int(sizes.max()), 1)
    marks = torch.arange(1, int(ends[-1]) // limit + 2, device=ends.device) * limit
    cuts = [0, *torch.searchsorted(ends, marks, right=True).tolist()]
    yield from (slice(start, stop) for start, stop in zip(cuts, [*cuts[1:], len(sizes)]) if stop > start)


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """start, start + 1, ... for each start, as many numbers as its length, one after another."""
    ends = lengths.cumsum(dim=0)
    total = int(ends[-1]) if len(ends) else 0
    return torch.arange(total, device=starts.device) + (starts - ends + lengths).repeat_interleave(lengths)


def _bounds(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(dim=0)])

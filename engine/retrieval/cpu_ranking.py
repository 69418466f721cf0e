"""The loops of ranking that no tensor operation does well on a CPU, compiled by numba.

Matrices of weights come as compressed rows: bounds [R + 1] int64, columns [E] int64, values [E] float. Every kernel
works on a range of rows and writes to that range only, so that `in_threads` can run ranges side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from utils.compiled import compiled

Result = TypeVar("Result")


def on_cpu(tensor: Tensor) -> bool:
    """Whether these kernels serve; elsewhere tensor operations do the same."""
    return tensor.device.type == "cpu"


def in_threads(work: Callable[[int, int], Result], count: int, size: int) -> Iterator[Result]:
    """work(start, stop) for ranges of `size` that cover 0..count, in order, on as many threads as torch uses."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield from pool.map(lambda start: work(start, min(start + size, count)), range(0, count, size))


def each_range(work: Callable[[int, int], None], count: int, size: int) -> None:
    """The same for work that returns nothing."""
    for _ in in_threads(work, count, size):
        pass


@compiled
def mean_rows(sources, bounds, columns, values, width):
    """Means of rows of a matrix of that width: sources [N, k] -> (lengths [N], columns, values), columns in no order.

    Values must be above 0. The loops have no branches and unsigned indices: several times faster.
    """
    count = sources.shape[1]
    room = 1
    for row in range(len(sources)):
        for k in range(count):
            source = sources[row, k]
            room += bounds[source + 1] - bounds[source]
    total = np.zeros(width, values.dtype)
    share = values.dtype.type(1 / max(1, count))
    lengths = np.zeros(len(sources), np.int64)
    out_columns, out_values = np.empty(room, np.int64), np.empty(room, values.dtype)
    end = np.uintp(0)
    for row in range(len(sources)):
        start = end
        for k in range(count):
            source = np.uintp(sources[row, k])
            for entry in range(np.uintp(bounds[source]), np.uintp(bounds[source + np.uintp(1)])):
                column = np.uintp(columns[entry])
                out_columns[end] = column
                end += np.uintp(total[column] == 0)
                total[column] += values[entry]
        for place in range(start, end):
            column = np.uintp(out_columns[place])
            out_values[place] = total[column] * share
            total[column] = 0
        lengths[row] = end - start
    return lengths, out_columns[:end].copy(), out_values[:end].copy()


@compiled
def by_column(lengths, columns, values, width):
    """The same matrix by columns: bounds [width + 1], rows [E] uint16, ascending in each column, values [E].

    At most 2^16 rows: small numbers leave more of the cache to the sums.
    """
    bounds = np.zeros(width + 1, np.int64)
    for column in columns:
        bounds[column + 1] += 1
    bounds = np.cumsum(bounds)
    rows, out, end = np.empty(len(columns), np.uint16), np.empty(len(columns), values.dtype), bounds[:-1].copy()
    entry = 0
    for row in range(len(lengths)):
        for _ in range(lengths[row]):
            column = columns[entry]
            rows[end[column]] = row
            out[end[column]] = values[entry]
            end[column] += 1
            entry += 1
    return bounds, rows, out


@compiled
def jaccard(out, spectra, chosen, bounds, columns, values, by_bounds, rows, by_values):
    """Jaccard distances of the chosen rows to G gallery images, mean over their spectra: written to out [Q, G].

    The second matrix is the gallery's, from `by_column`; its row g * spectra + s is spectrum s of image g.
    """
    images = out.shape[1]
    shared = np.empty(images * spectra, values.dtype)
    one, two, share = values.dtype.type(1), values.dtype.type(2), values.dtype.type(1 / spectra)
    for query in range(len(chosen)):
        shared[:] = 0
        for entry in range(bounds[chosen[query]], bounds[chosen[query] + 1]):
            column, weight = columns[entry], values[entry]
            for place in range(np.uintp(by_bounds[column]), np.uintp(by_bounds[column + 1])):
                other = by_values[place]
                shared[np.uintp(rows[place])] += weight if weight < other else other
        for place in range(len(shared)):
            shared[place] = one - shared[place] / (two - shared[place])
        for image in range(images):
            total = values.dtype.type(0)
            for spectrum in range(spectra):
                total += shared[image * spectra + spectrum]
            out[query, image] = total * share


@compiled
def blend(out, rows, means, columns, largest, lam):
    """out [Q, G] = (1 - lam) out + lam means[rows, columns] / largest[rows]: rows [Q] of means [C, N], largest [C]."""
    rest = out.dtype.type(1) - lam
    for place in range(len(rows)):
        row = rows[place]
        factor = lam / largest[row]
        for image in range(len(columns)):
            out[place, image] = rest * out[place, image] + factor * means[row, columns[image]]


@compiled
def take_columns(out, rows, columns):
    """out [R, G] = the chosen columns of rows [R, N]."""
    for row in range(len(rows)):
        for place in range(len(columns)):
            out[row, place] = rows[row, columns[place]]


@compiled
def rank_queries(distances, excluded, own, identities, num_identities):
    """(first, precision, penalty) of each query, [Q]: identity rank of its first match, AP and INP; 0 without a match.

    distances, excluded [Q, G]; own [Q], identities [G]: numbers 0..num_identities - 1, or -1 for a foreign query.
    """
    queries, size = distances.shape
    first, precision, penalty = np.zeros(queries, np.int64), np.zeros(queries), np.zeros(queries)
    matches, seen = np.empty(size, np.int64), np.full(num_identities, -1, np.int64)
    for query in range(queries):
        count = 0
        for place in range(size):
            if identities[place] == own[query] and not excluded[query, place]:
                matches[count] = place
                count += 1
        if count == 0:
            continue
        found = _numbers(distances[query][matches[:count]])
        order = np.argsort(found, kind="mergesort")  # stable: equal distances stay in gallery order
        found, where = found[order], matches[:count][order]
        before = np.zeros(count, np.int64)
        first[query] = 1
        for place in range(size):
            distance = distances[query, place]
            if distance != distance:
                distance = np.inf
            identity = identities[place]
            if distance > found[-1] or identity == own[query] or excluded[query, place]:
                continue
            low, high = 0, count
            while low < high:
                middle = (low + high) // 2
                if found[middle] < distance or (found[middle] == distance and where[middle] < place):
                    low = middle + 1
                else:
                    high = middle
            if low < count:
                before[low] += 1
            if low == 0 and seen[identity] != query:
                seen[identity] = query
                first[query] += 1
        rank = 0
        for match in range(count):
            rank += before[match] + 1
            precision[query] += (match + 1) / rank
        precision[query] /= count
        penalty[query] = count / rank
    return first, precision, penalty


@compiled
def _numbers(distances):
    return np.where(np.isnan(distances), np.inf, distances)

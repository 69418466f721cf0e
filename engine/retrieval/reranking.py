"""What the k-reciprocal rankings share: pairs of neighbours -> weights -> expansion -> final distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from engine.retrieval import cpu_ranking as kernels
from engine.retrieval.distances import RESULT_SHARE, blocks, may_keep, squared_distances, take
from engine.retrieval.neighbours import Neighbours, Pairs, nearest
from engine.retrieval.sparse import Rows, blend, jaccard_to, mean_rows

# rows of the gallery [G] -> (queries, distances to those gallery images [b, G]), a block of queries at a time
Ranking = Callable[[Tensor], Iterator[tuple[slice, Tensor]]]


class CrossDistances(NamedTuple):
    """Squared distances of C queries to N gallery images in V spectra, reduced over the spectra.

    They are kept if `survey` found that they fit into the memory, and computed when needed if not.
    """

    queries: Tensor  # [C, D], normalised
    gallery: Tensor  # [V, N, D], normalised
    memory_gb: float
    means: Tensor | None = None  # [C, N]
    maxima: Tensor | None = None  # [N, C]

    def blend(self, jaccard: Tensor, rows: Tensor, columns: Tensor, farthest: Tensor, lam: float) -> Tensor:
        """(1 - lam) jaccard + lam mean distance / farthest, [b, G], of some queries to some gallery images.

        Overwrites `jaccard`.
        """
        if self.means is not None:
            return blend(jaccard, self.means, rows, columns, farthest, lam)
        queries = take(self.queries, rows, 0)
        for part in blocks(len(columns), len(self.gallery) * len(rows), self.memory_gb):
            means = self._of(queries, columns[part]).mean(dim=1) / farthest[rows][:, None]
            jaccard[:, part].mul_(1 - lam).add_(means, alpha=lam)
        return jaccard

    def farthest(self, columns: Tensor) -> Tensor:
        """The largest distance of each query to the given gallery images, [C]."""
        if self.maxima is not None:
            return take(self.maxima, columns, 0).amax(dim=0)
        largest = self.queries.new_zeros(len(self.queries))
        for part in blocks(len(columns), len(self.gallery) * len(self.queries), self.memory_gb):
            largest = torch.maximum(largest, self._of(self.queries, columns[part]).amax(dim=(1, 2)))
        return largest

    def _of(self, queries: Tensor, columns: Tensor) -> Tensor:
        chosen = self.gallery[:, columns]
        return squared_distances(queries, chosen.flatten(0, 1)).view(len(queries), len(chosen), -1)


def survey(queries: Tensor, gallery: Tensor, k: int, memory_gb: float) -> tuple[CrossDistances, Tensor]:
    """Distances of queries [C, D] to gallery images [V, N, D], and the min(k, C) nearest queries of each, [V, N, k]."""
    spectra, images, _ = gallery.shape
    size, k = len(queries), min(k, len(queries))
    means = maxima = None
    if may_keep(2 * size * images, memory_gb):
        means, maxima = queries.new_empty(size, images), queries.new_empty(images, size)
    found = []
    for part in blocks(images, spectra * size, memory_gb):
        distances = squared_distances(gallery[:, part].flatten(0, 1), queries)
        found.append(nearest(distances, k)[0].view(spectra, -1, k))
        if means is not None:
            each = distances.view(spectra, -1, size)
            means[:, part], maxima[part] = each.mean(dim=0).T, each.amax(dim=0)
    return CrossDistances(queries, gallery, memory_gb, means, maxima), torch.cat(found, dim=1)


class Expansion(NamedTuple):
    """Whose rows of V are averaged into an image's row of V'."""

    queries: Tensor  # [C, k] int64
    gallery: Tensor  # [V, G, k] int64


def expansion_sources(near: Neighbours, k2: int) -> Tensor:
    """The k2 nearest of each image, [N, k] int64; k2 = 1 means none but itself, whichever tie comes first."""
    return near.columns[:, :k2] if k2 > 1 else torch.arange(len(near.columns), device=near.columns.device)[:, None]


def split(sources: Tensor, queries: int, spectra: int) -> Expansion:
    """The sources of all images, [queries + V G, k], by side, the gallery's by spectrum."""
    return Expansion(sources[:queries], sources[queries:].view(spectra, -1, sources.shape[1]))


def weights_of(pairs: Pairs, farthest: Tensor) -> Rows:
    """V: exp(-distance / the row's farthest) for each pair, rows summing to 1 (or empty). farthest: [C]."""
    count = len(farthest)
    values = torch.exp(-pairs.distances / positive(farthest)[pairs.rows])
    total = values.new_zeros(count).index_add_(0, pairs.rows, values)
    return Rows.of(pairs.rows.bincount(minlength=count), pairs.columns, values / total[pairs.rows], count)


def positive(farthest: Tensor) -> Tensor:
    """The distances [Q] as divisors: 0, of images that are all the same, becomes the smallest positive number."""
    return farthest.clamp(min=torch.finfo(farthest.dtype).tiny)


def final_distances(
    weights: Rows,
    expansion: Expansion,
    cross: CrossDistances,
    columns: Tensor,
    farthest: Tensor,
    spectra: int,
    lam: float,
    memory_gb: float,
) -> Iterator[tuple[slice, Tensor]]:
    """(1 - lam) Jaccard + lam scaled distance, blocks of queries: mean over the spectra of both sides.

    The rows of `cross` are the queries' spectra one after another; columns: the gallery images of `expansion`.
    farthest: [C], of the queries.
    """
    encoded = mean_rows(weights, expansion.queries, memory_gb)
    jaccard = jaccard_to(encoded, weights, expansion.gallery, memory_gb)
    count = len(farthest) // spectra
    # Tensor operations hold a number for each spectrum of a gallery image, the kernels their mean only.
    width = spectra * len(columns) * (1 if kernels.on_cpu(farthest) else 2 * len(expansion.gallery))
    for part in blocks(count, width, memory_gb, RESULT_SHARE):
        queries = torch.arange(part.start, part.stop, device=farthest.device)
        rows = (torch.arange(spectra, device=farthest.device)[:, None] * count + queries).flatten()
        final = cross.blend(jaccard(rows), rows, columns, positive(farthest), lam)
        yield part, final.view(spectra, len(queries), -1).mean(dim=0) if spectra > 1 else final

"""Cross-Modality Retrieval loss (MCJA, IEEE TCSVT 2024, doi 10.1109/TCSVT.2024.3377252; docs/method.md, 4).

L = mean over modalities of mean |r(q, g) - r*(q, g)|: r is the soft rank of the gallery image g for the query q, by
cosine distance; r* is 1 if both show one identity, else the number of gallery images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.soft_rank import soft_rank
from utils.errors import UserError

Ranker = Callable[[Tensor, float], Tensor]  # ([Q, n] distances in [0, 1], strength) -> [Q, n] ascending ranks


def rank_unit_distances(distances: Tensor, strength: float) -> Tensor:
    """soft_rank of values in [0, 1]: affine where that is exact, else the general form."""
    return soft_rank(distances, strength, spread=1.0)


def pick_ranker(name: str) -> Ranker:
    """The soft rank that the key `soft_rank` names: auto, native or torchsort. UserError where it is not installed."""
    if name != "torchsort":
        return {"auto": rank_unit_distances, "native": soft_rank}[name]
    try:
        import torchsort
    except ImportError:
        raise UserError("soft_rank = torchsort: it is not installed; `make torchsort` builds it, or use auto") from None
    return lambda distances, strength: torchsort.soft_rank(distances, regularization_strength=strength)


def cross_modality_retrieval_loss(
    embeddings: Tensor, pids: Tensor, modalities: Tensor, strength: float = 0.5, ranker: Ranker = rank_unit_distances
) -> Tensor:
    """Distance between each query's soft ranking of the other modalities and its ideal one; a scalar.

    embeddings: [N, D] float, not normalised (half precision is computed in float32); pids: [N] beside them; modalities:
    [N]; keep it on the CPU, so that selecting rows does not synchronise with the GPU.
    The ideal rank is 1 for every match and n, the gallery's size, for every mismatch. Queries without a match, or with
    matches only, do not count; where none is left the result is a 0 that still carries a graph.
    """
    if embeddings.element_size() < 4:
        embeddings = embeddings.float()
    units = F.normalize(embeddings, dim=1)
    # Rows are picked from the products, not from the embeddings: picking, and its backward pass, costs by what is
    # picked.
    distances = (1 - units @ units.T) / 2
    terms, counted = [], []
    for modality in torch.unique(modalities):
        query, gallery = (
            rows.nonzero()[:, 0].to(units.device, non_blocking=True)
            for rows in (modalities == modality, modalities != modality)
        )
        match = pids[query][:, None] == pids[gallery][None, :]
        term, valid = _one_modality(distances[query[:, None], gallery], match, strength, ranker)
        terms.append(term)
        counted.append(valid)
    return torch.stack(terms).sum() / torch.stack(counted).sum().clamp(min=1)


def _one_modality(distances: Tensor, match: Tensor, strength: float, ranker: Ranker) -> tuple[Tensor, Tensor]:
    """(mean |rank - ideal rank| over the valid queries' pairs, whether there was a valid query); both inputs [Q, n]."""
    n = distances.shape[1]
    if n == 0:
        return distances.sum() * 0, torch.zeros((), device=distances.device)
    ranks = ranker(distances, strength)
    errors = (ranks - torch.where(match, 1.0, float(n)).to(ranks.dtype)).abs().mean(dim=1)
    valid = match.any(dim=1) & ~match.all(dim=1)
    count = valid.sum()
    return (errors * valid).sum() / count.clamp(min=1), (count > 0).to(errors.dtype)

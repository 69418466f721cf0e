"""Triplet losses of the two-stream family: the hardest pair, weighted pairs, and centres of the other modality.

Hardest pair (Hermans et al., arXiv:1703.07737): mean [d+ - d- + margin]_+. Weighted pairs (AGW, arXiv:2001.04193):
mean log(1 + exp(sum w+ d+ - sum w- d-)), with w+ = softmax(d+) and w- = softmax(-d-).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.distance import beside, full_precision, group_means, pairwise, rowwise, same

WEIGHT_FLOOR = 1e-6  # added to the sum of a softmax's weights, as released
LARGEST_SQUARE = 88.0  # exp of more overflows float32; rows beyond it get no gradient, as released


def batch_hard(features: Tensor, pids: Tensor, margin: float) -> Tensor:
    """mean over rows of [farthest positive - nearest negative + margin]_+ (Hermans et al., arXiv:1703.07737).

    features: [R, D], not normalised; pids: [R]. A row is a positive of its own. With one identity there is no negative:
    the result is then a 0 that still carries a graph.
    """
    features = full_precision(features)
    distances, positive = pairwise(features, features), same(pids)
    # amax and amin share the gradient among equal distances, so that the order of rows has no say.
    farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest = distances.masked_fill(positive, torch.inf).amin(dim=1)
    return F.relu(farthest - nearest + margin).mean()


def weighted_regularised(
    features: Tensor,
    pids: Tensor,
    alpha: float = 1.0,
    gamma: float = 1.0,
    square: bool = False,
    shifted: bool = False,
) -> Tensor:
    """Weighted regularised triplet (AGW, arXiv:2001.04193); with `square`, CAJ's enhanced squared difference.

    features: [R, D], not normalised; pids: [R]. Positives, the row itself included, are weighted by softmax(alpha d),
    negatives by softmax(-alpha d); with D the weighted distances the loss is the mean of log(1 + exp(gamma (Dp - Dn))),
    or with `square` of log(1 + exp(min(gamma (Dp - Dn)^2, 88) * sign(Dp - Dn))). As released, the negatives' softmax is
    not shifted, so far negatives (d above 14) lose their weight to the floor, unless `shifted`, which takes each row's
    nearest negative off as it takes off the farthest positive.
    """
    features = full_precision(features)
    distances, positive = pairwise(features, features), same(pids)
    scaled = alpha * distances
    shift = (scaled * positive).amax(dim=1, keepdim=True)
    far = _weighted(distances, (scaled - shift).masked_fill(~positive, -torch.inf))
    nearest = scaled.masked_fill(positive, torch.inf).amin(dim=1, keepdim=True)
    back = torch.where(nearest.isinf(), 0.0, nearest) if shifted else 0.0
    near = _weighted(distances, (back - scaled).masked_fill(positive, -torch.inf))
    gap = far - near
    if not square:
        return F.softplus(gamma * gap).mean()
    squared = (gamma * gap.square()).clamp(max=LARGEST_SQUARE)
    return F.softplus(torch.where(gap > 0, squared, -squared)).mean()


def _weighted(distances: Tensor, exponents: Tensor) -> Tensor:
    """Sum of each row's distances, weighted by exp(exponents) / (their sum + 1e-6): both [R, R] -> [R]."""
    weights = exponents.exp()
    return (weights / (weights.sum(dim=1, keepdim=True) + WEIGHT_FLOOR) * distances).sum(dim=1)


def centre_cross_modality(features: Tensor, pids: Tensor, modalities: Tensor, margin: float = 0.7) -> Tensor:
    """(pull + push) / 2 of centres (DJANet's QCT). features: [R, D], not normalised; pids, modalities: [R] -> scalar.

    pull: mean distance of a row to the centre of its identity in the other modality, over the rows that have one. push:
    for each row the mean of [margin - distance to the centre of row j's identity, both modalities]_+ over all rows j of
    other identities, so a foreign identity counts as often as it has rows. Where nothing is left the part is 0.
    """
    features = full_precision(features)
    modalities = beside(modalities, features)
    positive, crossed = same(pids), modalities[:, None] != modalities[None, :]
    across = positive & crossed
    paired = across.any(dim=1).to(features.dtype)
    pull = (rowwise(features, group_means(features, across)) * paired).sum() / paired.sum().clamp(min=1)
    hinge = F.relu(margin - pairwise(features, group_means(features, positive)))
    foreign = (~positive).to(features.dtype)
    push = ((hinge * foreign).sum(dim=1) / foreign.sum(dim=1).clamp(min=1)).mean()
    return (pull + push) / 2

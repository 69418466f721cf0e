"""Losses between the branches of DEEN (Zhang and Wang, CVPR 2023).

CPM = mean over identities of hinges between the centres of both modalities and branches. ORT = sum of <f1, f2> / 3 R.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.distance import beside, full_precision, group_means, pairwise, rowwise, same
from utils.types import Modality

MARGIN = 0.2  # fixed, as released: the margin argument there is never read


def cross_modality_pair(base: Tensor, generated: Tensor, pids: Tensor, modalities: Tensor) -> Tensor:
    """CPM between a batch and one generated branch of it: [R, D], [R, D], [R], [R] -> scalar; features not normalised.

    Every identity has four centres: visible and infrared, of `base` and of `generated`. The pair base-infrared and
    generated-visible must be no farther apart than base-visible and generated-visible (whose distance has no gradient),
    and nearer than another identity's centre; the same with the modalities exchanged; the margin is 0.2. Rows may come
    in any order. Identities of one modality do not count; without another identity only the first part is left.
    """
    base, generated = full_precision(base), full_precision(generated)
    own, modalities = same(pids), beside(modalities, base)
    visible, infrared = (own & (modalities == modality)[None, :] for modality in Modality)
    counted = visible.any(dim=1) & infrared.any(dim=1)
    # One centre for each row, though rows of an identity share it: no host has to wait for the number of identities.
    weights = counted.to(base.dtype) / own.sum(dim=1)
    weights = weights / weights.sum().clamp(min=1)  # the number of identities that count
    first, second = ((group_means(base, member), group_means(generated, member)) for member in (visible, infrared))
    foreign = ~own & counted[None, :]
    terms = (_one_way(first, second, foreign) + _one_way(second, first, foreign)) / 2
    return (terms * weights).sum()


def _one_way(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], foreign: Tensor) -> Tensor:
    """The three hinges of each row, [R]: (base, generated) centres of one modality, and of the other, each [R, D]."""
    (anchor, generated), (crossed, _) = near, far
    across = rowwise(crossed, generated)
    within = rowwise(anchor, generated).detach()
    return F.relu(across - within + MARGIN) + sum(
        F.relu(across - _nearest(centres, foreign) + MARGIN) / 2 for centres in (generated, anchor)
    )


def _nearest(centres: Tensor, foreign: Tensor) -> Tensor:
    """Distance of each row's centre to the nearest foreign one, or infinity: [R, D], bool [R, R] -> [R]."""
    return pairwise(centres, centres).masked_fill(~foreign, torch.inf).amin(dim=1)


def orthogonality(first: Tensor, second: Tensor) -> Tensor:
    """ORT: sum of the products of two branches' rows / (3 R), the rows of all three: [R, D], [R, D] -> scalar."""
    return (full_precision(first) * full_precision(second)).sum() / (3 * len(first))

"""Euclidean distances and identity masks, as the losses of the two-stream family take them."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-12  # of a squared distance: a feature is 1e-6 from itself, and the root's gradient stays finite


def full_precision(values: Tensor) -> Tensor:
    """The same values [R, D], half precision as float32; float64 stays."""
    return values.float() if values.element_size() < 4 else values


def pairwise(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(max(|a|^2 + |b|^2 - 2 a.b, 1e-12)): [R, D], [S, D] -> [R, S]."""
    squares = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)
    return torch.addmm(squares, first, second.T, alpha=-2).clamp(min=FLOOR).sqrt()


def rowwise(first: Tensor, second: Tensor) -> Tensor:
    """Distances between rows of equal number, with the same floor: [R, D], [R, D] -> [R]."""
    return (first - second).square().sum(dim=1).clamp(min=FLOOR).sqrt()


def beside(labels: Tensor, values: Tensor) -> Tensor:
    """labels [R] on the device of the values. Steps keep modalities on the CPU; the copy does not synchronise."""
    return labels.to(values.device, non_blocking=True)


def same(labels: Tensor) -> Tensor:
    """Which rows share a label, themselves included: [R] -> bool [R, R]."""
    return labels[:, None] == labels[None, :]


def group_means(features: Tensor, member: Tensor) -> Tensor:
    """Mean of the features that each row of `member` names: [S, D], bool [R, S] -> [R, D]; 0 where it names none."""
    weights = member.to(features.dtype)
    return weights @ features / weights.sum(dim=1, keepdim=True).clamp(min=1)

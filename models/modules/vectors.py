"""Test vectors, as the released scripts make them from several views of an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(vectors: Tensor) -> Tensor:
    """Rows of length 1: [R, D] -> [R, D]."""
    return F.normalize(vectors, dim=-1)


# Weights of the pooled and of the neck's similarities, whose sum ranks.
SHARES = {"s7": (1.0, 1.0), "s8": (0.1, 0.9)}


def joined(name: str, pooled: Tensor, neck: Tensor) -> Tensor:
    """One vector whose inner products are the weighted sums of cosines, [R, D], [R, D] -> [R, 2 D]."""
    parts = zip(SHARES[name], (pooled, neck))
    return torch.cat([share**0.5 * unit(vectors) for share, vectors in parts], dim=1)


def flipped(images: Tensor) -> Tensor:
    """The images seen in a mirror, left and right exchanged: [R, 3, H, W] -> the same."""
    return images.flip(3)

"""Test vectors, as the released scripts make them from several views of an image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def unit(vectors: Tensor) -> Tensor:
    """Rows of length 1: [R, D] -> [R, D]."""
    return F.normalize(vectors, dim=-1)


def flipped(images: Tensor) -> Tensor:
    """The images seen in a mirror, left and right exchanged: [R, 3, H, W] -> the same."""
    return images.flip(3)

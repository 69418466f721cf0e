"""Distances between rows of embeddings."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Array = Tensor | np.ndarray


def cosine_distances(query: Array, gallery: Array) -> Tensor:
    """1 - cosine similarity, [Q, D], [G, D] float -> [Q, G] in 0..2; rows need not be normalised."""
    query, gallery = (F.normalize(torch.as_tensor(rows), dim=1) for rows in (query, gallery))
    return 1 - query @ gallery.T


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Squared Euclidean distances, [N, D], [M, D] float -> [N, M], never below 0."""
    lengths = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)[None, :]
    return torch.addmm(lengths, left, right.T, alpha=-2).clamp(min=0)

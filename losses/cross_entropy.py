"""Identity classification: L = mean over rows of -log softmax(logits)[pid]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def identity_loss(logits: Tensor, pids: Tensor) -> Tensor:
    """Mean cross entropy, computed in float32 at least: [B, num_ids], [B] int64 -> scalar."""
    return F.cross_entropy(logits.float() if logits.element_size() < 4 else logits, pids)

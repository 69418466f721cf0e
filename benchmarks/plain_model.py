"""The adapter and the CMR loss the way their definitions read, in torch so that gradients flow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.soft_rank import soft_rank
from models.modules.mda import ModalityDistributionAdapter


class PlainAdapter(ModalityDistributionAdapter):
    """A masked copy of the map for every mask, and the depth-wise combination as a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        masks = self.sc_conv(x).flatten(2).softmax(dim=2).unflatten(2, x.shape[2:])
        sums = (x.unsqueeze(1) * masks.unsqueeze(2)).sum(dim=(3, 4))  # [B, M, C] from [B, M, C, H, W]
        combined = self.ca_conv(sums.transpose(1, 2)).squeeze(2)
        gate = self.ca_bn(combined).sigmoid()[:, :, None, None]
        return x + self.norm_bn(gate.expand_as(x) * x)


def use_plain_adapters(model: nn.Module) -> None:
    """Let every adapter of a model compute the plain way, with its own parameters."""
    for module in model.modules():
        if isinstance(module, ModalityDistributionAdapter):
            module.__class__ = PlainAdapter


def cmr_loss(embeddings: Tensor, pids: Tensor, modalities: Tensor, strength: float = 0.5) -> Tensor:
    """Query by query, with the general soft rank; cosines from a table of pairs of embeddings, [n, n, D]."""
    terms = []
    for modality in modalities.unique():
        query, gallery = modalities == modality, modalities != modality
        pairs = embeddings[query][:, None], embeddings[gallery][None]
        distances = (1 - F.cosine_similarity(*pairs, dim=2)) / 2
        errors = []
        for row, pid in zip(distances, pids[query]):
            match = pids[gallery] == pid
            if match.any() and not match.all():
                ideal = torch.where(match, 1.0, float(len(match)))
                errors.append((soft_rank(row[None], strength)[0] - ideal).abs().mean())
        if errors:
            terms.append(torch.stack(errors).mean())
    return torch.stack(terms).mean()

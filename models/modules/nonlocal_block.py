"""Non-local blocks without softmax (Wang et al., CVPR 2018, as AGW uses them)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.modules.norm import BatchNorm2d


class NonLocalBlock(nn.Module):
    """x + BN(W y), y_m = mean over positions j of (theta_m . phi_j) g_j: [B, C, H, W] -> [B, C, H, W].

    At the start it is the identity (the batch norm's weight and bias are 0). inner: channels of theta, phi and g.
    """

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.theta = nn.Conv2d(channels, inner, kernel_size=1)
        self.phi = nn.Conv2d(channels, inner, kernel_size=1)
        self.g = nn.Conv2d(channels, inner, kernel_size=1)
        self.W = residual_end(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.theta, self.phi, self.g)
        joined = F.conv2d(x, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        theta, phi, g = joined.flatten(2).chunk(3, dim=1)
        y = attended(theta, phi, g / g.shape[2])
        return x + self.W(y.reshape(x.shape[0], -1, *x.shape[2:]))


def residual_end(inner: int, channels: int) -> nn.Sequential:
    """1x1 convolution and batch norm that start at 0, before a map is added to another."""
    convolution, norm = nn.Conv2d(inner, channels, kernel_size=1), BatchNorm2d(channels)
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    return nn.Sequential(convolution, norm)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """value (key^T query): [B, r, N], [B, r, M], [B, s, M] -> [B, s, N].

    Without a softmax the products may be taken in either order: [s, r] instead of [M, N] wherever that is the smaller.
    """
    if value.shape[1] * key.shape[1] <= key.shape[2] * query.shape[2]:
        return (value @ key.mT) @ query
    return value @ (key.mT @ query)

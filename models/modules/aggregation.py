"""DEEN's multi-level feature aggregation (MFA) and diverse embedding expansion (DEE). Zhang and Wang, CVPR 2023."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.modules.nonlocal_block import attended, residual_end


class ChannelAttention(nn.Module):
    """CNL: high + BN(W y), y the channels of `low` mixed by products of channels, [l, l] for each image.

    high: [B, h, H, W]; low: [B, l, H s, W s], s = stride (1 or 2). theta (of high) and phi (of low, with the stride)
    are [l, H W]; A = theta phi^T / l, y = A g(low), brought to h channels with the stride. The batch norm starts at 0.
    """

    def __init__(self, high: int, low: int, stride: int):
        super().__init__()
        self.theta = nn.Conv2d(high, low, kernel_size=1)
        self.phi = nn.Conv2d(low, low, kernel_size=1, stride=stride)
        self.g = nn.Conv2d(low, low, kernel_size=1)
        self.W = residual_end(low, high)
        self.W[0].stride = (stride, stride)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        theta, phi, g = self.theta(high).flatten(2), self.phi(low).flatten(2), self.g(low)
        mixing = theta @ (phi / g.shape[1]).mT
        return high + self.W((mixing @ g.flatten(2)).reshape(g.shape))


class PositionAttention(nn.Module):
    """PNL: high + BN(W y), y_m = sum over positions of (theta_m . phi_j) g_j / (M_l / 2): [B, h, H, W], [B, l, ...].

    As released, each of the r = l / 2 channels is read as two of half the positions: theta, phi and g are [2 r, M / 2].
    Raises ValueError where a map has an odd number of positions. The batch norm starts at 0.
    """

    def __init__(self, high: int, low: int):
        super().__init__()
        inner = low // 2
        self.theta = nn.Conv2d(high, inner, kernel_size=1)
        self.phi = nn.Conv2d(low, inner, kernel_size=1)
        self.g = nn.Conv2d(low, inner, kernel_size=1)
        self.W = residual_end(inner, high)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        theta, phi, g = _halved(self.theta(high)), _halved(self.phi(low)), _halved(self.g(low))
        y = attended(theta, phi, g / g.shape[2])
        # Transposed and read back: rows of the product become positions, two to a channel.
        return high + self.W(y.reshape(high.shape[0], -1, *high.shape[2:]))


def _halved(maps: Tensor) -> Tensor:
    """[B, r, H, W] -> [B, 2 r, H W / 2], each channel cut into its first and its second half."""
    batch, channels, height, width = maps.shape
    if height * width % 2:
        raise ValueError(f"a map of {height} x {width}: DEEN's position attention needs an even number of positions")
    return maps.reshape(batch, 2 * channels, height * width // 2)


class Aggregation(nn.Module):
    """MFA: a stage's map and the one before, [B, h, H, W], [B, l, H s, W s] -> [B, h, H, W]; at first the identity."""

    def __init__(self, high: int, low: int, stride: int):
        super().__init__()
        self.CNL = ChannelAttention(high, low, stride)
        self.PNL = PositionAttention(high, low)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return self.PNL(self.CNL(high, low), low)


class Expansion(nn.Module):
    """DEE: [B, C, H, W] -> [3 B, C, H, W]: the map, and two made of it by dilated convolutions; then dropout."""

    def __init__(self, channels: int, dropout: float = 0.01):
        super().__init__()
        inner = channels // 4
        for branch in (1, 2):
            for dilation in (1, 2, 3):
                spread = nn.Conv2d(channels, inner, 3, padding=dilation, dilation=dilation, bias=False)
                self.add_module(f"FC{branch}{dilation}", spread)
            self.add_module(f"FC{branch}", nn.Conv2d(inner, channels, kernel_size=1))
        for module in self.children():
            nn.init.kaiming_normal_(module.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        # Both branches' convolutions of one dilation are one, so that the map is read three times instead of six.
        summed = sum(
            F.conv2d(x, torch.cat([self.spread(branch, d).weight for branch in (1, 2)]), padding=d, dilation=d)
            for d in (1, 2, 3)
        )
        first, second = F.relu(summed / 3).chunk(2, dim=1)
        return self.dropout(torch.cat([x, self.FC1(first), self.FC2(second)]))

    def spread(self, branch: int, dilation: int) -> nn.Conv2d:
        return getattr(self, f"FC{branch}{dilation}")

"""Modality Distribution Adapter (MCJA, IEEE TCSVT 2024, doi 10.1109/TCSVT.2024.3377252; docs/method.md, 3).

x + BN(g x), g = sigmoid(BN(sum over m of w_m s_m)), s_m = sum over positions of softmax(conv(x))_m x.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.modules.norm import BatchNorm2d


class ModalityDistributionAdapter(nn.Module):
    """Residual channel re-weighting from M spatially masked sums: [B, C, H, W] -> [B, C, H, W].

    At the start it is the identity (the last batch norm's weight and bias are 0). Parameter names and shapes are those
    of published checkpoints. Raises ValueError in training mode for a batch of one, as batch norm does.
    """

    def __init__(self, in_channels: int, num_masks: int):
        super().__init__()
        self.sc_conv = nn.Conv2d(in_channels, num_masks, kernel_size=1)
        self.ca_conv = nn.Conv1d(in_channels, in_channels, kernel_size=num_masks, groups=in_channels, bias=False)
        self.ca_bn = nn.BatchNorm1d(in_channels)
        self.norm_bn = BatchNorm2d(in_channels)
        nn.init.zeros_(self.norm_bn.weight)
        nn.init.zeros_(self.norm_bn.bias)

    def forward(self, x: Tensor) -> Tensor:
        masks = self.sc_conv(x).flatten(2).softmax(dim=2)  # [B, M, HW]
        sums = torch.bmm(x.flatten(2), masks.to(x.dtype).transpose(1, 2))  # [B, C, M]
        # The depth-wise convolution has one output position: a weighted sum over the masks.
        combined = (sums * self.ca_conv.weight[:, 0]).sum(dim=2)  # [B, C]
        gate = self.ca_bn(combined).sigmoid()[:, :, None, None].to(x.dtype)  # no widening under mixed precision
        return x + self.norm_bn(gate * x) if self.training else self._trained(x, gate)

    def _trained(self, x: Tensor, gate: Tensor) -> Tensor:
        """The same in eval mode, in one pass over x: a norm with fixed statistics is a scale and a shift."""
        norm = self.norm_bn
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        factor = 1 + gate * scale[:, None, None]
        return torch.addcmul(shift[:, None, None].to(x.dtype), x, factor.to(x.dtype))

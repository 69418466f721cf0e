"""Batch norm of maps, as torch's, whose statistics are right to rounding in every memory layout."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, [R, C, H, W] -> [R, C, H, W], but for float32 batches that lie channels_last on a CPU.

    Of these torch 2.14 adds up a channel's values one after another in float32; over the 150,000 values of a channel
    that eight images have after the first layer, three of seven digits are lost. Here they are summed pairwise.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.momentum is not None and self.track_running_stats and summed_in_a_row(x)):
            return super().forward(x)
        out, mean, variance = Normalised.apply(x, self.weight, self.bias, self.eps)
        count = x.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return out


def summed_in_a_row(x: Tensor) -> bool:
    """Whether torch would add up the values of a channel one after another in float32, [R, C, H, W]."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return last and x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > x.shape[1]


class Normalised(torch.autograd.Function):
    """(x, weight, bias, eps) -> (weight (x - mean) / sqrt(variance + eps) + bias, mean [C], variance [C] by n)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dim=(0, 2, 3))
        variance = (x - mean[:, None, None]).square_().mean(dim=(0, 2, 3))
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        gradient, needed = gradient.contiguous(memory_format=torch.channels_last), list(ctx.needs_input_grad[:3])
        backward = torch.ops.aten.native_batch_norm_backward
        return *backward(gradient, x, weight, None, None, mean, scale, True, ctx.eps, needed), None

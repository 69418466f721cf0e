"""A trained network in the form that embeds fastest: batch norms folded into convolutions."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.backbones.streams import Stem
from utils.errors import reason
from utils.logging import logger

NORMED = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))


def folded(model: nn.Module, autocast: bool = False) -> nn.Module:
    """A copy of `model` in eval mode that computes the same, but for rounding; the batch norms of its ResNets are gone.

    In eval mode a batch norm is a scale and a shift of each channel, which the convolution before it can make. On a CPU
    the convolutions make ReLU and the sum with the shortcut too. autocast: the copy will run in mixed precision.
    """
    copied = copy.deepcopy(model).eval()
    for module in list(copied.modules()):
        if isinstance(module, (ResNet, Stem, BasicBlock, Bottleneck)):
            _fold(module)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, (BasicBlock, Bottleneck)) and not autocast and can_fuse(child.conv1.weight):
                setattr(module, name, FusedBlock(child))
    return copied


def can_fuse(weight: Tensor) -> bool:
    """Whether torch has oneDNN's convolutions that end in a sum or a ReLU for such a weight."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return there and weight.device.type == "cpu" and weight.dtype == torch.float32 and fused_blocks_work()


@cache
def fused_blocks_work() -> bool:
    """Whether they give what a plain block gives, tried on a small one.

    Torch promises nothing; Inductor alone uses them.
    """
    with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay what they are
        torch.manual_seed(0)
        block, x = BasicBlock(2, 2).eval(), torch.randn(1, 2, 3, 3)
    _fold(block)
    try:
        with torch.inference_mode():
            works = torch.allclose(FusedBlock(block)(x), block(x), rtol=1e-4, atol=1e-5)
        why = "other results"
    except Exception as error:  # another signature, another library
        works, why = False, reason(error)
    if not works:
        logger.warning(f"oneDNN's fused convolutions cannot be used ({why}); embedding is somewhat slower without them")
    return works


class FusedBlock(nn.Module):
    """A folded residual block whose convolutions apply ReLU and add the shortcut while they write their result."""

    def __init__(self, block: BasicBlock | Bottleneck):
        super().__init__()
        convolutions = [getattr(block, name) for name, _ in NORMED if hasattr(block, name)]
        self.inner, self.last = nn.ModuleList(convolutions[:-1]), convolutions[-1]
        self.downsample = block.downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        for convolution in self.inner:
            x = torch.ops.mkldnn._convolution_pointwise(x, *_arguments(convolution), "relu", [], "")
        if shortcut.shape[2:] == (1, 1):  # torch 2.6 refuses the sum of such maps in channels_last
            return functional.relu(self.last(x) + shortcut)
        end = ("add", 1.0, "relu", [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(x, shortcut, *_arguments(self.last), *end)


def _arguments(convolution: nn.Conv2d) -> tuple:
    c = convolution
    return c.weight, c.bias, c.padding, c.stride, c.dilation, c.groups


def _fold(module: ResNet | Stem | BasicBlock | Bottleneck) -> None:
    for convolution, norm in NORMED:
        if hasattr(module, norm):
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
    shortcut = getattr(module, "downsample", None)
    if shortcut is not None:
        module.downsample = fuse_conv_bn_eval(*shortcut)

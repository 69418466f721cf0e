"""torchvision's ResNets as four stages, and the weights that they start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import ResNet, WeightsEnum, resnet

from models.modules.norm import BatchNorm2d
from utils.errors import UserError, reason
from utils.processes import machine_first
from utils.tensors import load_weights


class Architecture(NamedTuple):
    make: Callable[..., ResNet]
    imagenet: WeightsEnum  # always V1, which the published results start from


RESNETS = {
    "resnet18": Architecture(resnet.resnet18, resnet.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": Architecture(resnet.resnet34, resnet.ResNet34_Weights.IMAGENET1K_V1),
    "resnet50": Architecture(resnet.resnet50, resnet.ResNet50_Weights.IMAGENET1K_V1),
    "resnet101": Architecture(resnet.resnet101, resnet.ResNet101_Weights.IMAGENET1K_V1),
}


def build_resnet(architecture: Architecture, drop_last_stride: bool) -> ResNet:
    """A ResNet with random weights; drop_last_stride sets the last stage's stride to 1, without dilation.

    The classifier `fc` is never run; it stays, frozen, because published checkpoints hold it.
    """
    network = architecture.make(weights=None, norm_layer=BatchNorm2d)
    if drop_last_stride:
        first = network.layer4[0]
        for module in (first.conv1, first.conv2, first.downsample[0]):
            if module.stride == (2, 2):
                module.stride = (1, 1)
    network.fc.requires_grad_(False)
    return network


def stage_width(stage: nn.Sequential) -> int:
    """Channels of the maps that a stage gives."""
    block = stage[-1]
    return getattr(block, "bn3", block.bn2).num_features


def load_pretrained(network: ResNet, architecture: Architecture, source: str) -> None:
    """Fill the network from `source`: "imagenet" (downloaded once by torchvision), "none", or a state-dict file.

    Raises UserError where the weights cannot be had or do not fit.
    """
    if source == "none":
        return
    state = _imagenet(architecture.imagenet) if source == "imagenet" else load_weights(Path(source))
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own]
    if wrong:
        raise UserError(f"pretrained = {source}: does not fit the backbone in {len(wrong)} entries, first {wrong[0]}")
    network.load_state_dict(state, strict=False)


def _imagenet(weights: WeightsEnum) -> dict[str, torch.Tensor]:
    try:
        with machine_first():
            return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise UserError(
            f"pretrained = imagenet: {weights.url} could not be downloaded ({reason(error)}); fetch it elsewhere and "
            f"put it at {place}, or set pretrained to a file or to none"
        ) from None

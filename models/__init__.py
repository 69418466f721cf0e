"""Models, built from the configuration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import ResNet
from yacs.config import CfgNode

from models.backbones.resnet import RESNETS, build_resnet, load_pretrained
from models.mcja import MCJA
from utils.errors import pick


def build_model(cfg: CfgNode, num_ids: int) -> nn.Module:
    """The configured model for `num_ids` training identities, on the CPU.

    It gives `forward(images [R, 3, H, W], streams [R]) -> Output`, `embed(images, modalities [R]) -> [R, D]`, `groups()`
    and `HEAD`, the names of the parameters that another number of identities changes. Raises UserError for an unknown
    model or backbone, impossible keys, or weights that cannot be had.
    """
    model = pick(MODELS, cfg.model, "model")(cfg, num_ids)
    # Convolutions are fastest on maps whose channels lie together; their weights' layout decides for the whole network.
    return model.to(memory_format=torch.channels_last)


def build_backbone(cfg: CfgNode) -> ResNet:
    """The configured ResNet, which starts from `pretrained` unless `resume` says that a checkpoint will replace it."""
    architecture = pick(RESNETS, cfg.backbone, "backbone")
    backbone = build_resnet(architecture, drop_last_stride=cfg.drop_last_stride)
    if not cfg.resume:
        load_pretrained(backbone, architecture, cfg.pretrained)
    return backbone


def build_mcja(cfg: CfgNode, num_ids: int) -> MCJA:
    return MCJA(build_backbone(cfg), num_ids, cfg.mda_layers, mda_masks=cfg.mda_m, recompute=cfg.grad_checkpoint)


MODELS: dict[str, Callable[[CfgNode, int], nn.Module]] = {"mcja": build_mcja}

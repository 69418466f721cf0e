"""Models, built from the configuration."""

from __future__ import annotations

import torch
from torch import nn
from yacs.config import CfgNode

from models.backbones.resnet import RESNETS, build_resnet, load_pretrained
from models.mcja import MCJA
from utils.errors import pick


def build_model(cfg: CfgNode, num_ids: int) -> nn.Module:
    """The configured model for `num_ids` training identities, on the CPU: images [B, 3, H, W] -> Output.

    The backbone starts from `pretrained`, except when `resume` says that a checkpoint will replace it.
    Raises UserError for an unknown backbone, impossible mda_layers, or weights that cannot be had.
    """
    architecture = pick(RESNETS, cfg.backbone, "backbone")
    backbone = build_resnet(architecture, drop_last_stride=cfg.drop_last_stride)
    if not cfg.resume:
        load_pretrained(backbone, architecture, cfg.pretrained)
    model = MCJA(backbone, num_ids, cfg.mda_layers, mda_masks=cfg.mda_m, recompute=cfg.grad_checkpoint)
    # Convolutions are fastest on maps whose channels lie together; their weights' layout decides for the whole network.
    return model.to(memory_format=torch.channels_last)

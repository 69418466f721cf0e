"""Models, built from the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import ResNet
from yacs.config import CfgNode

from models.agw import AGW
from models.backbones.resnet import RESNETS, build_resnet, load_pretrained
from models.deen import DEEN
from models.djanet import DJANet
from models.ivreid import IVReID
from models.mcja import MCJA
from models.mclnet import MCLNet
from utils.errors import UserError, pick


def build_model(cfg: CfgNode, num_ids: int) -> nn.Module:
    """The configured model for `num_ids` training identities, on the CPU.

    It gives `forward(images [R, 3, H, W], streams [R]) -> Output`, `embed(images, modalities [R]) -> [R, D]`,
    `groups()` and `HEAD`, the names of the parameters that another number of identities changes. Raises UserError for
    an unknown model or backbone, impossible keys, or weights that cannot be had.
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


def build_agw(cfg: CfgNode, num_ids: int) -> AGW:
    return AGW(build_backbone(cfg), num_ids, **build_options(cfg), streams=2 if cfg.private_stem else 1)


def build_mclnet(cfg: CfgNode, num_ids: int) -> MCLNet:
    return MCLNet(build_backbone(cfg), num_ids, **build_options(cfg), streams=2 if cfg.private_stem else 1)


def build_djanet(cfg: CfgNode, num_ids: int) -> DJANet:
    if any(side % 16 for side in cfg.image_size):
        raise UserError(f"image_size = {tuple(cfg.image_size)}: model djanet needs multiples of 16")
    return DJANet(build_backbone(cfg), num_ids, cfg.image_size, **build_options(cfg, ("neck", "pool", "s7", "s8")))


def build_deen(cfg: CfgNode, num_ids: int) -> DEEN:
    for part in (4, 8, 16)[: cfg.deen_stages - 1]:  # of the maps that its position attention cuts into halves
        height, width = (math.ceil(side / part) for side in cfg.image_size)
        if height * width % 2:
            raise UserError(
                f"image_size = {tuple(cfg.image_size)}: model deen has a map of {height} x {width} then and needs even "
                "numbers of positions; give a multiple of 32 for one side"
            )
    options = {
        "vector": _vector(cfg.vector, cfg.model, ("s7", "s8", "neck", "pool")),
        "flip": True if cfg.flip is None else cfg.flip,
    }
    return DEEN(build_backbone(cfg), num_ids, depth=cfg.deen_stages, recompute=cfg.grad_checkpoint, **options)


def build_ivreid(cfg: CfgNode, num_ids: int) -> IVReID:
    return IVReID(build_backbone(cfg), num_ids, cfg.stem_relu, cfg.conv_bias, recompute=cfg.grad_checkpoint)


def build_options(cfg: CfgNode, vectors: tuple[str, ...] = ("neck", "pool")) -> dict[str, Any]:
    """What AGW and its heirs are built with; the first of `vectors` is the published one."""
    return {
        "inner": cfg.non_local,
        "power": cfg.gem_p,
        "vector": _vector(cfg.vector, cfg.model, vectors),
        "flip": bool(cfg.flip),
        "recompute": cfg.grad_checkpoint,
    }


def _vector(asked: str | None, model: str, choices: tuple[str, ...]) -> str:
    """The test vector that is asked for, or the published one, which is the first of the choices."""
    if asked not in (None, *choices):
        raise UserError(f"vector = {asked}: model {model} has {', '.join(choices)}")
    return asked or choices[0]


MODELS: dict[str, Callable[[CfgNode, int], nn.Module]] = {
    "mcja": build_mcja,
    "agw": build_agw,
    "mclnet": build_mclnet,
    "deen": build_deen,
    "djanet": build_djanet,
    "ivreid": build_ivreid,
}


def build_shape(cfg: CfgNode, num_ids: int = 2) -> nn.Module:
    """The configured model without numbers: parameters have shapes only, and no weights are read."""
    bare = cfg.clone()
    bare.defrost()
    bare.pretrained = "none"
    with torch.device("meta"):
        return pick(MODELS, bare.model, "model")(bare, num_ids)


def released_names(cfg: CfgNode) -> dict[str, str]:
    """{name in the configured method's released checkpoints: name here}; names that nothing uses are absent."""
    return build_shape(cfg).released_names()

"""Augmentations: what a training batch becomes, by name. Only the build_* functions read the configuration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from yacs.config import CfgNode

from data.augmentation.mcja import COLOUR_PARTS, Recipe, augment
from utils.types import Batch, Views

# (batch, its images uint8 on the device; generator of the CPU) -> its views, on the device
Augmentation = Callable[[Batch, torch.Generator], Views]


def build_mcja(cfg: CfgNode) -> Augmentation:
    """One view of each record, which takes the entrance of its modality (MCJA)."""
    recipe = build_recipe(cfg)

    def mcja(batch: Batch, generator: torch.Generator) -> Views:
        images = augment(batch.images, batch.modalities, recipe, generator, batch.own)
        return Views(images, torch.arange(len(batch.pids)), batch.modalities)

    return mcja


def build_recipe(cfg: CfgNode) -> Recipe:
    """What of MCJA's augmentation is on."""
    switches = (cfg.color_jitter, cfg.vimc_wg, cfg.vimc_cc, cfg.vimc_sj)
    return Recipe(
        colour=frozenset(part for part, on in zip(COLOUR_PARTS, switches) if on),
        flip=cfg.random_flip,
        crop=cfg.random_crop,
        padding=cfg.padding,
        erase=cfg.random_erase,
        cc_released=cfg.vimc_cc_released,
    )


# name -> (cfg) -> augmentation
AUGMENTATIONS: dict[str, Callable[[CfgNode], Augmentation]] = {"mcja": build_mcja}

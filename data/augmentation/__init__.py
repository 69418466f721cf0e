"""Augmentations: what a training batch becomes, by name. Only the build_* functions read the configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from yacs.config import CfgNode

from data.augmentation import recipes
from data.augmentation.looks import Look, Looks, make_views
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


def build_looks(looks: Looks, cfg: CfgNode) -> Augmentation:
    """A method's looks at each record, without what is switched off and with the configured chances."""
    kept, area = (None if cfg.second_views else 1), (cfg.erase_least, cfg.erase_most)
    changed = partial(_changed, erases=cfg.random_erase, chance=cfg.erase_chance, area=area)
    asked = Looks(
        visible=tuple(changed(_greyed(look, cfg.grey_chance)) for look in looks.visible[:kept]),
        infrared=tuple(changed(look) for look in looks.infrared[:kept]),
        padding=cfg.padding if cfg.random_crop else 0,
        flip=cfg.random_flip,
    )
    return partial(make_views, looks=asked)


def _greyed(look: Look, chance: float | None) -> Look:
    """With this chance of grey, but where one channel is copied to all anyway."""
    return look if chance is None or look.mixing == "exchange" else look._replace(grey=chance)


def _changed(look: Look, erases: bool, chance: float | None, area: tuple[float | None, float | None]) -> Look:
    """With this chance and share of the erased rectangle; None: the look's own."""
    own = look.erasing
    if own is None or not erases:
        return look._replace(erasing=None)
    shares = tuple(mine if share is None else share for share, mine in zip(area, own.area))
    return look._replace(erasing=own._replace(area=shares, chance=own.chance if chance is None else chance))


# name -> (cfg) -> augmentation
AUGMENTATIONS: dict[str, Callable[[CfgNode], Augmentation]] = {
    "mcja": build_mcja,
    **{name: partial(build_looks, looks) for name, looks in recipes.LOOKS.items()},
}

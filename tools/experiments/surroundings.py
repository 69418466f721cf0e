"""What runs depend on beside their configuration: the GPUs they are given, their images, their precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from yacs.config import CfgNode

from data.build import build_benchmark, data_root, describe, infrared_root
from engine.optim import precision
from utils.device import parse_device
from utils.errors import UserError
from utils.logging import logger


def slots_of(device: str | None, jobs: int, elsewhere: bool) -> list[str]:
    """What each of the runs at a time is told as --gpu. device: None is the first GPU. elsewhere: on other machines."""
    if jobs < 1:
        raise UserError("--jobs 0: give 1 or more")
    first = parse_device(device or "0")
    if first.type != "cuda":
        return [first.type] * jobs
    number = first.index or 0
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count and number + jobs > count and not elsewhere:
        raise UserError(f"--device {device or 0} --jobs {jobs}: there are {count} GPUs, numbered from 0")
    return [str(number + place) for place in range(jobs)]


def data_fingerprints() -> Callable[[CfgNode, int], str]:
    """The fingerprint of a configuration's images, each data set and split read once."""
    known: dict[tuple, str] = {}

    def fingerprint(cfg: CfgNode, seed: int) -> str:
        key = (cfg.dataset, data_root(cfg), infrared_root(cfg), cfg.trial, cfg.select == "val" and seed)
        if key not in known:
            known[key] = describe(cfg, build_benchmark(cfg, seed), {})["fingerprint"]
        return known[key]

    return fingerprint


def precision_of(slot: str) -> Callable[[CfgNode], str]:
    """What the runs of a configuration compute in. slot: what their --gpu is told; "auto" where that is not here."""
    device = parse_device(slot)
    here = device.type != "cuda" or torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()

    def name(cfg: CfgNode) -> str:
        if not here and cfg.fp16 and cfg.amp_dtype == "auto":
            logger.warning(
                f"--device {slot}: no such GPU is here, so what amp_dtype auto means is not known; runs of another "
                "machine are found if amp_dtype is given, bf16 or fp16"
            )
            return "auto"
        return str(precision(cfg.fp16, cfg.amp_dtype, device) or torch.float32).removeprefix("torch.")

    return name

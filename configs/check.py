"""Rules that one key, or several together, must keep."""

from __future__ import annotations

import math
from collections.abc import Iterator

from yacs.config import CfgNode

from configs.defaults import KEYS
from utils.errors import UserError

AT_LEAST = {
    "p_size": 1, "k_size": 1, "batch_size": 1, "test_batch_size": 1, "padding": 0, "mda_m": 1, "num_epoch": 0, "log_period": 1,
    "start_eval": 0, "eval_interval": 0, "num_workers": 0, "mser_k1": 1, "mser_k2": 1, "wd": 0, "num_id": 1,
    "num_cam": 1,
}  # fmt: skip
PAIRED_SAMPLERS = ("cross_modality_identity", "identity_cross_modality")


def check(cfg: CfgNode) -> None:
    """Raise one UserError that names every violated rule."""
    errors = [*_single_keys(cfg), *_between_keys(cfg)]
    if errors:
        raise UserError("configuration: " + "; ".join(errors))


def cautions(cfg: CfgNode) -> list[str]:
    """What is allowed but probably not meant, one line each."""
    if cfg.mda_ratio != 2:
        return [f"mda_ratio = {cfg.mda_ratio} has no effect (nor has it in the released model)"]
    return []


def _single_keys(cfg: CfgNode) -> Iterator[str]:
    for name, least in AT_LEAST.items():
        if cfg[name] is not None and not cfg[name] >= least:
            yield f"{name} = {cfg[name]}: must be at least {least}"
    for key in KEYS.values():
        if key.choices and cfg[key.name] not in key.choices:
            yield f"{key.name} = {cfg[key.name]!r}: choose one of {', '.join(key.choices)}"
    for name in ("lr", "cmr_strength", "eval_memory_gb"):
        if not cfg[name] > 0:
            yield f"{name} = {cfg[name]}: must be a positive number"
    for name in ("lr", "cmr_strength", "wd", "eval_memory_gb"):
        if cfg[name] == math.inf:
            yield f"{name} = {cfg[name]}: must be finite"
    if cfg.mser_lambda is not None and not 0 <= cfg.mser_lambda <= 1:
        yield f"mser_lambda = {cfg.mser_lambda}: must lie in 0..1"
    if not cfg.cache_dir:
        yield "cache_dir is empty: name a folder"
    if not 1 <= cfg.trial <= 10:
        yield f"trial = {cfg.trial}: RegDB's splits are 1..10"
    if len(cfg.image_size) != 2 or min(cfg.image_size) < 32:
        yield f"image_size = {cfg.image_size}: give (height, width), each at least 32 pixels"
    if len(cfg.mda_layers) != 4 or min(cfg.mda_layers, default=0) < 0:
        yield f"mda_layers = {cfg.mda_layers}: give four numbers, one per stage, each 0 or more"
    if list(cfg.lr_step) != sorted(set(cfg.lr_step)) or min(cfg.lr_step, default=1) < 1:
        yield f"lr_step = {cfg.lr_step}: give epochs in ascending order, from 1"


def _between_keys(cfg: CfgNode) -> Iterator[str]:
    if cfg.sample_method in PAIRED_SAMPLERS and cfg.k_size % 2:
        yield f"k_size = {cfg.k_size}: must be even with sample_method {cfg.sample_method} (half of each modality)"
    if cfg.sample_method == "cross_modality_random" and cfg.batch_size % 2:
        yield f"batch_size = {cfg.batch_size}: must be even with sample_method cross_modality_random"
    if not (cfg.loss_id or cfg.loss_cmr):
        yield "loss_id and loss_cmr are both off: nothing to train on"
    if cfg.test_only and not cfg.resume:
        yield "test_only needs `resume`: the run folder or checkpoint to test"

"""Training and evaluation, built from the configuration. Only the build_* functions read it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from data import build_recipe, build_test_loader
from data.augment import augment
from engine.checkpoint import Checkpoint, Origin, restore
from engine.distributed import attach_statistics, synchronise_norms
from engine.evaluator import Evaluator
from engine.handlers import attach_epochs, attach_guard, attach_log, attach_tensorboard
from engine.optim import adam, align, follow, gradient_scaler, precision, step_schedule
from engine.retrieval.protocols import rankers
from engine.trainer import create_trainer
from engine.training import Progress, Schedule, Training
from losses import Criterion
from utils.logging import logger
from utils.processes import alone, me
from utils.runs import LAST, TENSORBOARD
from utils.seeding import RandomStates
from utils.types import Benchmark, Modality, MserDefaults, Split

PROGRESS_KEYS = ("num_epoch", "eval_initial", "start_eval", "eval_interval", "select")


def build_evaluator(cfg: CfgNode, benchmark: Benchmark, split: Split, device: torch.device) -> Evaluator:
    """An evaluator of one split, with every ranking."""
    loaders = {modality: build_test_loader(cfg, benchmark, split, modality, device) for modality in Modality}
    given = (cfg.mser_k1, cfg.mser_k2, cfg.mser_lambda, cfg.mser_queries_only)
    mser = MserDefaults(*(own if value is None else value for value, own in zip(given, benchmark.mser)))
    dtype = precision(cfg.fp16 and cfg.eval_amp, cfg.amp_dtype, device)
    return Evaluator(
        split, loaders, rankers(mser), benchmark.excluded, benchmark.trial, device, cfg.eval_memory_gb, dtype
    )


def rankings(cfg: CfgNode) -> Sequence[str]:
    """The rankings of the final test."""
    return ["cosine", "mser"] if cfg.mser else ["cosine"]


def origin_of(cfg: CfgNode, benchmark: Benchmark, seed: int) -> Origin:
    """What this run's checkpoints say about it."""
    return Origin(seed, benchmark.name, benchmark.trial, benchmark.num_ids, cfg.select, dict(cfg))


def build_training(
    cfg: CfgNode,
    benchmark: Benchmark,
    model: nn.Module,
    loader: DataLoader,
    criterion: Criterion,
    test: Evaluator,
    folder: Path,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None,
) -> Training:
    """A run in `folder`, new or going on with a checkpoint's states. `model` is on the device, its weights loaded."""
    model = synchronise_norms(model, device)
    optimizer = adam(model, cfg.lr, cfg.wd)
    dtype = precision(cfg.fp16, cfg.amp_dtype, device)
    scaler = gradient_scaler(device, dtype)
    generator = torch.Generator()
    if cfg.compile and not alone():
        logger.warning("compile: not with several processes; training goes on without it")
    trainer = create_trainer(
        model,
        criterion,
        optimizer,
        scaler,
        partial(augment, recipe=build_recipe(cfg), generator=generator),
        device,
        dtype,
        cfg.compile and alone(),
    )
    names = ("loss", *criterion.terms)
    attach_epochs(trainer, loader.batch_sampler, generator, seed)
    attach_statistics(trainer, model)
    rescue = partial(_rescue, folder)
    attach_guard(trainer, model, names, every=1 if device.type == "cpu" else cfg.log_period, rescue=rescue)
    attach_log(trainer, optimizer, (*names, "accuracy"), cfg.log_period, cfg.num_epoch, device)
    report = attach_tensorboard(trainer, optimizer, (*names, "accuracy"), folder / TENSORBOARD)
    parts = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": step_schedule(optimizer, cfg.lr_step),
        "scaler": scaler,
        "progress": Progress(),
        "rng": RandomStates(),
    }
    if checkpoint is not None:
        restore(parts, checkpoint)
        align(optimizer)
        follow(parts["scheduler"], cfg.lr, cfg.wd)
    schedule = Schedule(*(cfg[key] for key in PROGRESS_KEYS))
    selection = test if benchmark.validation is None else build_evaluator(cfg, benchmark, benchmark.validation, device)
    where = device if alone() else f"{me().world} processes, {device.type}"
    logger.info(f"{len(loader.batch_sampler)} batches in epoch 1, {dtype or torch.float32}, {where}")
    origin = origin_of(cfg, benchmark, seed)
    selection = selection.narrowed(selection.split.quick)
    return Training(trainer, loader, parts, schedule, test, selection, folder, origin, report)


def _rescue(folder: Path) -> str:
    last = folder / LAST
    return f"the last good state is {last}; resume from it with a lower lr" if last.is_file() else "lower lr"

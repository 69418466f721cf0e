"""Training and evaluation, built from the configuration. Only the build_* functions read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from torch import nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from data.build import build_augmentation, build_test_loader
from engine.average import Average
from engine.checkpoint import Checkpoint, Origin
from engine.distributed import attach_statistics, synchronise_norms
from engine.evaluator import Evaluator
from engine.handlers import attach_epochs, attach_guard, attach_log, attach_tensorboard
from engine.optim import OPTIMIZERS, Optimizers, build_factor, precision
from engine.retrieval.rankers import DEFAULT, PLAIN, rankers, require_rankers
from engine.run import Progress, Schedule, Training
from engine.saving import keep_best
from engine.states import restore
from engine.step import STEPS, Learner, Step, create_learner, create_trainer
from losses import build_criterion
from utils.errors import UserError, pick
from utils.logging import logger
from utils.processes import alone, me, on_main
from utils.runs import LAST, TENSORBOARD
from utils.seeding import RandomStates
from utils.types import Benchmark, Group, Modality, MserDefaults, ResultRow, Split


def build_evaluator(cfg: CfgNode, benchmark: Benchmark, split: Split, device: torch.device) -> Evaluator:
    """An evaluator of one split, with the rankers of training and of the final test."""
    loaders = {modality: build_test_loader(cfg, benchmark, split, modality, device) for modality in Modality}
    mser = build_mser(cfg, benchmark)
    dtype = precision(cfg.fp16 and cfg.eval_amp, cfg.amp_dtype, device)
    return Evaluator(
        split,
        loaders,
        rankers({PLAIN, *rankings(cfg)}, mser),
        benchmark.excluded,
        benchmark.trial,
        device,
        cfg.eval_memory_gb,
        dtype,
    )


def build_mser(cfg: CfgNode, benchmark: Benchmark) -> MserDefaults | None:
    """MSER's parameters: the configured ones, else the data set's own; None where one is not known."""
    given = (cfg.mser_k1, cfg.mser_k2, cfg.mser_lambda, cfg.mser_queries_only)
    own = benchmark.mser or (None,) * len(given)
    values = [published if value is None else value for value, published in zip(given, own)]
    return None if None in values else MserDefaults(*values)


def rankings(cfg: CfgNode) -> Sequence[str]:
    """The names of the rankers of the final test. UserError for one that is unknown or comes twice."""
    require_rankers("rankers", cfg.rankers)
    return cfg.rankers or (DEFAULT if cfg.mser else (PLAIN,))


def build_training(
    cfg: CfgNode,
    benchmark: Benchmark,
    model: nn.Module,
    loader: DataLoader,
    test: Evaluator,
    folder: Path,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None,
) -> Training:
    """A run in `folder`, new or resumed with a checkpoint's states. `model` is on the device, its weights loaded."""
    generator = torch.Generator()
    learner = build_learner(cfg, benchmark, model, generator, device)
    trainer = create_trainer(learner, build_step(cfg))
    attach_epochs(trainer, loader.batch_sampler, generator, seed)
    report = build_handlers(cfg, trainer, learner, folder, device)
    parts = build_parts(cfg, trainer, learner)
    if checkpoint is not None:
        restore(parts, checkpoint)
        learner.optimizers.follow(cfg.lr, cfg.wd)
        if cfg.ema and not checkpoint.states["ema"]:
            logger.warning(f"{checkpoint.path}: holds no averaged weights (ema): the average starts with its weights")
        logger.info(f"resumes after epoch {checkpoint.epoch}, from {checkpoint.path}")
        if checkpoint.path == folder / LAST and 0 < parts["progress"].best_epoch == checkpoint.epoch:
            on_main(partial(keep_best, folder))  # a killed run may have come no further than the last one
    selection = test if benchmark.validation is None else build_evaluator(cfg, benchmark, benchmark.validation, device)
    selection = selection.narrowed(selection.split.quick)
    schedule = Schedule(cfg.num_epoch, cfg.eval_initial, cfg.start_eval, cfg.eval_interval, cfg.select)
    where = device if alone() else f"{me().world} processes, {device.type}"
    logger.info(f"{len(loader.batch_sampler)} batches in epoch 1, {learner.dtype or torch.float32}, {where}")
    origin = Origin(seed, benchmark.name, benchmark.trial, benchmark.num_ids, cfg.select, dict(cfg))
    return Training(trainer, loader, parts, schedule, test, selection, folder, origin, report)


def build_parts(cfg: CfgNode, trainer: Engine, learner: Learner) -> dict[str, Any]:
    """The named states of a checkpoint, as a training starts; any average of the weights follows the trainer."""
    parts: dict[str, Any] = {
        "model": learner.model,
        "criterion": learner.criterion,
        "optimizer": learner.optimizers,
        "scheduler": learner.optimizers.schedule,
        "scaler": learner.scaler,
        "progress": Progress(),
        "rng": RandomStates(),
    }
    if cfg.ema:
        parts["ema"] = average = Average(learner.model, cfg.ema)
        average.attach(trainer)
    return parts


def build_learner(
    cfg: CfgNode, benchmark: Benchmark, model: nn.Module, generator: torch.Generator, device: torch.device
) -> Learner:
    """What a step works with: network, criterion, optimisers and augmentation, which draws from `generator`."""
    if cfg.compile and not alone():
        logger.warning("compile: not with several processes; training does without it")
    model = synchronise_norms(model, device)
    criterion = build_criterion(cfg, benchmark.num_ids).to(device)
    optimizers = build_optimizers(cfg, model, criterion)
    augmentation = partial(build_augmentation(cfg), generator=generator)  # type: ignore[call-arg]
    dtype = precision(cfg.fp16, cfg.amp_dtype, device)
    return create_learner(model, criterion, optimizers, augmentation, device, dtype, cfg.compile and alone())


def build_handlers(
    cfg: CfgNode, trainer: Engine, learner: Learner, folder: Path, device: torch.device
) -> Callable[[ResultRow], None]:
    """Guard, log and curves of a training. Returns what adds a row of results to the curves."""
    names, optimizers = ("loss", *learner.criterion.terms), learner.optimizers
    attach_statistics(trainer, learner.model)
    every = 1 if device.type == "cpu" else cfg.log_period
    modules = (learner.model, learner.criterion)
    attach_guard(trainer, modules, tuple(optimizers.each.values()), names, every, partial(_rescue, folder))
    attach_log(trainer, optimizers.rates, (*names, "accuracy"), cfg.log_period, cfg.num_epoch, device)
    return attach_tensorboard(trainer, optimizers.rates, (*names, "accuracy"), folder / TENSORBOARD)


def build_optimizers(cfg: CfgNode, model: nn.Module, criterion: nn.Module) -> Optimizers:
    """The model's parameter groups, and what the losses train, under the configured optimiser and schedule."""
    learned = [parameter for parameter in criterion.parameters() if parameter.requires_grad]
    groups = {**model.groups(), "criterion": Group(learned)}
    make = pick(OPTIMIZERS, cfg.optimizer, "optimizer")
    return Optimizers(groups, make, cfg.lr, cfg.wd, build_factor(cfg))


def build_step(cfg: CfgNode) -> Step:
    """What an iteration does; of several processes, only the plain step is shared out."""
    if cfg.step != "plain" and not alone():
        raise UserError(f"step = {cfg.step}: only the plain step runs in several processes; start one")
    return pick(STEPS, cfg.step, "step")


def _rescue(folder: Path) -> str:
    last = folder / LAST
    return f"the last good state is {last}; resume from it with a lower lr" if last.is_file() else "lower lr"

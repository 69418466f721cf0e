"""What hangs on the trainer's events: epochs, log lines, curves, and the guard against divergence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from ignite.engine import CallableEventWithFilter, Engine, Events, State
from ignite.handlers import ProgressBar
from ignite.metrics import Average
from torch import Tensor, nn
from torch.optim import Optimizer

from data.samplers import EpochBatchSampler
from engine.curves import Curves
from utils.device import with_float64
from utils.errors import UserError
from utils.logging import logger
from utils.processes import is_main
from utils.seeding import derive_seed
from utils.terminal import bar_options
from utils.types import ResultRow

Rates = Callable[[], Mapping[str, float]]  # the learning rate of each parameter group now


def attach_epochs(trainer: Engine, sampler: EpochBatchSampler, generator: torch.Generator, seed: int) -> None:
    """Draw each epoch's batches and seed its augmentation from (seed, epoch)."""

    @trainer.on(Events.EPOCH_STARTED)
    def start_epoch(engine: Engine) -> None:
        epoch = engine.state.epoch
        sampler.set_epoch(epoch)
        generator.manual_seed(derive_seed(seed, epoch))
        # Epochs differ in length. Ignite ends a run once iteration >= epoch_length * max_epochs, so the two must agree.
        engine.state.epoch_length = len(sampler)
        engine.state.iteration = (epoch - 1) * len(sampler)


def batches_done(state: State) -> int:
    """Batches of the current epoch that were trained on."""
    return state.iteration - (state.epoch - 1) * state.epoch_length


def in_epoch(every: int) -> CallableEventWithFilter:
    """Fires after every `every`-th iteration of an epoch (Ignite's own `every` counts from the start of the run)."""
    return Events.ITERATION_COMPLETED(event_filter=lambda engine, _: batches_done(engine.state) % every == 0)


def attach_guard(
    trainer: Engine,
    modules: Sequence[nn.Module],
    optimizers: Sequence[Optimizer],
    names: tuple[str, ...],
    every: int,
    rescue: Callable[[], str],
) -> None:
    """Stop with the epoch and the named losses if one is not finite, or, at an epoch's end, a weight, buffer or moment.

    Losses are watched on the device and read every `every` iterations and at the epoch's end, before anything is saved.
    rescue: says where the last good checkpoint is.
    """
    first: list[Tensor] = []  # the losses of the first bad iteration, or of the latest good one

    @trainer.on(Events.ITERATION_COMPLETED)
    def watch(engine: Engine) -> None:
        losses = torch.stack([engine.state.output[name] for name in names])
        first[:] = [torch.where(first[0].isfinite().all(), losses, first[0]) if first else losses]

    @trainer.on(in_epoch(every) | Events.EPOCH_COMPLETED)
    def check(engine: Engine) -> None:
        values = first[0].tolist()
        if not all(map(_finite, values)):
            shown = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values))
            raise UserError(f"epoch {engine.state.epoch}: training diverged ({shown}); {rescue()}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def check_state(engine: Engine) -> None:
        state = dict(_state(modules, optimizers))
        finite = torch.stack([value.isfinite().all() for value in state.values()])
        if not finite.all():
            name = list(state)[int(finite.int().argmin())]
            raise UserError(f"epoch {engine.state.epoch}: training diverged, {name} is not finite; {rescue()}")


def _state(modules: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> Iterator[tuple[str, Tensor]]:
    """Everything that a checkpoint keeps of the training, by name, on the model's device."""
    moments = {parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()}
    for module in modules:
        for name, parameter in module.named_parameters():
            yield name, parameter.detach()
            for kind, moment in moments.get(parameter, {}).items():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    yield f"{kind} of {name}", moment
        yield from module.named_buffers()


def attach_log(
    trainer: Engine, rates: Rates, names: tuple[str, ...], every: int, num_epoch: int, device: torch.device
) -> None:
    """A progress bar on a terminal, a log line every `every` iterations and one per epoch with the means and rates.

    The means are summed up on `device`, where the step leaves its output: nothing waits for it in between.
    """
    ProgressBar(**bar_options()).attach(trainer)
    for name in names:
        Average(output_transform=lambda output, name=name: output[name], device=with_float64(device)).attach(
            trainer, name
        )
    started = [0.0]

    @trainer.on(Events.EPOCH_STARTED)
    def start_clock(engine: Engine) -> None:
        started[0] = time.perf_counter()

    @trainer.on(in_epoch(every))
    def log_iteration(engine: Engine) -> None:
        state = engine.state
        logger.info(f"epoch {state.epoch} [{batches_done(state)}/{state.epoch_length}] {_shown(state.output, names)}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_epoch(engine: Engine) -> None:
        state, found = engine.state, rates()
        shown = " ".join((name if len(found) > 1 else "") + f" {rate:.3g}" for name, rate in found.items()).strip()
        seconds = time.perf_counter() - started[0]
        logger.info(
            f"epoch {state.epoch}/{num_epoch}: {_shown(state.metrics, names)}, lr {shown}, "
            f"{state.epoch_length} batches in {seconds:.1f} s"
        )


def attach_tensorboard(
    trainer: Engine, rates: Rates, names: tuple[str, ...], folder: Path
) -> Callable[[ResultRow], None]:
    """Curves of the epoch means and the learning rates. Returns what adds a row of results to them.

    Only the main process writes any.
    """
    if not is_main():
        return lambda row: None
    curves = Curves(folder)

    @trainer.on(Events.EPOCH_COMPLETED)
    def write(engine: Engine) -> None:
        means = {f"train/{name}": float(engine.state.metrics[name]) for name in names}
        found = rates()
        shown = {"train/lr" if len(found) == 1 else f"train/lr/{name}": rate for name, rate in found.items()}
        curves.add({**means, **shown}, engine.state.epoch)

    return curves.add_row


def _shown(values: dict[str, Tensor | float], names: tuple[str, ...]) -> str:
    return " ".join(f"{name} {float(values[name]):.4f}" for name in names)


def _finite(value: float) -> bool:
    return abs(value) < float("inf")

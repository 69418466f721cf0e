"""One optimisation step, as an Ignite engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import torch
from ignite.engine import Engine
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.compile import Compiled
from engine.distributed import parallel, whole
from engine.optim import Optimizers, gradient_scaler
from losses.criterion import Criterion
from losses.mclnet import modality_recognition
from utils.device import with_float64
from utils.types import Batch, Labels, Output, Views

# (batch, its images uint8 on the device; generator of the CPU) -> the views of the batch's records
Augmentation = Callable[[Batch, torch.Generator], Views]
Compute = Callable[[Views, Batch], tuple[Tensor, dict[str, Tensor]]]


class Learner(NamedTuple):
    """What a step works with."""

    model: nn.Module
    criterion: Criterion
    optimizers: Optimizers
    scaler: torch.amp.GradScaler
    observe: Callable[[Batch], Views]  # a batch, as its loader gives it -> its views on the device
    forward: Callable[[Views, Batch], tuple[Output, Labels]]  # the network's answers, and the labels of their rows
    compute: Compute  # forward and criterion: the total to differentiate, and what is reported
    dtype: torch.dtype | None  # of autocast; None for float32


Step = Callable[[Learner, Batch], dict[str, Tensor]]


def plain(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """Forward, criterion, backward, and one step of every optimiser."""
    loss, found = learner.compute(learner.observe(batch), batch)
    learner.optimizers.zero_grad()
    learner.scaler.scale(loss).backward()
    learner.optimizers.step(learner.scaler)
    learner.scaler.update()
    return found


def confusion(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """MCLNet's: a discriminator learns to tell the modalities apart, then the network learns to confuse it.

    One forward pass, a step of the discriminator, then a step of the rest; the criterion holds the confusion itself.

    As released (for PyTorch 1.2), the second backward pass goes through the logits of the discriminator as it was and
    the weights that it has after its step.
    """
    output, labels = learner.forward(learner.observe(batch), batch)
    main, other = learner.optimizers["main"], learner.optimizers["discriminator"]
    recognised = modality_recognition(output.extra["modality_logits"], labels.modalities)
    step_within_graph(recognised, other)
    loss, parts = learner.criterion(output, labels)
    learner.optimizers.zero_grad()
    learner.scaler.scale(loss).backward()
    learner.scaler.step(main)
    learner.scaler.update()
    other.zero_grad(set_to_none=True)  # what the confusion left there is not the discriminator's to follow
    found = {"loss": loss, **parts, "recognition": recognised, "accuracy": accuracy(output, labels)}
    return {name: value.detach() for name, value in found.items()}


def step_within_graph(loss: Tensor, optimizer: Optimizer) -> None:
    """Step an optimiser on `loss`, whose graph stays usable: what is differentiated later sees the new parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True)):
        parameter.grad = gradient
    with ExitStack() as kept:
        for parameter in parameters:
            kept.enter_context(torch.autograd._unsafe_preserve_version_counter(parameter))
        optimizer.step()


# name -> step. What a step returns is reported: "loss", the terms' names and "accuracy", scalars on the device.
STEPS: dict[str, Step] = {"plain": plain, "confusion": confusion}


def create_trainer(learner: Learner, step: Step = plain) -> Engine:
    """An engine that takes a step with each `Batch` of a loader; its output is what the step reports."""

    def process(engine: Engine, batch: Batch) -> dict[str, Tensor]:
        learner.model.train()
        return step(learner, batch)

    return Engine(process)


def create_learner(
    model: nn.Module,
    criterion: Criterion,
    optimizers: Optimizers,
    augmentation: Callable[[Batch], Views],
    device: torch.device,
    dtype: torch.dtype | None,
    compile: bool = False,
) -> Learner:
    """The parts of a step, connected. Several processes that share a batch all compute the losses of the whole batch.

    dtype: of autocast; None for float32. compile: run the model through torch.compile, in a process that is alone. What
    `compute` reports is {"loss", one per term, "accuracy"}, scalar tensors that are left on the device.
    """
    network = Compiled(model) if compile else model

    def observe(batch: Batch) -> Views:
        views = augmentation(batch._replace(images=batch.images.to(with_float64(device), non_blocking=True)))
        return views._replace(images=views.images.to(device, non_blocking=True))

    def forward(views: Views, batch: Batch) -> tuple[Output, Labels]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            output = network(views.images, views.streams_of(batch.own))
        output = whole(output, views, batch.shares)
        labels = batch.labels.take(views.rows).take(output.rows)
        # Which rows are of which modality is asked on the CPU, where the answer does not wait for the GPU.
        return output, labels._replace(pids=labels.pids.to(device, non_blocking=True))

    def compute(views: Views, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        output, labels = forward(views, batch)
        loss, parts = criterion(output, labels)
        found = {"loss": loss, **parts, "accuracy": accuracy(output, labels)}
        return loss, {name: value.detach() for name, value in found.items()}

    scaler = gradient_scaler(device, dtype)
    compute = parallel(model, criterion, compute)
    return Learner(model, criterion, optimizers, scaler, observe, forward, compute, dtype)


def accuracy(output: Output, labels: Labels) -> Tensor:
    """The share of answers whose largest logit is their identity's; a scalar on the device."""
    return (output.logits.detach().argmax(dim=1) == labels.pids).float().mean()

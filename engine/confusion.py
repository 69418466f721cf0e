"""MCLNet's step: a discriminator learns to tell the modalities apart, then the network learns to confuse it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from engine.step import Learner, accuracy
from losses.mclnet import modality_recognition
from utils.types import Batch


def confusion(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """One forward pass, a step of the discriminator, then a step of the rest; the criterion holds the confusion itself.

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
    with torch.autograd._unsafe_preserve_version_counter(tuple(parameters)):
        optimizer.step()

"""One optimisation step, as an Ignite engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ignite.engine import Engine
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.compiled import Compiled
from losses import Criterion
from utils.types import Batch

# (images uint8 [B, 3, H, W] on the device, modalities [B] on the CPU) -> float32 on the device
Augmentation = Callable[[Tensor, Tensor], Tensor]


def create_trainer(
    model: nn.Module,
    criterion: Criterion,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    augmentation: Augmentation,
    device: torch.device,
    dtype: torch.dtype | None,
    compile: bool = False,
) -> Engine:
    """An engine whose step takes a `Batch` from a loader and gives the named losses and the accuracy.

    dtype: of autocast; None for float32. compile: run the model through torch.compile. The step's output is {"loss", one
    per term, "accuracy"}, scalar tensors that are left on the device.
    """
    network = Compiled(model) if compile else model

    def step(engine: Engine, batch: Batch) -> dict[str, Tensor]:
        model.train()
        images = augmentation(batch.images.to(device, non_blocking=True), batch.modalities)
        # Which rows are of which modality is asked on the CPU, where the answer does not wait for the GPU.
        batch = batch._replace(images=images, pids=batch.pids.to(device, non_blocking=True))
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            output = network(batch.images)
        loss, parts = criterion(output, batch)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        accuracy = (output.logits.detach().argmax(dim=1) == batch.pids).float().mean()
        return {"loss": loss.detach(), **{name: part.detach() for name, part in parts.items()}, "accuracy": accuracy}

    return Engine(step)

"""One optimisation step, as an Ignite engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ignite.engine import Engine
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.compiled import Compiled
from engine.distributed import parallel, whole
from losses import Criterion
from utils.processes import me
from utils.types import Batch

# (images uint8 [b, 3, H, W] on the device, modalities [B] on the CPU, own=the rows [b] that the images have in the batch,
# None: all of them) -> float32 on the device
Augmentation = Callable[..., Tensor]


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

    dtype: of autocast; None for float32. compile: run the model through torch.compile, in a process that is alone. The
    step's output is {"loss", one per term, "accuracy"}, scalar tensors that are left on the device; several processes that
    share a batch all give those of the whole batch.
    """
    network = Compiled(model) if compile else model

    def compute(images: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            output = network(images)
        output = whole(output, batch.shares)
        loss, parts = criterion(output, batch)
        accuracy = (output.logits.detach().argmax(dim=1) == batch.pids).float().mean()
        return loss, {"loss": loss.detach(), **{name: p.detach() for name, p in parts.items()}, "accuracy": accuracy}

    compute = parallel(model, compute)

    def step(engine: Engine, batch: Batch) -> dict[str, Tensor]:
        model.train()
        own = None if batch.shares is None else batch.shares[me().rank]
        images = augmentation(batch.images.to(device, non_blocking=True), batch.modalities, own=own)
        # Which rows are of which modality is asked on the CPU, where the answer does not wait for the GPU.
        batch = batch._replace(images=images, pids=batch.pids.to(device, non_blocking=True))
        loss, found = compute(images, batch)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return found

    return Engine(step)

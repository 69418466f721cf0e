"""What autograd keeps of a training step for its backward pass, in bytes: counted on a CPU, whatever the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from yacs.config import CfgNode

from benchmarks.recipe import IDENTITIES, noise
from data.build import build_augmentation
from losses import build_criterion
from models import build_model
from models.backbones import stages
from utils.types import Output

COUNTED = (4, 8)  # records in the batches that the others are computed from
CPU, SMALL = torch.device("cpu"), (32, 32)


class Kept(NamedTuple):
    """Bytes that a forward pass leaves to the backward one: as many whatever the batch, and more for each image."""

    fixed: float
    per_image: float

    def of(self, batch: int) -> float:
        return self.fixed + self.per_image * batch


class Counter(saved_tensors_hooks):
    """Bytes of the storages that autograd keeps of what is computed inside, those of the `known` tensors left out."""

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__(self._keep, lambda tensor: tensor)
        self.known: set[int] = set()
        self.leave_out(known)
        self.storages: dict[int, Any] = {}  # held, so that no address comes twice

    def __enter__(self) -> Counter:
        super().__enter__()
        return self

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage
        return tensor.detach()  # a result that its own graph keeps would hold that graph forever

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        self.known.update(tensor.untyped_storage().data_ptr() for tensor in tensors)

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for address, storage in self.storages.items() if address not in self.known)

    def release(self) -> int:
        """The bytes; their storages are let go, which the hooks, referring to this, would hold until a collection."""
        found = self.bytes
        self.storages.clear()
        return found


def kept_by_model(model: nn.Module, cfg: CfgNode, dtype: torch.dtype | None) -> Kept:
    """What a training model keeps of the views of records, under autocast to `dtype`."""
    first, second = COUNTED
    counts = [count_model(model, *views_of(cfg, batch), dtype) for batch in COUNTED]
    per_image = (counts[1] - counts[0]) / (second - first)
    return Kept(counts[0] - first * per_image, per_image)


def views_of(cfg: CfgNode, batch: int) -> tuple[Tensor, Tensor]:
    """What the configured augmentation makes of so many records: images [R, 3, H, W] and streams [R], on the CPU."""
    views = build_augmentation(cfg)(noise(cfg, batch, CPU), generator=torch.Generator())
    return views.images, views.streams


def count_model(model: nn.Module, images: Tensor, streams: Tensor | None, dtype: torch.dtype | None) -> int:
    """Bytes that the model keeps of R views; with grad_checkpoint the most at any time of the backward pass."""
    known = [*model.parameters(), *model.buffers()]
    device = known[0].device
    images = images.to(device, memory_format=torch.channels_last)
    recomputed, times = stages.recomputed, []

    def counted(block: nn.Module, x: Tensor) -> Tensor:
        with Counter([*known, x]) as inside:
            block(x)
        own = inside.release()
        out = recomputed(block, x)
        times.append(kept.bytes + own)  # when it is computed again, what later blocks kept is gone
        return out

    with (
        mock.patch.object(stages, "recomputed", counted),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
        Counter(known) as kept,
    ):
        output = model(images, streams)
    kept.leave_out(answers(output))  # the losses count those
    return max([kept.release(), *times])


def kept_by_losses(cfg: CfgNode, batch: int, device: torch.device) -> int:
    """Bytes that the losses keep, the model's output included."""
    records, augmentation = noise(small(cfg), batch, CPU), build_augmentation(cfg)
    views = augmentation(records, generator=torch.Generator())
    output = answer_of(cfg, len(views.rows), device)
    labels = records.labels.take(views.rows).take(output.rows)
    criterion = build_criterion(cfg, IDENTITIES).to(device)
    with Counter([*answers(output), *criterion.parameters(), *criterion.buffers()]) as counter:
        criterion(output, labels._replace(pids=labels.pids.to(device)))
    return counter.release() + sum(part.nbytes for part in answers(output))


def answer_of(cfg: CfgNode, views: int, device: torch.device) -> Output:
    """Noise in the shapes of the model's answers to so many views."""
    with torch.no_grad():
        shown = build_model(small(cfg), IDENTITIES).train()(torch.randn(2, 3, *SMALL), torch.arange(2))

    def noise_like(part: Tensor | None) -> Tensor | None:
        shape = (len(part) // 2 * views, *part.shape[1:]) if part is not None else ()
        return None if part is None else torch.randn(shape, device=device, requires_grad=True)

    rows = None if shown.rows is None else torch.arange(views, device=device).repeat(len(shown.rows) // 2)
    extra = {name: noise_like(part) for name, part in shown.extra.items()}
    return Output(noise_like(shown.embeddings), noise_like(shown.logits), noise_like(shown.pooled), rows, extra)


def small(cfg: CfgNode) -> CfgNode:
    """The same for the smallest images: the shapes of answers do not depend on their size."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.image_size = SMALL
    return cfg


def answers(output: Output) -> list[Tensor]:
    return [part for part in (*output, *output.extra.values()) if isinstance(part, Tensor)]

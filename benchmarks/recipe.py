"""What several benchmarks share: a method's own step and embedding on noise, and how long they take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from engine.build import build_optimizers
from engine.embed import embed_images
from engine.step import Learner, create_learner
from losses import build_criterion
from utils.types import Batch, Modality, Views

IDENTITIES = 395  # of SYSU-MM01


def make_learner(
    cfg: CfgNode,
    model: nn.Module,
    augmentation: Callable[[Batch], Views],
    device: torch.device,
    dtype: torch.dtype | None,
    compile: bool = False,
) -> Learner:
    """What the configured step works with."""
    criterion = build_criterion(cfg, IDENTITIES).to(device)
    optimizers = build_optimizers(cfg, model, criterion)
    return create_learner(model, criterion, optimizers, augmentation, device, dtype, compile)


def noise(cfg: CfgNode, count: int, device: torch.device) -> Batch:
    """A batch of `count` records: visible ones first, as many of each identity in both, two identities or more."""
    per_identity = max(1, min(cfg.k_size // 2, count // 4))
    pids = torch.arange(count // 2) // per_identity
    modalities = torch.tensor([Modality.VISIBLE, Modality.INFRARED]).repeat_interleave(count // 2)
    cameras = torch.where(modalities == Modality.VISIBLE, 1, 3)
    images = torch.randint(256, (count, 3, *cfg.image_size), generator=torch.Generator().manual_seed(0))
    rows = torch.arange(count)
    return Batch(images.to(torch.uint8).to(device), pids.repeat(2), cameras, modalities, rows)


def embedding_seconds(
    network: nn.Module, batch: Batch, dtype: torch.dtype | None, runs: int, device: torch.device
) -> float:
    """Seconds to embed the images of a batch as an evaluation does."""

    @torch.inference_mode()
    def embed() -> Tensor:
        return embed_images(network, batch.images, batch.modalities, dtype)

    return median_seconds(embed, runs, device)


def median_seconds(work: Callable[[], object], runs: int, device: torch.device) -> float:
    """Of `runs` calls, after one not counted. Each is waited for: a CUDA call returns before its kernel has run."""
    seconds = []
    for _ in range(runs + 1):
        start = _now(device)
        work()
        seconds.append(_now(device) - start)
    return statistics.median(seconds[1:])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()

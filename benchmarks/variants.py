"""Ways to take a training step, from the plain one to the configured one, and what makes each of them."""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from benchmarks import plain_model
from benchmarks.recipe import IDENTITIES, make_learner, noise
from data.build import build_augmentation
from engine.build import build_step
from engine.step import Learner, Step
from losses.criterion import Criterion, Function
from models import build_model
from utils.resources import keep_freed_memory
from utils.types import Batch, Labels, Output


class Variant(NamedTuple):
    """One way to take a training step."""

    name: str
    plain_adapters: bool = False
    plain_losses: bool = False
    plain_optimizer: bool = False
    channels_last: bool = True
    dtype: torch.dtype | None = None
    compile: bool = False
    keep: bool = False  # freed memory
    folded: bool = False  # for embedding


PLAIN = Variant(
    "plain: float32, NCHW", plain_adapters=True, plain_losses=True, plain_optimizer=True, channels_last=False
)
LADDER = (
    PLAIN,
    PLAIN._replace(name="+ losses by products of matrices", plain_losses=False),
    PLAIN._replace(name="+ adapters by products of matrices", plain_losses=False, plain_adapters=False),
    Variant("+ fused optimiser", channels_last=False),
    Variant("+ channels_last"),
    Variant("+ freed memory kept", keep=True),
)
COMPILED = Variant("+ compile, float32", compile=True, keep=True)
HALF = Variant("all but compile, bf16 autocast", dtype=torch.bfloat16, keep=True)
SCALED = HALF._replace(name="all but compile, fp16 autocast, loss scaled", dtype=torch.float16)  # on GPUs
EMBEDDING = (
    PLAIN,
    Variant("adapters by products, channels_last"),
    Variant("+ batch norms, ReLU and sums in the convolutions", folded=True),
    Variant("+ freed memory kept", folded=True, keep=True),
    Variant("the same in bf16 autocast, ReLU and sums apart", folded=True, keep=True, dtype=torch.bfloat16),
)


class Setup(NamedTuple):
    """What a step needs."""

    learner: Learner
    batch: Batch
    take: Step
    dtype: torch.dtype | None  # of autocast


def meaningful(cfg: CfgNode) -> list[Variant]:
    """Of the ladder, the rows that change something in the configured method."""
    missing = {"losses": not cfg.loss_cmr, "adapters": cfg.model != "mcja" or not any(cfg.mda_layers)}
    return [
        variant for variant in LADDER if not any(gone and f"+ {part}" in variant.name for part, gone in missing.items())
    ]


def make_setup(args: argparse.Namespace, variant: Variant, device: torch.device) -> Setup:
    """The variant's step on views that were made beforehand: augmentation is not part of it."""
    cfg, model = args.config, make_model(args, variant, device).train()
    batch = noise(cfg, args.batch, device)
    views = build_augmentation(cfg)(batch, generator=torch.Generator().manual_seed(1))
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    views = views._replace(images=views.images.contiguous(memory_format=layout))
    learner = make_learner(cfg, model, lambda batch: views, device, variant.dtype, variant.compile)
    if variant.plain_losses:
        use_plain_losses(learner.criterion)
    if variant.plain_optimizer:
        for group in (group for optimizer in learner.optimizers.each.values() for group in optimizer.param_groups):
            group.update(fused=False, foreach=False)
    return Setup(learner, batch, build_step(cfg), variant.dtype)


def make_model(args: argparse.Namespace, variant: Variant, device: torch.device) -> nn.Module:
    keep_freed_memory(variant.keep)
    torch.manual_seed(0)
    model = build_model(args.config, IDENTITIES)
    if variant.plain_adapters:
        plain_model.use_plain_adapters(model)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    return model.to(device, memory_format=layout)


def use_plain_losses(criterion: Criterion) -> None:
    """Let CMR, where it is a term, be computed query by query."""

    def cmr(output: Output, labels: Labels) -> Tensor:
        return plain_model.cmr_loss(output.embeddings, labels.pids, labels.modalities)

    if "cmr" in criterion.terms:
        criterion.terms["cmr"] = Function(cmr)

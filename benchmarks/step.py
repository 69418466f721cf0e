"""Measure training images a second, from the plain way to the configured one, one improvement after another.

python -m benchmarks.step --batch 32 --size 384 192
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import plain_model
from configs import load_config
from engine.compile import Compiled
from engine.optim import adam, gradient_scaler
from losses import build_criterion
from losses.cmr import cross_modality_retrieval_loss
from losses.criterion import Criterion
from losses.cross_entropy import identity_loss
from models import build_model
from models.fusion import folded
from models.modules.mda import ModalityDistributionAdapter
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.resources import keep_freed_memory
from utils.types import Batch, Output

IDENTITIES = 395
PER_IDENTITY = 4


class Variant(NamedTuple):
    """One way to take a training step."""

    name: str
    plain_adapters: bool = False
    plain_losses: bool = False
    plain_adam: bool = False
    channels_last: bool = True
    dtype: torch.dtype | None = None
    compile: bool = False
    keep: bool = False  # freed memory
    folded: bool = False  # for embedding


PLAIN = Variant("plain: float32, NCHW", plain_adapters=True, plain_losses=True, plain_adam=True, channels_last=False)
LADDER = (
    PLAIN,
    PLAIN._replace(name="+ losses by products of matrices", plain_losses=False),
    PLAIN._replace(name="+ adapters by products of matrices", plain_losses=False, plain_adapters=False),
    Variant("+ fused Adam", channels_last=False),
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
PARTS = ("backbone", "MDA", "losses", "optimiser")


class Setup(NamedTuple):
    """What a step needs."""

    model: nn.Module
    batch: Batch
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], torch.autocast]
    scaler: torch.amp.GradScaler


class Speed(NamedTuple):
    images: float  # a second
    shares: dict[str, float]  # of the step, by part; empty where the compiler has mixed them
    loss: float
    peak: float | None  # GB on the GPU


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; python {platform.python_version()}, torch {torch.__version__}; {args.backbone}, batch {args.batch} at {args.size[0]}x{args.size[1]}\n")  # fmt: skip
    print_training(args, ladder_of(args, device), device)
    print_embedding(args, EMBEDDING[-2:] if args.quick else EMBEDDING, device)
    if args.quick:
        return
    print("\n| CMR loss, forward and backward, batch 128 | ms | ratio |\n|---|---|---|")
    times = [cmr_seconds(args, loss, device) for loss in (plain_model.cmr_loss, cross_modality_retrieval_loss)]
    for label, seconds in zip(("plain: pairs one by one", "products of matrices"), times):
        print(f"| {label} | {1000 * seconds:.3g} | {times[0] / seconds:.0f} |")


def ladder_of(args: argparse.Namespace, device: torch.device) -> list[Variant]:
    """The ways to take a step, each with one improvement more; only the last in each precision where it must be quick."""
    halves = [HALF, SCALED] if device.type == "cuda" else [HALF]
    compiled = [COMPILED, HALF._replace(name="+ compile, bf16", compile=True)] if args.compile else []
    return [*(LADDER[-1:] if args.quick else LADDER), *halves, *compiled]


def print_training(args: argparse.Namespace, ladder: Sequence[Variant], device: torch.device) -> None:
    peaks = " peak GB |" if device.type == "cuda" else ""
    print(f"| training step | images/s | ratio | loss | {' | '.join(PARTS)} |{peaks}")
    print("|---|---|---|---|" + "---|" * (len(PARTS) + bool(peaks)))
    first = None
    for variant in ladder:
        speed = training_speed(args, variant, device)
        first = first or speed
        shares = " | ".join(f"{100 * speed.shares[part]:.0f} %" if part in speed.shares else "-" for part in PARTS)
        peak = f" {speed.peak:.1f} |" if peaks else ""
        print(f"| {variant.name} | {speed.images:.2f} | {speed.images / first.images:.2f} | {speed.loss:.4f} | {shares} |{peak}", flush=True)  # fmt: skip


def print_embedding(args: argparse.Namespace, variants: Sequence[Variant], device: torch.device) -> None:
    print("\n| embedding | images/s | ratio |\n|---|---|---|")
    first = None
    for variant in variants:
        images = embedding_speed(args, variant, device)
        first = first or images
        print(f"| {variant.name} | {images:.2f} | {images / first:.2f} |", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="Compute on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    parser.add_argument("--backbone", default="resnet50", help="Train this backbone (default: %(default)s).")
    parser.add_argument("--batch", type=int, default=32, help="Images in a batch (default: %(default)s).")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(384, 192),
        help="Give images this height and width, in pixels (default: 384 192).",
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="Print the median of RUNS steps after a warm-up (default: %(default)s)."
    )
    parser.add_argument(
        "--compile", action="store_true", help="Add rows with torch.compile, each of which takes a minute more."
    )
    parser.add_argument(
        "--quick", action="store_true", help="Leave out the plain ways and the steps from them to ours."
    )
    return parser.parse_args(argv)


def training_speed(args: argparse.Namespace, variant: Variant, device: torch.device) -> Speed:
    """Speed of a step on one repeated batch; the loss is that of the first step, which all variants start from."""
    setup = make_setup(args, variant, device)
    network = Compiled(setup.model) if variant.compile else setup.model
    losses = []

    def step() -> None:
        with setup.autocast():
            output = network(setup.batch.images, setup.batch.modalities)
        loss, _ = setup.criterion(output, setup.batch)
        setup.optimizer.zero_grad(set_to_none=True)
        setup.scaler.scale(loss).backward()
        setup.scaler.step(setup.optimizer)
        setup.scaler.update()
        losses.append(loss.detach())

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = median_seconds(step, args.runs, device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    shares = {} if variant.compile else {name: part / seconds for name, part in alone(args, setup, device).items()}
    if shares:
        shares["backbone"] = 1 - sum(shares.values())
    return Speed(args.batch / seconds, shares, losses[0].item(), peak)


def alone(args: argparse.Namespace, setup: Setup, device: torch.device) -> dict[str, float]:
    """Seconds of the parts of a step beside the backbone, each run by itself, forwards and backwards."""
    maps = {}
    adapters = [module for module in setup.model.modules() if isinstance(module, ModalityDistributionAdapter)]
    hooks = [adapter.register_forward_hook(lambda module, given, made: maps.update({module: given[0].detach()})) for adapter in adapters]  # fmt: skip
    with torch.no_grad(), setup.autocast():
        output = setup.model(setup.batch.images)
    for hook in hooks:
        hook.remove()

    def adapt() -> None:
        for adapter, x in maps.items():
            with setup.autocast():
                made = adapter(x.requires_grad_())
            made.backward(x.detach())

    def lose() -> None:
        setup.criterion(detached(output), setup.batch)[0].backward()

    works = {"MDA": adapt, "losses": lose, "optimiser": setup.optimizer.step}
    return {name: median_seconds(work, max(args.runs, 3), device) for name, work in works.items()}


def detached(output: Output) -> Output:
    return Output(output.embeddings.detach().requires_grad_(), output.logits.detach().requires_grad_())


def embedding_speed(args: argparse.Namespace, variant: Variant, device: torch.device) -> float:
    model, batch = make_model(args, variant, device).eval(), make_batch(args, variant, device)
    network = folded(model, autocast=variant.dtype is not None) if variant.folded else model
    with torch.inference_mode(), torch.autocast(device.type, dtype=variant.dtype, enabled=variant.dtype is not None):
        return args.batch / median_seconds(lambda: network(batch.images, batch.modalities), args.runs, device)


def cmr_seconds(args: argparse.Namespace, loss: Callable[..., Tensor], device: torch.device) -> float:
    embeddings = torch.randn(128, 2048, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    pids, modalities = torch.arange(128) // 16, torch.arange(128) % 2
    pids = pids.to(device)
    return median_seconds(lambda: loss(embeddings, pids, modalities).backward(), max(args.runs, 5), device)


def make_setup(args: argparse.Namespace, variant: Variant, device: torch.device) -> Setup:
    model = make_model(args, variant, device).train()
    optimizer = torch.optim.Adam(model.parameters(), 3.5e-4, weight_decay=5e-4, foreach=False) if variant.plain_adam else adam([{"params": model.parameters(), "lr": 3.5e-4}], 5e-4)  # fmt: skip
    autocast = partial(torch.autocast, device.type, dtype=variant.dtype, enabled=variant.dtype is not None)
    scaler = gradient_scaler(device, variant.dtype)
    return Setup(model, make_batch(args, variant, device), make_criterion(args, variant), optimizer, autocast, scaler)


def make_model(args: argparse.Namespace, variant: Variant, device: torch.device) -> nn.Module:
    keep_freed_memory(variant.keep)
    torch.manual_seed(0)
    model = build_model(load_config(None, ["pretrained", "none", "backbone", args.backbone]), IDENTITIES)
    if variant.plain_adapters:
        plain_model.use_plain_adapters(model)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    return model.to(device, memory_format=layout)


def make_batch(args: argparse.Namespace, variant: Variant, device: torch.device) -> Batch:
    images = torch.randn(args.batch, 3, *args.size, generator=torch.Generator().manual_seed(1)).to(device)
    if variant.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    rows = torch.arange(args.batch)
    pids = (rows // PER_IDENTITY).to(device)
    return Batch(images, pids, pids, rows % 2, rows)


def make_criterion(args: argparse.Namespace, variant: Variant) -> Criterion:
    if not variant.plain_losses:
        return build_criterion(load_config(None, []), IDENTITIES)

    def cmr(output: Output, batch: Batch) -> Tensor:
        return plain_model.cmr_loss(output.embeddings, batch.pids, batch.modalities)

    return Criterion({"id": lambda output, batch: identity_loss(output.logits, batch.pids), "cmr": cmr})


def median_seconds(work: Callable[[], object], runs: int, device: torch.device) -> float:
    """Of `runs` calls, after one that is not counted. A CUDA call returns before its kernel has run, so each is waited for."""
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


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

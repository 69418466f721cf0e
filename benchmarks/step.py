"""Training images a second, from the plain way to the configured one, one improvement after another.

python -m benchmarks.step --batch 32 --size 384 192
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import plain_model
from configs import load_config
from engine.compiled import Compiled
from engine.optim import adam
from losses import Criterion, build_criterion
from losses.cmr import cross_modality_retrieval_loss
from losses.identity import identity_loss
from models import build_model
from utils.cli import Parser, exit_code
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


PLAIN = Variant("plain: float32, NCHW", plain_adapters=True, plain_losses=True, plain_adam=True, channels_last=False)
LADDER = (
    PLAIN,
    PLAIN._replace(name="+ losses by products of matrices", plain_losses=False),
    PLAIN._replace(name="+ adapters by products of matrices", plain_losses=False, plain_adapters=False),
    Variant("+ fused Adam", channels_last=False),
    Variant("+ channels_last"),
    Variant("+ bf16 autocast", dtype=torch.bfloat16),
)


class Speed(NamedTuple):
    images: float  # a second
    shares: dict[str, float]  # of the step, by part
    loss: float


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; python {platform.python_version()}, torch {torch.__version__}; {args.backbone}, batch {args.batch} at {args.size[0]}x{args.size[1]}\n")  # fmt: skip
    ladder = [*LADDER, *([LADDER[-1]._replace(name="+ compile", compile=True)] if args.compile else [])]
    parts = ("forward", "losses", "backward", "optimiser")
    print(
        f"| training step | images/s | ratio | loss | {' | '.join(parts)} |"
        + (" peak GB |" if device.type == "cuda" else "")
    )
    print("|---|---|---|---|" + "---|" * (len(parts) + (device.type == "cuda")))
    first = None
    for variant in ladder:
        speed = training_speed(args, variant, device)
        first = first or speed
        shares = " | ".join(f"{100 * speed.shares[part]:.0f} %" for part in parts)
        peak = f" {torch.cuda.max_memory_allocated() / 2**30:.1f} |" if device.type == "cuda" else ""
        print(f"| {variant.name} | {speed.images:.2f} | {speed.images / first.images:.2f} | {speed.loss:.4f} | {shares} |{peak}", flush=True)  # fmt: skip
    print("\n| embedding | images/s | ratio |\n|---|---|---|")
    slowest = None
    for variant in (PLAIN, LADDER[4]._replace(name="adapters by products, channels_last"), LADDER[5]):
        images = embedding_speed(args, variant, device)
        slowest = slowest or images
        print(f"| {variant.name} | {images:.2f} | {images / slowest:.2f} |", flush=True)
    print("\n| CMR loss, forward and backward, batch 128 | ms | ratio |\n|---|---|---|")
    times = [cmr_seconds(args, loss, device) for loss in (plain_model.cmr_loss, cross_modality_retrieval_loss)]
    for label, seconds in zip(("plain: pairs one by one", "products of matrices"), times):
        print(f"| {label} | {1000 * seconds:.3g} | {times[0] / seconds:.0f} |")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, nargs=2, default=(384, 192), help="height and width")
    parser.add_argument("--runs", type=int, default=3, help="steps of which the median is printed, after a warm-up")
    parser.add_argument("--compile", action="store_true", help="torch.compile as the last improvement")
    return parser.parse_args(argv)


def training_speed(args: argparse.Namespace, variant: Variant, device: torch.device) -> Speed:
    """Speed of a step on one repeated batch; the loss is that of the first step, which all variants start from."""
    model = make_model(args, variant, device).train()
    batch, criterion = make_batch(args, variant, device), make_criterion(args, variant)
    optimizer = torch.optim.Adam(model.parameters(), 3.5e-4, weight_decay=5e-4, foreach=False) if variant.plain_adam else adam(model, 3.5e-4, 5e-4)  # fmt: skip
    network = Compiled(model) if variant.compile else model
    losses, clocks = [], []
    for _ in range(args.runs + 1):
        clock = Clock(device)
        with torch.autocast(device.type, dtype=variant.dtype, enabled=variant.dtype is not None):
            output = network(batch.images)
        clock.lap("forward")
        loss, _ = criterion(output, batch)
        clock.lap("losses")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clock.lap("backward")
        optimizer.step()
        clock.lap("optimiser")
        losses.append(loss.item())
        clocks.append(clock)
    seconds = statistics.median(clock.total for clock in clocks[1:])
    middle = min(clocks[1:], key=lambda clock: abs(clock.total - seconds))
    return Speed(args.batch / seconds, {name: lap / middle.total for name, lap in middle.laps.items()}, losses[0])


def embedding_speed(args: argparse.Namespace, variant: Variant, device: torch.device) -> float:
    model, batch = make_model(args, variant, device).eval(), make_batch(args, variant, device)
    with torch.inference_mode(), torch.autocast(device.type, dtype=variant.dtype, enabled=variant.dtype is not None):
        return args.batch / median_seconds(lambda: model(batch.images), args.runs, device)


def cmr_seconds(args: argparse.Namespace, loss: Callable[..., Tensor], device: torch.device) -> float:
    embeddings = torch.randn(128, 2048, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    pids, modalities = torch.arange(128) // 16, torch.arange(128) % 2
    pids = pids.to(device)
    return median_seconds(lambda: loss(embeddings, pids, modalities).backward(), max(args.runs, 5), device)


def make_model(args: argparse.Namespace, variant: Variant, device: torch.device) -> nn.Module:
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
        return build_criterion(load_config(None, []))

    def cmr(output: Output, batch: Batch) -> Tensor:
        return plain_model.cmr_loss(output.embeddings, batch.pids, batch.modalities)

    return Criterion({"id": lambda output, batch: identity_loss(output.logits, batch.pids), "cmr": cmr})


class Clock:
    """Laps of a step. A CUDA call returns before its kernel has run, so every lap waits for it."""

    def __init__(self, device: torch.device):
        self.device, self.laps = device, {}
        self.last = self._now()

    def lap(self, name: str) -> None:
        now = self._now()
        self.laps[name], self.last = now - self.last, now

    @property
    def total(self) -> float:
        return sum(self.laps.values())

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def median_seconds(work: Callable[[], object], runs: int, device: torch.device) -> float:
    work()
    return statistics.median(_seconds(work, runs, device))


def _seconds(work: Callable[[], object], runs: int, device: torch.device) -> Iterator[float]:
    for _ in range(runs):
        clock = Clock(device)
        work()
        clock.lap("all")
        yield clock.total


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

"""Measure training images a second, from the plain way to the configured one, one improvement after another.

python -m benchmarks.step --batch 32 [--cfg configs/SYSU_AGW.yml] [KEY VALUE ...]

A step is that of the method of the yml file, its augmentation left out: it works on views that were made beforehand.
Adapters and CMR have a plain way of their own; a method without them has the other rows.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import plain_model
from benchmarks.recipe import embedding_seconds, median_seconds, noise
from benchmarks.variants import (
    COMPILED,
    EMBEDDING,
    HALF,
    LADDER,
    SCALED,
    Setup,
    Variant,
    make_model,
    make_setup,
    meaningful,
)
from configs import load_config
from losses.cmr import cross_modality_retrieval_loss
from models.fusion import folded
from models.modules.mda import ModalityDistributionAdapter
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.types import Output

PARTS = ("backbone", "MDA", "losses", "optimiser")


class Speed(NamedTuple):
    images: float  # a second
    shares: dict[str, float]  # of the step, by part; empty where the compiler has mixed them
    loss: float
    peak: float | None  # GB on the GPU


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    height, width = args.config.image_size
    print(
        f"{name}; python {platform.python_version()}, torch {torch.__version__}; {args.cfg}, {args.config.backbone}, "
        f"batch {args.batch} at {height}x{width}\n"
    )
    print_training(args, ladder_of(args, device), device)
    print_embedding(args, EMBEDDING[-2:] if args.quick else EMBEDDING, device)
    if args.quick or not args.config.loss_cmr:
        return
    print("\n| CMR loss, forward and backward, batch 128 | ms | ratio |\n|---|---|---|")
    times = [cmr_seconds(args, loss, device) for loss in (plain_model.cmr_loss, cross_modality_retrieval_loss)]
    for label, seconds in zip(("plain: pairs one by one", "products of matrices"), times):
        print(f"| {label} | {1000 * seconds:.3g} | {times[0] / seconds:.0f} |")


def ladder_of(args: argparse.Namespace, device: torch.device) -> list[Variant]:
    """The ways to take a step, each with one improvement more; for --quick only the last in each precision."""
    halves = [HALF, SCALED] if device.type == "cuda" else [HALF]
    compiled = [COMPILED, HALF._replace(name="+ compile, bf16", compile=True)] if args.compile else []
    return [*(LADDER[-1:] if args.quick else meaningful(args.config)), *halves, *compiled]


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
        images = f"{speed.images:.2f} | {speed.images / first.images:.2f}"
        print(f"| {variant.name} | {images} | {speed.loss:.4f} | {shares} |{peak}", flush=True)


def print_embedding(args: argparse.Namespace, variants: Sequence[Variant], device: torch.device) -> None:
    print("\n| embedding | images/s | ratio |\n|---|---|---|")
    first = None
    for variant in variants:
        images = embedding_speed(args, variant, device)
        first = first or images
        print(f"| {variant.name} | {images:.2f} | {images / first:.2f} |", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--device", help="Compute on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    parser.add_argument(
        "--cfg", default="configs/SYSU_MCJA.yml", help="Take the method and its keys from here (default: %(default)s)."
    )
    parser.add_argument("--batch", type=int, default=32, help="Records in a batch (default: %(default)s).")
    parser.add_argument(
        "--runs", type=int, default=3, help="Print the median of RUNS steps after a warm-up (default: %(default)s)."
    )
    parser.add_argument(
        "--compile", action="store_true", help="Add rows with torch.compile, each of which takes a minute more."
    )
    parser.add_argument(
        "--quick", action="store_true", help="Leave out the plain ways and the steps from them to ours."
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys, such as: backbone resnet18.")
    args = parser.parse_intermixed_args(argv)
    args.config = load_config(args.cfg, ["pretrained", "none", *args.opts])
    return args


def training_speed(args: argparse.Namespace, variant: Variant, device: torch.device) -> Speed:
    """Speed of a step on one repeated batch; the loss is that of the first step, which all variants start from."""
    setup = make_setup(args, variant, device)
    losses = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = median_seconds(lambda: losses.append(setup.take(setup.learner, setup.batch)["loss"]), args.runs, device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    shares = {} if variant.compile else {name: part / seconds for name, part in alone(args, setup, device).items()}
    if shares:
        shares["backbone"] = 1 - sum(shares.values())
    return Speed(args.batch / seconds, shares, losses[0].item(), peak)


def alone(args: argparse.Namespace, setup: Setup, device: torch.device) -> dict[str, float]:
    """Seconds of the parts of a step beside the backbone, each run by itself, forwards and backwards."""
    learner, maps = setup.learner, {}
    adapters = [module for module in learner.model.modules() if isinstance(module, ModalityDistributionAdapter)]
    hooks = [
        adapter.register_forward_hook(lambda module, given, made: maps.update({module: given[0].detach()}))
        for adapter in adapters
    ]
    with torch.no_grad():
        output, labels = learner.forward(learner.observe(setup.batch), setup.batch)
    for hook in hooks:
        hook.remove()

    def adapt() -> None:
        for adapter, x in maps.items():
            with torch.autocast(device.type, dtype=setup.dtype, enabled=setup.dtype is not None):
                made = adapter(x.requires_grad_())
            made.backward(x.detach())

    def lose() -> None:
        learner.criterion(apart(output), labels)[0].backward()

    def optimise() -> None:
        for optimizer in learner.optimizers.each.values():
            optimizer.step()

    works = {"losses": lose, "optimiser": optimise, **({"MDA": adapt} if maps else {})}
    return {name: median_seconds(work, max(args.runs, 3), device) for name, work in works.items()}


def apart(output: Output) -> Output:
    """The same answers without the graph that made them."""

    def leaf(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().requires_grad_(tensor.is_floating_point())

    embeddings, logits, pooled, rows, extra = output
    return Output(leaf(embeddings), leaf(logits), leaf(pooled), rows, {name: leaf(t) for name, t in extra.items()})


def embedding_speed(args: argparse.Namespace, variant: Variant, device: torch.device) -> float:
    """Images a second, embedded as an evaluation does."""
    model, batch = make_model(args, variant, device).eval(), noise(args.config, args.batch, device)
    network = folded(model, autocast=variant.dtype is not None) if variant.folded else model
    return args.batch / embedding_seconds(network, batch, variant.dtype, args.runs, device)


def cmr_seconds(args: argparse.Namespace, loss: Callable[..., Tensor], device: torch.device) -> float:
    embeddings = torch.randn(128, 2048, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    pids, modalities = torch.arange(128) // 16, torch.arange(128) % 2
    pids = pids.to(device)
    return median_seconds(lambda: loss(embeddings, pids, modalities).backward(), max(args.runs, 5), device)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

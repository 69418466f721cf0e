"""Show a training step's memory by batch, precision and grad_checkpoint: computed, and on a GPU measured beside it.

python -m benchmarks.memory [--batches 32 64 128 256] [--cfg configs/SYSU_MCJA.yml] [--device cpu] [KEY VALUE ...]

A batch holds records, of which the method's augmentation makes views. Computed: weights, gradients and the optimiser's
moments, and what autograd keeps of the forward pass for the backward one, every storage once: counted in two small
batches, to which larger ones are proportional, and in the losses at full size. With grad_checkpoint it is the most at
any time of the backward pass: inputs of blocks, and the one that is computed again. Not counted: workspaces of
convolutions, maps that live for one operation, gaps between allocations, batches that wait, and on a GPU the driver's
own memory (about 0.5 GB), which "measured" lacks too: that is the peak of its tensors.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import nn
from yacs.config import CfgNode

from benchmarks.kept import kept_by_losses, kept_by_model
from benchmarks.recipe import IDENTITIES, make_learner, noise
from configs import load_config
from data.build import build_augmentation
from engine.build import build_step
from engine.step import create_trainer
from models import build_model
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.errors import UserError
from utils.resources import peak_memory_gb

PRECISIONS = {"float32": None, "bf16": torch.bfloat16}


class Row(NamedTuple):
    batch: int
    precision: str
    recompute: bool
    kept: float  # bytes
    total: float  # bytes
    measured: str | None  # GB, or why there is no number; None where there is no GPU


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    settings = ["pretrained", "none", *args.opts]
    cfg = {
        recompute: load_config(args.cfg, [*settings, "grad_checkpoint", str(recompute)]) for recompute in (False, True)
    }
    report(cfg[False], device, rows(cfg, args.batches, device))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument(
        "--cfg",
        default="configs/SYSU_MCJA.yml",
        help="Take keys from this yml file, as main.py does (default: %(default)s).",
    )
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[32, 64, 128, 256],
        help="Measure batches of these sizes (default: 32 64 128 256).",
    )
    parser.add_argument("--device", help="Compute on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys, such as: backbone resnet101.")
    args = parser.parse_intermixed_args(argv)
    if min(args.batches) < 2:
        raise UserError(f"--batches {min(args.batches)}: must be at least 2, for batch norm")
    return args


def rows(cfg: dict[bool, CfgNode], batches: Iterable[int], device: torch.device) -> Iterator[Row]:
    """cfg: without and with grad_checkpoint."""
    forward = {
        (name, recompute): kept_by_model(make_model(cfg[recompute], device), cfg[recompute], dtype)
        for (name, dtype), recompute in product(PRECISIONS.items(), cfg)
    }
    fixed = sum(states(make_model(cfg[False], device), cfg[False].optimizer).values())
    for batch, (name, dtype), recompute in product(batches, PRECISIONS.items(), cfg):
        kept = forward[name, recompute].of(batch) + kept_by_losses(cfg[recompute], batch, device)
        measured = measure(cfg[recompute], batch, dtype, device) if device.type == "cuda" else None
        yield Row(batch, name, recompute, kept, fixed + kept, measured)


def make_model(cfg: CfgNode, device: torch.device) -> nn.Module:
    return build_model(cfg, IDENTITIES).to(device).train()


def states(model: nn.Module, optimizer: str = "adam") -> dict[str, int]:
    """Bytes of what a training holds between two steps, and of the gradients."""
    everything = [*model.parameters(), *model.buffers()]
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    name, each = {"adam": ("Adam's moments", 2), "sgd": ("momentum", 1)}[optimizer]
    return {"weights": sum(t.nbytes for t in everything), "gradients": trained, name: each * trained}


# ------------------------------------------------------------------------------------------------------------- measured


def measure(cfg: CfgNode, batch: int, dtype: torch.dtype | None, device: torch.device) -> str:
    """Peak GB of two training steps on a GPU."""
    torch.backends.cudnn.benchmark = True  # as in training; the trials of its algorithms need memory too
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        train(cfg, batch, dtype, device)
    except torch.cuda.OutOfMemoryError:
        return "does not fit"
    return f"{peak_memory_gb(device):.2f}"


def train(cfg: CfgNode, batch: int, dtype: torch.dtype | None, device: torch.device, steps: int = 2) -> None:
    """The trainer's own steps, on one batch of noise."""
    augmentation = partial(build_augmentation(cfg), generator=torch.Generator())
    learner = make_learner(cfg, make_model(cfg, device), augmentation, device, dtype, cfg.compile)
    create_trainer(learner, build_step(cfg)).run([noise(cfg, batch, device)] * steps)


# ---------------------------------------------------------------------------------------------------------------- table


def report(cfg: CfgNode, device: torch.device, rows: Iterable[Row]) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    parts = ", ".join(
        f"{part} {size / 2**30:.2f}" for part, size in states(build_model(cfg, IDENTITIES), cfg.optimizer).items()
    )
    print(
        f"{name}; Python {platform.python_version()}, torch {torch.__version__}; {cfg.backbone} at "
        f"{cfg.image_size[0]}x{cfg.image_size[1]}, model {cfg.model}\n"
        f"GB of 2^30 bytes, whatever the batch: {parts}\n"
    )
    head = ["batch", "precision", "grad_checkpoint", "kept for backward, GB", "computed, GB", "ratio"]
    head += ["measured peak, GB"] if device.type == "cuda" else []
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    largest = {}
    for row in rows:
        first = largest.setdefault(row.batch, row.total)
        cells = [row.batch, row.precision, "yes" if row.recompute else "no", f"{row.kept / 2**30:.2f}"]
        cells += [f"{row.total / 2**30:.2f}", f"{row.total / first:.2f}", row.measured]
        print(f"| {' | '.join(str(cell) for cell in cells if cell is not None)} |", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

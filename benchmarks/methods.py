"""Show what each method costs: parameters, speed of its own training step and embedding, and memory on a GPU.

python -m benchmarks.methods [--cfgs configs/SYSU_AGW.yml ...] [--device cuda] [KEY VALUE ...]

A step is the one that main.py takes with the method's own recipe (augmentation, network, losses, optimiser), on one
batch of noise in the layout of its sampler. Speeds are in records (images of a batch, not views of them) a second,
beside the ratio to the first method of the same run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from yacs.config import CfgNode

from benchmarks.recipe import IDENTITIES, embedding_seconds, make_learner, median_seconds, noise
from configs import load_config
from data.build import build_augmentation
from data.samplers import BY_IMAGES, SAMPLERS
from engine.build import build_step
from engine.optim import precision
from models import build_model
from models.fusion import folded
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.resources import peak_memory_gb

METHODS = ("MCJA", "AGW", "CAJ", "MCLNet", "DEEN", "DJANet", "IV-REID", "Baseline")


class Cost(NamedTuple):
    """What one method costs."""

    name: str
    parameters: int  # of the network, trained and frozen
    batch: int  # records
    step: float  # records a second
    embedding: float  # images a second
    peak: float | None  # GB of 2**30 bytes on the GPU, in steps


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    torch.backends.cudnn.benchmark = True  # as in training
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}; torch {torch.__version__}\n")
    print("| method | parameters, M | size | batch | step, records/s | ratio | embedding, images/s | ratio | peak GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    first = None
    for path in args.cfgs:
        cfg = load_config(path, ["pretrained", "none", *args.opts])
        cost = measured(cfg, device, args.runs)
        first = first or cost
        peak = "-" if cost.peak is None else f"{cost.peak:.1f}"
        size = "x".join(map(str, cfg.image_size))
        print(
            f"| {cost.name} | {cost.parameters / 1e6:.1f} | {size} | {cost.batch} | {cost.step:.4g} | "
            f"{cost.step / first.step:.2f} | {cost.embedding:.4g} | {cost.embedding / first.embedding:.2f} | {peak} |",
            flush=True,
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.methods", description=__doc__)
    cfgs = [f"configs/SYSU_{name}.yml" for name in METHODS]
    parser.add_argument(
        "--cfgs",
        nargs="+",
        default=cfgs,
        metavar="FILE",
        help="The yml files of the methods; ratios are to the first (default: all methods on SYSU-MM01).",
    )
    parser.add_argument(
        "--device", help="The device: cpu, cuda or cuda:N (default: a GPU where there is one, else the CPU)."
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="How many steps the median is of, after one more (default: 5)."
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Keys to override, such as: fp16 true.")
    return parser.parse_intermixed_args(argv)


def measured(cfg: CfgNode, device: torch.device, runs: int) -> Cost:
    """The cost of the configured method."""
    torch.manual_seed(0)
    model = build_model(cfg, IDENTITIES).to(device)
    augmentation = partial(build_augmentation(cfg), generator=torch.Generator())
    dtype = precision(cfg.fp16, cfg.amp_dtype, device)
    learner = make_learner(cfg, model, augmentation, device, dtype)
    count = cfg.batch_size if SAMPLERS[cfg.sample_method] in BY_IMAGES else cfg.p_size * cfg.k_size
    batch, take = noise(cfg, count, device), build_step(cfg)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    model.train()
    seconds = median_seconds(lambda: take(learner, batch), runs, device)
    peak = peak_memory_gb(device) if device.type == "cuda" else None
    dtype = dtype if cfg.eval_amp else None
    embedding = embedding_seconds(folded(model, autocast=dtype is not None), batch, dtype, runs, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(cfg.prefix.removeprefix("SYSU_"), parameters, count, count / seconds, count / embedding, peak)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

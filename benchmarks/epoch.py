"""Time a whole training epoch, from the cache of decoded images, beside the same steps without any input.

python -m benchmarks.epoch [--images 34167] [--cfg configs/SYSU_MCJA.yml] [--device cpu] [--folder DIR] [KEY VALUE ...]

There are as many identities, modalities and images as in SYSU-MM01's training set; the pixels of a few synthetic images
repeat in a cache file of the real size. On a GPU the second epoch is timed, from the loader's restart to the last
weights; on a CPU 20 batches, from which the epoch's time is extrapolated (~). "waiting" is the share of time that the
process spent in asking for batches. It costs time only where the device had nothing left to do; what is lost to the
input altogether is the difference to the steps on one batch that stays on the device. A folder that is given is kept,
for the next time.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from ignite.engine import Engine, Events
from yacs.config import CfgNode

from benchmarks.repeated_images import COUNTS, fill_cache, repeated, small_sysu
from configs import load_config
from data.build import build_train_loader
from data.samplers import EpochBatchSampler
from engine.build import build_evaluator, build_training
from engine.run import Training
from models import build_model
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.errors import UserError
from utils.resources import peak_memory_gb
from utils.seeding import seed_everything
from utils.types import Batch, Benchmark

SEED = 8
WARM_UP = 2  # batches, on a CPU and for the batch that stays
RESIDENT = 4  # every fourth step is repeated without input


class Timing(NamedTuple):
    """The batches that were timed."""

    batches: int
    seconds: float
    waiting: float  # seconds between asking for a batch and having it


class Span(NamedTuple):
    """Which batches of a run are timed."""

    left_out: int
    timed: int


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        cfg = load_config(args.cfg, ["pretrained", "none", *args.opts, *own_keys(folder)])
        benchmark = repeated(small_sysu(folder), args.images)
        if cfg.cache != "none":
            fill_cache(cfg, benchmark)
        seed_everything(SEED, cfg.deterministic)
        training = prepare(cfg, benchmark, Path(temporary), device)
        span, length = choose_span(training.loader.batch_sampler, args.batches, device)
        loaded = timed(training, training.loader, span, device)
        still = training.trainer.state.batch
        resident = timed(training, [still], Span(WARM_UP, max(1, span.timed // RESIDENT)), device)
        report(cfg, device, args.images, length, len(still.pids), loaded, resident)
        del training
        gc.collect()  # an epoch that was left in its middle holds workers, for each of which the end would wait 5 s


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.epoch", description=__doc__)
    parser.add_argument(
        "--cfg",
        default="configs/SYSU_MCJA.yml",
        help="Take keys from this yml file, as main.py does (default: %(default)s).",
    )
    parser.add_argument("--images", type=int, default=sum(COUNTS), help="Training images (default: %(default)s).")
    parser.add_argument("--batches", type=int, help="Batches to time (default: a whole epoch on a GPU, else 20).")
    parser.add_argument("--device", help="Compute on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    parser.add_argument("--folder", help="Keep the images and their cache in this folder (default: a temporary one).")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys, such as: cache gpu.")
    args = parser.parse_intermixed_args(argv)
    for name, least in (("images", 2), ("batches", 1)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least {least}")
    return args


def own_keys(folder: Path) -> list[str]:
    """Keys that the benchmark sets itself: everything goes to its folder, and nothing is evaluated."""
    places = {"data_root": folder / "drawn", "cache_dir": folder / "cache"}
    fixed = {"dataset": "sysu", "select": "test", "eval_interval": 0, "resume": ""}
    return [str(word) for pair in (places | fixed).items() for word in pair]


# --------------------------------------------------------------------------------------------------------------- timing


def prepare(cfg: CfgNode, benchmark: Benchmark, run: Path, device: torch.device) -> Training:
    """A run in the folder `run`, as main.py builds it."""
    model = build_model(cfg, benchmark.num_ids).to(device)
    test = build_evaluator(cfg, benchmark, benchmark.test, device)
    loader = build_train_loader(cfg, benchmark, SEED, device)
    return build_training(cfg, benchmark, model, loader, test, run, SEED, device, None)


def choose_span(sampler: EpochBatchSampler, batches: int | None, device: torch.device) -> tuple[Span, int]:
    """What is timed, and the batches of the epoch that it represents: the whole second one, or some of the first."""
    lengths = []
    for epoch in (2, 1):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    second, first = lengths
    if batches is None and device.type == "cuda":
        return Span(first, second), second
    left_out = min(WARM_UP, first - 1)
    return Span(left_out, min(batches or 20, first - left_out)), first


def timed(training: Training, data: Iterable[Batch], span: Span, device: torch.device) -> Timing:
    """Train from the state at hand on these batches, again and again, until the span is over."""
    trainer, clock = training.trainer, Stopwatch(span, device)
    length = len(training.loader.batch_sampler)
    trainer.load_state_dict({"epoch": 0, "max_epochs": 2, "epoch_length": length})
    with (
        trainer.add_event_handler(Events.GET_BATCH_STARTED, clock.asks),
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, clock.has),
        trainer.add_event_handler(Events.ITERATION_COMPLETED, clock.done),
    ):
        trainer.run(data)
    return clock.timing


class Stopwatch:
    """Times a span of an engine's batches, then ends its run. Whatever the GPU has to do by then is waited for."""

    def __init__(self, span: Span, device: torch.device):
        self.span, self.device = span, device
        self.batches, self.waiting = 0, 0.0

    def asks(self) -> None:
        if self.batches == self.span.left_out:
            self.waiting, self.start = 0.0, self.now()
        self.asked = time.perf_counter()

    def has(self) -> None:
        self.waiting += time.perf_counter() - self.asked

    def done(self, engine: Engine) -> None:
        self.batches += 1
        if self.batches == sum(self.span):
            self.timing = Timing(self.span.timed, self.now() - self.start, self.waiting)
            engine.terminate()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


# ---------------------------------------------------------------------------------------------------------------- table


def report(
    cfg: CfgNode, device: torch.device, images: int, length: int, batch: int, loaded: Timing, resident: Timing
) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    memory = f", peak {peak_memory_gb(device):.1f} GB" if device.type == "cuda" else ""
    print(
        f"{name}{memory}; Python {platform.python_version()}, torch {torch.__version__}\n"
        f"{images} images, {length} batches of {batch} in an epoch; {cfg.backbone} at {cfg.image_size[0]}x"
        f"{cfg.image_size[1]}, amp_dtype {cfg.amp_dtype if cfg.fp16 else 'none'}, compile {cfg.compile}\n"
    )
    print("| batches from | timed | images/s | ratio | epoch, s | waiting |\n|---|---|---|---|---|---|")
    fastest = rate(resident, batch)
    for source, timing in (("the device: one that stays there", resident), (f"the loader, cache {cfg.cache}", loaded)):
        epoch = f"{'' if timing.batches == length else '~'}{length * timing.seconds / timing.batches:.1f}"
        speed, waiting = rate(timing, batch), 100 * timing.waiting / timing.seconds
        print(f"| {source} | {timing.batches} | {speed:.4g} | {speed / fastest:.3f} | {epoch} | {waiting:.1f} % |")
    print(f"\nlost to the input: {100 * max(0.0, 1 - rate(loaded, batch) / fastest):.1f} % of the time")


def rate(timing: Timing, batch: int) -> float:
    """Images a second."""
    return batch * timing.batches / timing.seconds


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

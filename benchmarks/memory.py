"""Show the memory of a training step by batch, precision and grad_checkpoint: computed, and on a GPU measured beside it.

python -m benchmarks.memory [--batches 32 64 128 256] [--cfg configs/SYSU_MCJA.yml] [--device cpu] [KEY VALUE ...]

A batch holds records, of which the method's augmentation makes views. Computed: weights, gradients and the optimiser's
moments, and what autograd keeps of the forward pass for the backward one, every
storage once: counted in two small batches, to which larger ones are proportional, and in the losses at full size. With
grad_checkpoint it is the most at any time of the backward pass: inputs of blocks, and the one that is computed again.
Not counted: workspaces of convolutions, maps that live for one operation, gaps between allocations, batches that wait,
and on a GPU the driver's own memory (about 0.5 GB), which "measured" lacks too: that is the peak of its tensors.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from yacs.config import CfgNode

from benchmarks.recipe import IDENTITIES, make_learner, noise
from configs import load_config
from data.build import build_augmentation
from engine.build import build_step
from engine.step import create_trainer
from losses import build_criterion
from models import build_model, mcja
from models.backbones import streams as two_streams
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.errors import UserError
from utils.resources import peak_memory_gb
from utils.types import Output

COUNTED = (4, 8)  # records in the batches that the others are computed from
CPU, SMALL = torch.device("cpu"), (32, 32)
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}


class Kept(NamedTuple):
    """Bytes that a forward pass leaves to the backward one: as many whatever the batch, and more for each image."""

    fixed: float
    per_picture: float

    def of(self, batch: int) -> float:
        return self.fixed + self.per_picture * batch


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
    cfg = {recompute: load_config(args.cfg, [*settings, "grad_checkpoint", str(recompute)]) for recompute in (False, True)}  # fmt: skip
    report(cfg[False], device, rows(cfg, args.batches, device))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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


# ------------------------------------------------------------------------------------------------------------ computed


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
    per_picture = (counts[1] - counts[0]) / (second - first)
    return Kept(counts[0] - first * per_picture, per_picture)


def views_of(cfg: CfgNode, batch: int) -> tuple[Tensor, Tensor]:
    """What the configured augmentation makes of so many records: images [R, 3, H, W] and streams [R], on the CPU."""
    views = build_augmentation(cfg)(noise(cfg, batch, CPU), generator=torch.Generator())
    return views.images, views.streams


def count_model(model: nn.Module, images: Tensor, streams: Tensor | None, dtype: torch.dtype | None) -> int:
    """Bytes that the model keeps of R views; with grad_checkpoint the most at any time of the backward pass."""
    known = [*model.parameters(), *model.buffers()]
    device = known[0].device
    images = images.to(device, memory_format=torch.channels_last)
    recomputed, times = mcja.recomputed, []

    def counted(block: nn.Module, x: Tensor) -> Tensor:
        with Counter([*known, x]) as inside:
            block(x)
        own = inside.release()
        out = recomputed(block, x)
        times.append(kept.bytes + own)  # when it is computed again, what later blocks kept is gone
        return out

    with (
        mock.patch.object(mcja, "recomputed", counted),
        mock.patch.object(two_streams, "recomputed", counted),
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


# ------------------------------------------------------------------------------------------------------------ measured


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


# --------------------------------------------------------------------------------------------------------------- table


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

"""Measure how fast training images come: decoded and augmented one by one, or from the cache and in batches.

python -m benchmarks.input [--images 512] [--size 384 192] [--batch 128] [--rounds 3] [--device cpu]

Makes synthetic images of about SYSU-MM01's size in a temporary folder and prints a Markdown table: visible images, one
CPU core, the fastest of the rounds. Batches may be augmented on a GPU. What is done one by one is stacked into batches
too, but for the parts of it alone.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import PIL
import torch
import torchvision
from torch import Tensor

from benchmarks import plain_input
from data.augmentation.mcja import COLOUR_PARTS, Recipe, augment
from data.images.cache import cached
from data.images.decode import ImageFiles
from data.sets import sysu
from tools import make_synthetic
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.errors import UserError
from utils.types import Modality

FILE_SIZE = (320, 128)  # pixels of the files, height and width; SYSU-MM01's images have many sizes
IMAGES = 4  # per identity and camera; at least three visible cameras see each
RECIPE = Recipe(frozenset(COLOUR_PARTS), flip=True, crop=True, padding=plain_input.PADDING, erase=True)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device, size = pick_device(args.device), tuple(args.size)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(Path(folder) / "data", args.images)
        seconds = measured(Path(folder), paths, size, args.batch, device, args.rounds)
    report({name: len(paths) / taken for name, taken in seconds.items()}, device, args)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.input", description=__doc__)
    parser.add_argument("--images", type=int, default=512, help="Images to read (default: %(default)s).")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=[384, 192],
        metavar=("H", "W"),
        help="Give images this height and width, in pixels (default: 384 192).",
    )
    parser.add_argument("--batch", type=int, default=128, help="Images in a batch (default: %(default)s).")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements (default: %(default)s).")
    parser.add_argument("--device", help="Compute on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    args = parser.parse_args(argv)
    for name in ("images", "batch", "rounds"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} = {getattr(args, name)}: must be at least 1")
    if not all(32 <= side <= 2048 for side in args.size):
        raise UserError(f"--size = {args.size[0]} {args.size[1]}: both must lie in 32..2048")
    return args


def draw(root: Path, count: int) -> list[str]:
    """Paths of `count` synthetic visible training images."""
    people = -(-count // (3 * IMAGES))
    identities = ["--train-ids", str(people), "--val-ids", "1", "--test-ids", "1"]
    make_synthetic.run([str(root), *identities, "--images", str(IMAGES), "--size", *map(str, FILE_SIZE)])
    train = sysu.load(str(root)).train
    return [record.path for record in train if record.modality == Modality.VISIBLE][:count]


def measured(
    folder: Path, paths: Sequence[str], size: tuple[int, int], batch: int, device: torch.device, rounds: int
) -> dict[str, float]:
    """Seconds for all images, by way and part of it."""
    batches = torch.randperm(len(paths)).split(batch)
    pixels, _ = cached(folder / "input.pixels", ImageFiles(paths, size), workers=0)
    resized = [plain_input.resize(size)(plain_input.load(path)) for path in paths]
    decoded = [pixels[rows].to(device) for rows in batches]
    transform, generator = plain_input.augmentation(size), torch.Generator().manual_seed(0)

    def batched(images: Tensor) -> Tensor:
        images = images.to(device)
        return augment(images, torch.zeros(len(images), dtype=torch.int64), RECIPE, generator)

    ways: dict[str, Callable[[], Iterable]] = {
        "one by one": lambda: (plain_input.batch([paths[row] for row in rows], size) for rows in batches),
        "one by one: decode and resize only": lambda: (
            plain_input.resize(size)(plain_input.load(path)) for path in paths
        ),
        "one by one: augment only": lambda: map(transform, resized),
        "in batches, from the cache": lambda: (batched(pixels[rows]) for rows in batches),
        "in batches: read the cache only": lambda: (pixels[rows] for rows in batches),
        "in batches: augment only": lambda: map(batched, decoded),
    }
    return {name: shortest(way, device, rounds) for name, way in ways.items()}


def shortest(way: Callable[[], Iterable], device: torch.device, rounds: int) -> float:
    """Seconds of the fastest of `rounds`, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in way():
            pass
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def report(rates: dict[str, float], device: torch.device, args: argparse.Namespace) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{args.images} images of {FILE_SIZE[0]}x{FILE_SIZE[1]}, resized to {args.size[0]}x{args.size[1]}, batches of "
        f"{args.batch}; one thread, batches augmented on: {name}\n"
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"Pillow {PIL.__version__}\n\n| way | images/s | ratio |\n|---|---|---|"
    )
    for way, rate in rates.items():
        print(f"| {way} | {rate:.0f} | {rate / rates['one by one']:.1f} |")


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

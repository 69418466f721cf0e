"""Show that tools.embed needs the same memory for any number of images.

python -m benchmarks.embed_memory [--rows 20000 200000] [--workers 2] [--folder FOLDER]

The images are links to one synthetic image of 64x32, a thousand in a folder; a network of one layer gives vectors of
2048 dimensions, so that the time is that of everything but the network. A gallery is made in a folder of its own, then
opened as tools.search does, and a thousand images are added to it. "Peak" is the most main memory that this process
held so far, without the loader processes, so that the order of --rows is that of the work: smallest first.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from engine.embed import Embedder
from engine.gallery.embedding import embed_into
from engine.gallery.folder import open_gallery
from engine.gallery.sources import FROM_NAMES, PARENT, rows_of_files
from utils.cli import Parser, exit_code, natural
from utils.files import expanded
from utils.resources import peak_memory_gb

SIZE, WIDTH, BATCH = (64, 32), 2048, 64
IN_FOLDER = 1000  # images
ADDED = 1000  # images


class OneLayer(nn.Module):
    """[B, 3, H, W], [B] -> [B, WIDTH]: rows of pixels, each mean of which counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * SIZE[0], WIDTH)

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        """[B, 3, H, W] float32 -> [B, WIDTH]."""
        return self.layer(images.mean(dim=3).flatten(1))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.manual_seed(0)
    embedder = Embedder(OneLayer(), SIZE, torch.device("cpu"), {})
    embedder.card = {
        **{"model": embedder.hash, "method": "one layer", "image_size": list(SIZE), "dimension": WIDTH},
        **{"dataset": "none", "protocol": "", "scores": [], "versions": {}},
    }
    print(f"{'rows':>9}  {'step':<8}  {'seconds':>8}  {'rows/s':>8}  {'peak MB':>8}")
    print(f"{0:>9}  {'start':<8}  {'':>8}  {'':>8}  {peak():8.0f}", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for count in args.rows:
            measure(Path(folder), embedder, count, args.workers)


def measure(folder: Path, embedder: Embedder, count: int, workers: int | None) -> None:
    """Make a gallery of `count` images, open it, add images to it, and print what each took."""
    added = min(count, ADDED)
    images, more = (links(folder / f"{name}-{count}", number) for name, number in (("images", count), ("more", added)))
    root = folder / f"gallery-{count}"
    steps = {
        "embed": lambda: embed_into(root, embedder, sources(images), BATCH, workers),
        "open": lambda: len(open_gallery(root).paths),
        "append": lambda: embed_into(root, embedder, sources(more), BATCH, workers, append=True),
    }
    for name, work in steps.items():
        clock = time.perf_counter()
        work()
        seconds = time.perf_counter() - clock
        done = added if name == "append" else count
        print(f"{count:>9}  {name:<8}  {seconds:8.1f}  {done / seconds:8.0f}  {peak():8.0f}", flush=True)


def sources(images: Path):
    """How tools.embed lists the images of a folder."""
    return partial(rows_of_files, [images], "infrared", PARENT, FROM_NAMES)


def links(folder: Path, count: int) -> Path:
    """A folder with as many names of one synthetic image, a thousand in each folder."""
    folder.mkdir()
    original = folder / "original"
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(original, format="JPEG")
    for row in range(count):
        place = folder / f"{row // IN_FOLDER:04d}"
        place.mkdir(exist_ok=True)
        os.symlink(original, place / f"{row // IN_FOLDER:04d}_c{row % 6 + 1}s1_{row:06d}.jpg")
    return folder


def peak() -> float:
    """The most main memory that this process held so far, in MB of 2**20 bytes."""
    return 1024 * (peak_memory_gb(torch.device("cpu")) or 0)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.embed_memory", description=__doc__)
    rows = "Make a gallery of this number of images, one after the other (default: 20000 200000)."
    parser.add_argument("--rows", type=natural, nargs="+", default=[20_000, 200_000], metavar="N", help=rows)
    parser.add_argument(
        "--workers", type=natural, help="Decode in this number of processes (default: one for each core)."
    )
    parser.add_argument("--folder", type=expanded, help="Put images and galleries here (default: a temporary folder).")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

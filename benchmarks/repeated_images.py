"""A training set as large as SYSU-MM01's, made of a few synthetic images that repeat, and its cache file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

from data.build import build_cache, build_cache_path, build_image_files
from data.images.cache import make_room, read_all, write_cache
from data.images.decode import ImageFiles
from data.images.pixel_file import MappedPixels, header_of
from data.sets import sysu
from tools import make_synthetic
from utils.errors import UserError
from utils.types import Benchmark, Modality, Record

IDENTITIES, *COUNTS = list(sysu.PUBLISHED.values())[:3]  # identities, visible and infrared images for training
CAMERAS = (sysu.VISIBLE_CAMERAS, sysu.INFRARED_CAMERAS)
OPTIONS = ["--train-ids", "8", "--val-ids", "1", "--test-ids", "1", "--images", "4", "--size", "320", "128"]
PART = "train"  # of the data set, as its cache file is named


def small_sysu(folder: Path) -> Benchmark:
    """A small SYSU-MM01, made there unless it was before."""
    make_synthetic.run([str(folder / "drawn"), *OPTIONS])
    return sysu.load(str(folder / "drawn"))


def repeated(benchmark: Benchmark, images: int) -> Benchmark:
    """The benchmark with `images` training images, by modality and identity as in SYSU-MM01; its files repeat."""
    visible = round(images * COUNTS[0] / sum(COUNTS))
    counts = {Modality.VISIBLE: visible, Modality.INFRARED: images - visible}
    train = [
        record
        for modality, count in counts.items()
        for record in records([r.path for r in benchmark.train if r.modality == modality], modality, count)
    ]
    return benchmark._replace(num_ids=IDENTITIES, train=train)


def records(paths: Sequence[str], modality: Modality, count: int) -> Iterator[Record]:
    cameras = CAMERAS[modality]
    for row in range(count):
        turn, pid = divmod(row, IDENTITIES)
        yield Record(paths[row % len(paths)], pid, cameras[turn % len(cameras)], modality)


def fill_cache(cfg: CfgNode, benchmark: Benchmark) -> None:
    """The cache of the training images, in the memory that the system keeps files in. NoCache where it has no room."""
    images, path = build_image_files(cfg, benchmark, PART), build_cache_path(cfg, benchmark, PART)
    header = header_of(images)
    if not fits(path, header):
        make_room(path, header)
        write_cache(path, header, decoded_once(images))
    pixels, _ = build_cache(cfg, benchmark, PART)
    for _ in read_all(pixels, 0, "reading"):
        pass


def fits(path: Path, header: dict) -> bool:
    try:
        return bool(MappedPixels(path, header))
    except UserError:
        return False


def decoded_once(images: ImageFiles) -> Iterator[Tensor]:
    """What reading all of them gives, though a file that repeats is decoded once."""
    paths = sorted(set(images.paths))
    pixels = ImageFiles(paths, images.size)[torch.arange(len(paths))]
    number = {path: row for row, path in enumerate(paths)}
    for rows in torch.tensor([number[path] for path in images.paths]).split(len(paths)):
        yield pixels[rows]

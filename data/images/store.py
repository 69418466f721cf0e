"""Where a run takes its pixels from: the images, a cache file, main memory or the GPU; if one fails, the next one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from data.images.cache import NoCache, cached, read_all
from data.images.decode import ImageFiles, Pixels
from data.images.workers import SHARED_MEMORY
from utils.logging import logger
from utils.processes import machine_first, me
from utils.resources import free_memory

CPU = torch.device("cpu")


class HeldPixels:
    """Pixels in one tensor, [N, 3, H, W] uint8, on the device where batches of them are wanted."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    @property
    def image_bytes(self) -> int:
        return self.tensor[0].nbytes

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.tensor.index_select(0, rows.to(self.tensor.device, non_blocking=True))


def open_pixels(images: ImageFiles, kind: str, path: Path, device: torch.device, workers: int) -> Pixels:
    """The images' pixels where `kind` (disk | ram | gpu | none) says, or at the next best place, with a warning.

    path: of the cache file, which "ram" and "gpu" are copied from. device: of the training.
    """
    if kind == "none" or not len(images):
        return images
    name = path.stem
    try:
        with machine_first():
            pixels, _ = cached(path, images, workers, check=not me().local_rank)
    except NoCache as error:
        logger.warning(f"cache: {error}; without one, images are decoded whenever they are needed")
        pixels = images
    home = find_home(name, kind, len(images) * images.image_bytes, device)
    if home is None:
        return pixels
    # Pixels of a file are read by this process alone: copying them elsewhere is all there is to do.
    batches = read_all(pixels, workers if pixels is images else 0, f"into {home.type} memory")
    return HeldPixels(fill(empty((len(images), 3, *images.size), home), batches))


def find_home(name: str, kind: str, needed: int, device: torch.device) -> torch.device | None:
    """The device with room for `needed` bytes (at most half of its free memory), or None."""
    if kind == "gpu":
        lack = "there is no GPU in use" if device.type != "cuda" else lack_of_memory(device, needed)
        if lack is None:
            return device
        logger.warning(f"cache = gpu: {name}: {lack}; trying main memory")
    if kind in ("gpu", "ram"):
        lack = lack_of_memory(CPU, needed * me().local_world)  # each process holds them all
        if lack is None:
            return CPU
        logger.warning(f"cache = {kind}: {name}: {lack}; not kept in main memory")
    return None


def lack_of_memory(device: torch.device, needed: int) -> str | None:
    """Why this many bytes should not be kept on the device; None if they may."""
    free = free_memory(device)
    if free is not None and needed > free / 2:
        kind = "main" if device.type == "cpu" else "GPU"
        return f"{gigabytes(needed)} are more than half of the {gigabytes(free)} of free {kind} memory"
    if device.type == "cpu" and SHARED_MEMORY.is_dir():
        shared = shutil.disk_usage(SHARED_MEMORY).free
        if needed > shared / 2:  # batches that leave a worker need room there, too
            return f"{gigabytes(needed)} are more than half of the {gigabytes(shared)} that are free in {SHARED_MEMORY}"
    return None


def empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An unfilled [N, 3, H, W] uint8 tensor; in main memory, loader workers share it, however they are started."""
    tensor = torch.empty(shape, dtype=torch.uint8, device=device)
    return tensor.share_memory_() if device.type == "cpu" else tensor


def fill(tensor: Tensor, batches: Iterable[Tensor]) -> Tensor:
    """Copy batches [B, 3, H, W] into `pixels` [N, 3, H, W], one after the other, and return it."""
    start = 0
    for images in batches:
        tensor[start : start + len(images)] = images
        start += len(images)
    return tensor


def gigabytes(size: float) -> str:
    return f"{size / 2**30:.2f} GB"

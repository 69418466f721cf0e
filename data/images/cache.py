"""Decoded images on disk: each is decoded and resized once, not once per epoch (docs/data.md).

Processes that want the same file at the same time take turns: the first decodes, the others wait, and map what it
wrote.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from data.images.decode import ImageFiles, Pixels
from data.images.pixel_file import MappedPixels, Unfit, header_of, size_of, write_pixels
from data.images.workers import PatientLoader, workers_with_room
from utils.errors import UserError, reason
from utils.files import PARTIAL, replacing, sweep
from utils.locks import lock
from utils.logging import logger
from utils.terminal import bar_options

CHUNK = 32  # images that are decoded and written at a time
POLL = 0.2  # seconds between looks at another process's lock


class NoCache(UserError):
    """A cache cannot be written; the images can still be decoded as they are needed."""


def cached(path: Path, images: ImageFiles, workers: int, check: bool = True) -> tuple[MappedPixels, str | None]:
    """The images' pixels from a cache file, decoded into it first where it cannot serve.

    Returns with them why the file was written, None where it was there. check: read all of it and compare its checksum.
    Raises NoCache where it cannot be written, and UserError for an image that is missing or cannot be read; no
    unfinished file is left then.
    """
    header = header_of(images)
    try:
        found = MappedPixels(path, header, check), None
        sweep(path.parent, path.name)
        return found
    except Unfit as error:
        fault = str(error)
    make_folder(path)
    with turn(path):
        with suppress(Unfit):  # another process wrote it meanwhile
            return MappedPixels(path, header, check), None
        make_room(path, header)
        size = size_of(header) / 2**20
        shown = f"{size:.1f} MB" if size < 1000 else f"{size / 2**10:.1f} GB"
        logger.info(f"{fault}; decoding {len(images)} images into it ({shown})")
        write_cache(path, header, read_all(images, workers, "decoding"))
    return MappedPixels(path, header), fault


def make_folder(path: Path) -> None:
    """NoCache where the file cannot be there."""
    if path.exists() and not path.is_file():
        raise NoCache(f"{path}: could not be written (a folder, a pipe or a device is there)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoCache(f"{path.parent}: cannot be the folder of a cache ({error.strerror})") from None
    if not os.access(path.parent, os.W_OK):
        raise NoCache(f"{path.parent}: not writable, so it cannot be the folder of a cache")


def make_room(path: Path, header: dict[str, Any]) -> None:
    """Make the folder, and remove what killed processes left of this file. NoCache where there is too little room."""
    make_folder(path)
    sweep(path.parent, path.name)
    needed, free = size_of(header), shutil.disk_usage(path.parent).free
    if needed > free:
        raise NoCache(f"{path}: {needed / 2**30:.2f} GB are needed, {free / 2**30:.2f} GB are free")


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """The block in one process at a time; another waits until it ends, and says so. Where there are no locks, at once.

    The lock is a file beside `path`, removed at the end. Of a killed process it is left, unlocked, for `sweep`.
    """
    place = path.with_name(f".{path.name}.turn{PARTIAL}")
    try:
        file = _locked(place, path)
    except OSError as error:
        raise NoCache(f"{place}: could not be written ({reason(error)})") from None
    with file:
        try:
            yield
        finally:
            with suppress(OSError):
                place.unlink()


def _locked(place: Path, path: Path) -> BinaryIO:
    """The file `place`, open and locked by this process as far as there are locks."""
    waiting = False
    while True:
        file = place.open("wb")
        file.write(b"locked while a process decodes\n")
        file.flush()
        if lock(file) is False:
            file.close()
            if not waiting:
                logger.info(f"{path}: another process decodes these images; waiting for it")
            waiting = True
            time.sleep(POLL)
        elif _same(file, place):
            return file
        else:  # its owner removed it after this process had opened it
            file.close()


def _same(file: BinaryIO, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except OSError:
        return False


def write_cache(path: Path, header: dict[str, Any], batches: Iterable[Tensor]) -> None:
    """Replace the file by a header and pixels that come in batches [B, 3, H, W] uint8. The old one stays until then."""
    try:
        with replacing(path, patient=False) as file:
            write_pixels(file, header, batches)
    except OSError as error:
        raise NoCache(f"{path}: could not be written ({reason(error)})") from None


def read_all(pixels: Pixels, workers: int, doing: str) -> Iterator[Tensor]:
    """All pixels in order, [B, 3, H, W] at a time, read by `workers` processes; a progress bar on a terminal."""
    rows = torch.arange(len(pixels)).split(CHUNK)
    loader = PatientLoader(
        pixels,
        batch_size=None,
        sampler=rows,
        num_workers=workers_with_room(min(workers, len(rows)), CHUNK * pixels.image_bytes),
        generator=torch.Generator().manual_seed(0),  # the global random state stays as it is
    )
    with tqdm(total=len(pixels), desc=f"{doing}: ", leave=False, **bar_options()) as bar:
        for images in loader:
            yield images
            bar.update(len(images))

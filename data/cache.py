"""Decoded pictures on disk: each is decoded and resized once, not once per epoch (docs/data.md).

A cache file holds the pixels of a list of pictures in one size: a header of HEADER bytes (JSON, padded with spaces), then
uint8 [N, 3, H, W]. It is written under a temporary name and renamed: a file under its own name was finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.images import Pictures, Pixels
from utils.errors import UserError, reason
from utils.logging import logger
from utils.processes import hide_bar

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HEADER = 4096
CHUNK = 32  # pictures that are decoded and written at a time
# What a header says, and what it means when it says something else than expected.
UNFIT = {
    "format": "not a cache of pictures, or of another version",
    "decoder": "decoded by another version of Pillow",
    "shape": "holds another number of pictures",
    "fingerprint": "made from other pictures, or they changed since",
}


class Unfit(UserError):
    """A file cannot serve as the cache of the pictures it is opened for."""


class NoCache(UserError):
    """A cache cannot be written; the pictures can still be decoded as they are needed."""


class MappedPixels:
    """The pixels of a cache file, mapped into memory. Raises Unfit where the file is not what the header says.

    header: what `header_of` gives for the pictures as they are.
    """

    def __init__(self, path: Path, header: dict[str, Any]):
        self.path, self.header = path, header
        try:
            with path.open("rb") as file:
                # Looked at and mapped through one handle: another process may replace the file at any time.
                fault = _fault(file, header)
                if fault:
                    raise Unfit(f"{path}: {fault}")
                self.mapped = np.asarray(np.memmap(file, np.uint8, "r", HEADER, tuple(header["shape"])))
        except FileNotFoundError:
            raise Unfit(f"{path}: not there yet") from None
        except OSError as error:
            raise Unfit(f"{path}: cannot be read ({reason(error)})") from None

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.mapped.take(rows.numpy(), axis=0))

    def __reduce__(self):
        # A worker that is spawned maps the file itself; what it is sent stays small.
        return MappedPixels, (self.path, self.header)


def cached(path: Path, pictures: Pictures, workers: int) -> tuple[MappedPixels, str | None]:
    """The pictures' pixels from a cache file, decoded into it first where it cannot serve.

    Returns with them why the file was written, None where it was there. Raises NoCache where it cannot be written, and
    UserError for a picture that is missing or cannot be read; no unfinished file is left then.
    """
    header = header_of(pictures)
    try:
        return MappedPixels(path, header), None
    except Unfit as error:
        fault = str(error)
    make_room(path, header)
    logger.info(f"{fault}; decoding {len(pictures)} pictures, {size_of(header) / 2**30:.2f} GB")
    write_cache(path, header, read_all(pictures, workers, "decoding"))
    return MappedPixels(path, header), fault


def header_of(pictures: Pictures) -> dict[str, Any]:
    """What the cache of these pictures, as they are now, begins with. UserError for a picture that is not there."""
    return {
        "format": "decoded pictures 1",
        "decoder": f"Pillow {PIL.__version__}",  # another one may round differently
        "shape": [len(pictures), 3, *pictures.size],
        "fingerprint": fingerprint(pictures.paths),
    }


def fingerprint(paths: Sequence[str]) -> str:
    """SHA-256, in hex, of the pictures' names, sizes and times of change. UserError for one that is not there."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); the data set is not complete") from None
        digest.update(f"{os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def size_of(header: dict[str, Any]) -> int:
    """Bytes of the whole file."""
    return HEADER + int(np.prod(header["shape"], dtype=np.int64))


def make_room(path: Path, header: dict[str, Any]) -> None:
    """Make the folder, and remove what killed processes left of this file. NoCache where the file cannot be there."""
    needed = size_of(header)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise NoCache(f"{path.parent}: cannot be the folder of a cache ({error.strerror})") from None
    if not os.access(path.parent, os.W_OK):
        raise NoCache(f"{path.parent}: not writable, so it cannot be the folder of a cache")
    if needed > free:
        raise NoCache(f"{path}: {needed / 2**30:.2f} GB are needed, {free / 2**30:.2f} GB are free")


def write_cache(path: Path, header: dict[str, Any], batches: Iterable[Tensor]) -> None:
    """Replace the file by a header and pixels that come in batches [B, 3, H, W] uint8. The old one stays until then."""
    try:
        with _partial(path) as file:
            file.write(json.dumps(header).encode().ljust(HEADER))
            for images in batches:
                file.write(images.contiguous().numpy().data)
    except OSError as error:
        raise NoCache(f"{path}: could not be written ({reason(error)})") from None


def read_all(pixels: Pixels, workers: int, doing: str) -> Iterator[Tensor]:
    """All pixels in order, [B, 3, H, W] at a time, read by `workers` processes; a progress bar on a terminal."""
    rows = torch.arange(len(pixels)).split(CHUNK)
    loader = DataLoader(
        pixels,
        batch_size=None,
        sampler=rows,
        num_workers=min(workers, len(rows)),
        generator=torch.Generator().manual_seed(0),  # the global random state stays as it is
    )
    with tqdm(total=len(pixels), desc=doing, unit=" pictures", leave=False, disable=hide_bar()) as bar:
        for images in loader:
            yield images
            bar.update(len(images))


def sweep(path: Path) -> None:
    """Remove unfinished files whose writers are gone."""
    for left in path.parent.glob(f".{escape(path.name)}.*.partial"):
        with suppress(OSError), left.open("r+b") as file:
            # One without content may belong to a process that has not taken its lock yet.
            if os.fstat(file.fileno()).st_size and _lock(file):
                left.unlink()


@contextmanager
def _partial(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place at the end, or is removed whatever goes wrong."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    with os.fdopen(handle, "wb") as file:
        try:
            _lock(file)
            yield file
            file.flush()
            os.fsync(handle)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _lock(file: BinaryIO) -> bool:
    """Take the lock that a file's writer holds as long as it lives; False where that fails or there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _fault(file: BinaryIO, header: dict[str, Any]) -> str | None:
    try:
        found = dict(json.loads(file.read(HEADER)))
    except (ValueError, TypeError, RecursionError):
        return "not a cache of pictures, or damaged"
    for entry, meaning in UNFIT.items():
        if found.get(entry) != header[entry]:
            return meaning
    size, expected = os.fstat(file.fileno()).st_size, size_of(header)
    return None if size == expected else f"has {size} bytes instead of {expected}"

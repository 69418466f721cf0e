"""The file of decoded images: a header of HEADER bytes (JSON, padded with spaces), then uint8 [N, 3, H, W].

The header holds a checksum of the pixels. It is written last, and the file gets its name after that
(data/images/cache.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from torch import Tensor

from data.images.decode import ImageFiles
from utils.errors import UserError, reason, shown
from utils.files import require_regular
from utils.limits import cores

HEADER = 4096
BLOCK = 8 * 2**20  # bytes; each has its CRC-32, and the checksum is the CRC-32 of those, so that threads share the work
# What a header says, and what it means when it says something else than expected.
UNFIT = {
    "format": "not a cache of images, or of another version",
    "decoder": "decoded by another version of Pillow",
    "shape": "holds another number of images",
    "fingerprint": "made from other images, or they changed since",
}


class Unfit(UserError):
    """A file cannot serve as the cache of the images it is opened for."""


class MappedPixels:
    """The pixels of a cache file, mapped into memory. Raises Unfit where the file is not what the header says.

    header: what `header_of` gives for the images as they are. check: whether the pixels' checksum is computed, too.
    """

    def __init__(self, path: Path, header: dict[str, Any], check: bool = False):
        self.path, self.header = path, header
        if not path.exists():
            raise Unfit(f"{path}: not there yet")
        try:
            require_regular(path)
            with path.open("rb") as file:
                # Looked at and mapped through one handle: another process may replace the file at any time.
                fault = _fault(file, header, check)
                if fault:
                    raise Unfit(f"{path}: {fault}")
                self.mapped = np.asarray(np.memmap(file, np.uint8, "r", HEADER, tuple(header["shape"])))
        except OSError as error:
            raise Unfit(f"{path}: cannot be read ({reason(error)})") from None
        except UserError as error:
            raise error if isinstance(error, Unfit) else Unfit(str(error)) from None

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.mapped.take(rows.numpy(), axis=0))

    def __reduce__(self):
        # A worker that is spawned maps the file itself; what it is sent stays small.
        return MappedPixels, (self.path, self.header)

    @property
    def image_bytes(self) -> int:
        return int(np.prod(self.header["shape"][1:]))


def header_of(images: ImageFiles) -> dict[str, Any]:
    """What the file of these images, as they are now, begins with, but the checksum. UserError for one not there."""
    return {
        "format": "decoded images 2",
        "decoder": f"Pillow {PIL.__version__}",  # another one may round differently
        "shape": [len(images), 3, *images.size],
        "fingerprint": fingerprint(images.paths),
    }


def fingerprint(paths: Sequence[str]) -> str:
    """SHA-256, in hex, of the images' names, sizes and times of change. UserError for one that is not there."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            raise UserError(f"{shown(path)}: cannot be read ({error.strerror}); the data set is not complete") from None
        text = f"{os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}\n"
        digest.update(text.encode(errors="surrogateescape"))
    return digest.hexdigest()


def size_of(header: dict[str, Any]) -> int:
    """Bytes of the whole file."""
    return HEADER + int(np.prod(header["shape"], dtype=np.int64))


def write_pixels(file: BinaryIO, header: dict[str, Any], batches: Iterable[Tensor]) -> None:
    """Write batches [B, 3, H, W] uint8 and then, before them, the header with their checksum."""
    checksum = Checksum()
    file.write(b" " * HEADER)
    for images in batches:
        content = images.contiguous().numpy().reshape(-1).data
        file.write(content)
        checksum.update(content)
    file.seek(0)
    file.write(json.dumps({**header, "checksum": checksum.value()}).encode().ljust(HEADER))


class Checksum:
    """The checksum of bytes that come in pieces of any length."""

    def __init__(self):
        self.done: list[int] = []
        self.crc, self.length = 0, 0  # of the block that is not complete

    def update(self, content: memoryview) -> None:
        while len(content):
            piece = content[: BLOCK - self.length]
            self.crc, self.length = zlib.crc32(piece, self.crc), self.length + len(piece)
            content = content[len(piece) :]
            if self.length == BLOCK:
                self.done.append(self.crc)
                self.crc, self.length = 0, 0

    def value(self) -> int:
        return combined([*self.done, self.crc] if self.length else self.done)


def combined(crcs: Sequence[int]) -> int:
    return zlib.crc32(np.array(crcs, "<u4").tobytes())


def checksum_of(file: BinaryIO) -> int:
    """The checksum of the pixels in a file, read by as many threads as there are cores."""
    starts = range(HEADER, os.fstat(file.fileno()).st_size, BLOCK)
    with ThreadPoolExecutor(min(8, cores())) as pool:
        return combined(list(pool.map(lambda start: zlib.crc32(os.pread(file.fileno(), BLOCK, start)), starts)))


def _fault(file: BinaryIO, header: dict[str, Any], check: bool) -> str | None:
    try:
        found = dict(json.loads(file.read(HEADER)))
    except (ValueError, TypeError, RecursionError):
        return "not a cache of images, or damaged"
    for entry, meaning in UNFIT.items():
        if found.get(entry) != header[entry]:
            return meaning
    size, expected = os.fstat(file.fileno()).st_size, size_of(header)
    if size != expected:
        return f"has {size} bytes instead of {expected}"
    if check and found.get("checksum") != checksum_of(file):
        return "damaged: its pixels do not have the checksum that they were written with"
    return None

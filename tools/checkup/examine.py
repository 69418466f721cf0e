"""Every image of a data set opened once: what it is, and why it is none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from data.images.decode import BYTE_LIMIT, as_it_is, decoded
from data.images.workers import PatientLoader
from utils.errors import UserError, reason
from utils.files import read_bytes
from utils.terminal import bar_options

CHUNK = 32  # images that a worker opens at a time
WHY = re.compile(r"^.*: (?:not a readable image|cannot be read) \((.*?)\)(?:; replace the file)?$", re.DOTALL)
FEW = 256  # images that are opened sooner than workers start


class Examined(NamedTuple):
    """One image file."""

    path: str
    digest: str  # of its content; empty where it cannot be read
    width: int
    height: int
    fault: str  # why it is no image; empty for a sound one


def examine(path: str) -> Examined:
    """Read and decode a file. Whatever is wrong with it is its fault, and raises nothing."""
    digest = ""
    try:
        content = read_bytes(Path(path), BYTE_LIMIT)
        digest = hashlib.sha256(content).hexdigest()
        if not content:
            return Examined(path, "", 0, 0, "empty")
        return Examined(path, digest, *decoded(path).size, "")
    except UserError as error:
        return Examined(path, digest, 0, 0, WHY.sub(r"\1", str(error)))
    except Exception as error:  # a decoder may raise anything on a damaged file
        return Examined(path, digest, 0, 0, reason(error))


class Examiner:
    """Files by their rows, for a loader."""

    def __init__(self, paths: Sequence[str]):
        self.paths = list(paths)

    def __getitem__(self, rows: Tensor) -> list[Examined]:
        """[B] int64 -> B examined files."""
        return [examine(self.paths[row]) for row in rows.tolist()]


def examine_all(paths: Sequence[str], workers: int) -> list[Examined]:
    """All files in order, opened by `workers` processes where there are many; a progress bar on a terminal."""
    rows = torch.arange(len(paths)).split(CHUNK)
    loader = PatientLoader(
        Examiner(paths),
        batch_size=None,
        sampler=rows,
        collate_fn=as_it_is,
        num_workers=0 if len(paths) <= FEW else min(workers, len(rows)),
        generator=torch.Generator().manual_seed(0),
    )
    found: list[Examined] = []
    with tqdm(total=len(paths), desc="opening images: ", leave=False, **bar_options()) as bar:
        for part in loader if len(paths) else ():
            found += part
            bar.update(len(part))
    return found

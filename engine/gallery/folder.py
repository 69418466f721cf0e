"""A gallery folder: vectors.npy, images.csv and card.json, which `python -m tools.embed` writes.

The card is the last file that takes its place, and `rows` in it counts: vectors.npy and images.csv may hold more rows
where images were being added.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

import numpy as np

from engine.gallery.card import CARD, Model
from utils.errors import UserError, reason
from utils.files import expanded, read_json, require_regular
from utils.schema import MOST, TEXT, both, misfit, optional, whole
from utils.types import Modality

VECTORS, IMAGES, CARD_FILE = "vectors.npy", "images.csv", "card.json"
MODEL_FILE = "file"  # entry of a gallery's card: where its model lay, empty where nobody knows
HEADER = ["row", "path", "identity", "camera", "modality"]
MODALITIES = frozenset(modality.name.lower() for modality in Modality)
WAY = "give a folder that tools.embed wrote, or embed the images again"
SAMPLED = 64  # rows of a gallery whose vectors are looked at when it is opened
TOLERANCE = 1e-3  # by which a vector's length may differ from 1


class Row(NamedTuple):
    """One image of a gallery."""

    path: str  # absolute; bytes that are no UTF-8 are surrogates, as everywhere in Python
    identity: str  # empty: not known
    camera: str  # empty: not known
    modality: str  # "visible" or "infrared"


@dataclass(frozen=True, eq=False)
class Gallery:
    """N images and their vectors."""

    root: Path
    vectors: np.ndarray  # [N, D] float32 of unit length, mapped from the file
    paths: Sequence[str]  # N, and what else a Row has
    identities: Sequence[str]
    cameras: Sequence[str]
    modalities: Sequence[str]
    card: dict[str, Any]  # of the model (engine/gallery/card.py), and `rows`

    def __len__(self) -> int:
        return len(self.paths)


def open_gallery(path: str | Path) -> Gallery:
    """The gallery of a folder. UserError where a file is missing, damaged, or shorter than the card says."""
    root = expanded(path)
    card = read_card(root)
    vectors = mapped_vectors(root / VECTORS, card["dimension"])
    count = card.get("rows", len(vectors))
    columns: list[list[str]] = [[] for _ in Row._fields]
    for row in islice(read_images(root / IMAGES), count):
        for column, text in zip(columns, row):
            column.append(text)
    for name, found in ((VECTORS, len(vectors)), (IMAGES, len(columns[0]))):
        if found < count:
            raise UserError(f"{root / name}: damaged, it holds {found} of {count} rows; {WAY}")
    sample = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64))
    require_unit(vectors[sample], sample)
    return Gallery(root, vectors[:count], *columns, card=card)


def read_card(root: Path) -> dict[str, Any]:
    """What card.json says. UserError where the folder is no gallery."""
    card = read_json(root / CARD_FILE, hint=WAY)
    if wrong := misfit(card, both(CARD, {"rows": optional(whole(0, MOST)), MODEL_FILE: optional(TEXT)})):
        raise UserError(f"{root / CARD_FILE}: not as tools.embed writes it: {wrong}; {WAY}")
    return card


def read_images(path: Path) -> Iterator[Row]:
    """The rows of an images.csv. UserError naming the first line that is none."""
    require_regular(path, hint=WAY)
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            if next(reader, None) != HEADER:
                raise UserError(f"{path}: its first line is not {','.join(HEADER)}; {WAY}")
            for number, line in enumerate(reader):
                if len(line) != 5 or line[0] != str(number) or line[4] not in MODALITIES:
                    raise UserError(f"{path}: line {reader.line_num} is not that of row {number}; {WAY}")
                yield Row(line[1], *map(intern, line[2:]))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: damaged ({reason(error)}); {WAY}") from None


def require_unit(vectors: np.ndarray, rows: np.ndarray) -> None:
    """UserError for the first of these vectors, [n, D] float32, whose length is not 1. rows: [n], their numbers."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= TOLERANCE))
    if len(wrong):
        row, length = rows[wrong[0]], lengths[wrong[0]]
        what = f"of length {length:.4g}, not 1" if np.isfinite(length) else "that is not finite"
        raise UserError(f"row {row} of {VECTORS} has a vector {what}; embed the images again")


def require_model(gallery: Gallery, embedder: Model) -> None:
    """UserError where another model made the gallery: its vectors mean nothing beside those of this one."""
    if gallery.card["model"] != embedder.hash:
        place = gallery.root / CARD_FILE if isinstance(gallery, Gallery) else gallery.root  # a collection has no file
        raise UserError(
            f"{place}: made by the model {gallery.card['model'][:12]} ({gallery.card['method']}), not by this "
            f"one, {embedder.hash[:12]}: give that model, or embed the images again with this one"
        )


def model_file(gallery: Gallery) -> Path:
    """The checkpoint that the gallery was made with. UserError where it is gone."""
    path = Path(gallery.card.get(MODEL_FILE) or "")
    if not path.is_file():
        gone = f"its model lay in {path}, where no file is" if gallery.card.get(MODEL_FILE) else "it names no model"
        raise UserError(f"{gallery.root}: {gone}; give it by --model")
    return path


def mapped_vectors(path: Path, dimension: int) -> np.memmap:
    """The vectors of a file, [N, dimension] float32, read where they are used. UserError for anything else."""
    require_regular(path, hint=WAY)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError) as error:
        raise UserError(f"{path}: damaged ({reason(error)}); {WAY}") from None
    fits = isinstance(vectors, np.memmap) and vectors.dtype == np.float32 and vectors.flags.c_contiguous
    if not fits or vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise UserError(f"{path}: not float32 [N, {dimension}]; {WAY}")
    return vectors

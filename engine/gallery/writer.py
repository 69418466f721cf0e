"""How a gallery folder comes to be: its files grow in GALLERY/.part, and take their places when all are whole.

state.json says how far the other files count: what a killed process wrote beyond that is cut off when it is resumed.
The card is the last to be renamed, and readers follow its number of rows, so that they see the old gallery or the new.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from engine.gallery.folder import CARD_FILE, HEADER, IMAGES, VECTORS, WAY, Row, mapped_vectors, read_images
from utils.errors import UserError
from utils.files import read_json, sync_folder, why, write_text
from utils.locks import lock
from utils.schema import TEXT, Shape, choice, misfit, whole

PART, LOCK, STATE = ".part", ".lock", "state.json"
SAVE_EVERY = 5  # seconds; a killed process loses so much of its work
CHUNK = 10_000  # rows that are copied at a time


@dataclass
class State:
    """How far an embedding came."""

    request: str  # SHA-256, in hex, of what it is of
    listed: int = 0  # images of its list that were looked at
    rows: int = 0  # of the gallery, those before an addition included
    csv_bytes: int = 0
    left_out: int = 0  # images that could not be read
    complete: bool = False  # all is written; files may have taken their places already


STATE_SHAPE: Shape = {"request": TEXT, "complete": choice(True, False)} | dict.fromkeys(
    ("listed", "rows", "csv_bytes", "left_out"), whole(0, 2**62)
)


@contextmanager
def held(root: Path) -> Iterator[None]:
    """The folder, made where it is missing, while this process alone writes in it.

    What was not started is removed at the end. UserError for a folder of other files, and where another
    process works in it.
    """
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        others = set(os.listdir(root)) - {PART, LOCK}
        if others and CARD_FILE not in others and not (root / PART).is_dir():
            raise UserError(
                f"{root}: holds other files and no {CARD_FILE}, so it is no gallery; give a new folder with --out"
            )
        file = (root / LOCK).open("a")
    except OSError as error:
        raise UserError(f"{root}: cannot be written ({why(error)}); give another folder with --out") from None
    with file:
        if lock(file) is False:
            raise UserError(f"{root}: another process embeds into it; wait for it, or stop it")
        os.register_at_fork(after_in_child=file.close)  # loader workers that outlive a killed process do not keep it
        try:
            yield
        finally:
            if read_state(root) is None:
                shutil.rmtree(root / PART, ignore_errors=True)
            if new and os.listdir(root) == [LOCK]:
                with suppress(OSError):
                    (root / LOCK).unlink()
                    root.rmdir()


def read_state(root: Path) -> State | None:
    """How far an unfinished embedding in the gallery folder came; None where there is none that can be resumed."""
    try:
        found = read_json(root / PART / STATE)
    except UserError:
        return None
    return None if misfit(found, STATE_SHAPE) else State(**{name: found[name] for name in State.__dataclass_fields__})


class Writer:
    """Appends rows and their vectors [B, D] to the files of a gallery that is being made.

    root: the gallery folder. state: its files hold at least what it counts, as `started` and this class leave them.
    """

    def __init__(self, root: Path, state: State, dimension: int):
        self.root, self.part, self.state, self.dimension = root, root / PART, state, dimension
        self.saved = time.monotonic()
        with _said(self.part):
            self.vectors, self.images = (_opened(self.part / name) for name in (VECTORS, IMAGES))
            for stream, size in ((self.vectors, self._vector_bytes()), (self.images, state.csv_bytes)):
                stream.truncate(size)
                stream.seek(size)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.vectors.close()
        self.images.close()

    def add(self, rows: Iterable[Row], vectors: np.ndarray, listed: int, left_out: int) -> None:
        """Vectors [B, D] float32 of B rows: of `listed` more images of the list, `left_out` of them unreadable."""
        with _said(self.part):
            written = write_rows(self.images, rows, self.state.rows)
            _write(self.vectors, vectors.astype("<f4", copy=False).tobytes())
        self.state.listed += listed
        self.state.rows += len(vectors)
        self.state.csv_bytes += written
        self.state.left_out += left_out
        if time.monotonic() - self.saved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Bring all to the disk, so that a process that is killed from now on is resumed from here."""
        with _said(self.part):
            for stream in (self.vectors, self.images):
                os.fsync(stream.fileno())
        write_text(self.part / STATE, json.dumps(asdict(self.state)) + "\n")
        self.saved = time.monotonic()

    def finish(self, card: Mapping[str, Any]) -> None:
        """Complete the files; `publish` lets them take their places."""
        with _said(self.part):
            self.vectors.seek(0)
            _write(self.vectors, npy_header(self.state.rows, self.dimension))
        write_text(self.part / CARD_FILE, json.dumps({**card, "rows": self.state.rows}, indent=2) + "\n")
        self.state.complete = True
        self.save()

    def _vector_bytes(self) -> int:
        return len(npy_header(0, self.dimension)) + self.state.rows * self.dimension * 4


def publish(root: Path) -> None:
    """Let the files of a complete embedding take their places, the card last, unless they have done so."""
    with _said(root):
        for name in (VECTORS, IMAGES, CARD_FILE):
            with suppress(FileNotFoundError):
                os.replace(root / PART / name, root / name)
                sync_folder(root)
        shutil.rmtree(root / PART)


def started(root: Path, request: str, card: Mapping[str, Any] | None, dimension: int) -> State:
    """The state from which an embedding starts: no row, or those of the gallery (`card`: its own) that it adds to.

    The files are in root/.part then; the gallery itself is as it was.
    """
    state, part = State(request), root / PART
    with _said(part), _opened(part / VECTORS) as vectors, _opened(part / IMAGES) as images:
        for stream in (vectors, images):
            stream.truncate(0)
        _write(vectors, npy_header(0, dimension))  # its number of rows is set in the end
        state.csv_bytes = _write(images, (",".join(HEADER) + "\n").encode())
        if card:
            old = mapped_vectors(root / VECTORS, dimension)
            with (root / VECTORS).open("rb") as source:
                source.seek(old.offset)
                shutil.copyfileobj(source, vectors, 2**20)
            lines = islice(read_images(root / IMAGES), card["rows"])
            while rows := list(islice(lines, CHUNK)):
                state.csv_bytes += write_rows(images, rows, state.rows)
                state.rows += len(rows)
            if not state.rows == card["rows"] <= len(old):
                raise UserError(f"{root}: damaged, its files hold less than the {card['rows']} rows of its card; {WAY}")
    return state


def npy_header(rows: int, dimension: int) -> bytes:
    """The start of an npy file of float32 [rows, dimension]; as long for any number of rows."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)})
    return stream.getvalue()


def write_rows(stream: io.FileIO, rows: Iterable[Row], first: int) -> int:
    """Append lines of an images.csv, numbered from `first`: how many bytes. Quoted texts may hold anything."""
    text = io.StringIO()
    lines = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    lines.writerows((number, *row) for number, row in enumerate(rows, start=first))
    return _write(stream, text.getvalue().encode(errors="surrogateescape"))


def _opened(path: Path) -> io.FileIO:
    """To be written anywhere, without a buffer: a full disk is noticed at the write, and not again at the end."""
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")


def _write(stream: io.FileIO, content: bytes) -> int:
    left = memoryview(content)
    while left:
        left = left[stream.write(left) :]
    return len(content)


@contextmanager
def _said(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{where}: could not be written ({why(error)}); make room, and the same command resumes from here"
        ) from None

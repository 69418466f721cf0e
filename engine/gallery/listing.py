"""The images that are to be embedded, in a file: a million of them take no memory."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from engine.gallery.folder import Row
from engine.gallery.sources import size_of
from utils.errors import UserError, reason


class Filled(NamedTuple):
    """What `Listing.fill` found."""

    digest: str  # SHA-256, in hex, of all that was asked for: names, sizes and labels
    asked: int
    repeated: int  # left out: in the gallery already, or asked for before
    example: str  # the first of these


class Listing:
    """Rows by their numbers from 0, each path once, in an SQLite file that only this process opens."""

    def __init__(self, path: Path):
        self.path = path
        with self._said():
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            self._file = sqlite3.connect(path, isolation_level=None)
            # It is made anew whenever the command starts, so that nothing of it has to outlive a crash.
            for setting in ("journal_mode = OFF", "synchronous = OFF"):
                self._file.execute(f"PRAGMA {setting}")
            fields = ", ".join(f"{name} BLOB" for name in Row._fields[1:])
            self._file.execute(f"CREATE TABLE images (number INTEGER PRIMARY KEY, path BLOB UNIQUE, {fields})")

    def close(self) -> None:
        self._file.close()

    def fill(self, rows: Iterable[Row], known: Iterable[Row] = ()) -> Filled:
        """Take the rows whose paths are not among the known ones, each path once. UserError where there is no room."""
        digest, asked, repeated, example = hashlib.sha256(), 0, 0, ""
        with self._said():
            self._file.execute("BEGIN")
            for number, row in enumerate(known, start=1):
                self._insert(-number, row)
            for asked, row in enumerate(rows, start=1):
                digest.update(json.dumps([*row, size_of(row.path)]).encode() + b"\n")
                if not self._insert(asked - 1 - repeated, row):
                    repeated, example = repeated + 1, example or row.path
            self._file.execute("COMMIT")
        self.count = asked - repeated
        return Filled(digest.hexdigest(), asked, repeated, example)

    def batches(self, start: int, size: int) -> Iterator[list[Row]]:
        """The rows from number `start` on, `size` at a time; fewer where another modality follows, and at the end."""
        batch: list[Row] = []
        for texts in self._file.execute("SELECT * FROM images WHERE number >= ? ORDER BY number", (start,)):
            row = Row(*(text.decode(errors="surrogateescape") for text in texts[1:]))
            if batch and (len(batch) == size or batch[0].modality != row.modality):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _insert(self, number: int, row: Row) -> bool:
        """Whether the path is new."""
        values = (number, *(text.encode(errors="surrogateescape") for text in row))
        return self._file.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?)", values).rowcount == 1

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"{self.path}: could not be written ({reason(error)}); make room, and start again"
            ) from None

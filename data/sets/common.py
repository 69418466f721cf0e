"""What data set readers share: listing images, and comparing lists and counts with what they should be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from utils.errors import UserError, brief
from utils.files import why
from utils.types import Record

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}

P = ParamSpec("P")
T = TypeVar("T")


def says_shut(reader: Callable[P, T]) -> Callable[P, T]:
    """A reader of folders; what the system does not let it look at is a UserError that names it."""

    @wraps(reader)
    def read(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return reader(*args, **kwargs)
        except OSError as error:
            place = brief(error.filename or "the data set")
            raise UserError(f"{place}: cannot be read ({why(error)}); check data_root and its permissions") from None

    return read


def require_folder(root: str, inside: str, name: str) -> Path:
    """`root` as a path; UserError unless it is a folder that holds `inside`."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data_root {folder}: no such folder; set data_root to the folder of {name}")
    if not (folder / inside).exists():
        raise UserError(f"data_root {folder}: not {name}, {inside}/ is missing in it")
    return folder


def list_images(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name, hidden ones left out; none if the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_image(path.name))


def is_image(name: str) -> bool:
    """Whether a file of this name is one of the images of its folder: not hidden, and with the suffix of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def require_disjoint(where: str, **lists: Iterable[int]) -> None:
    """UserError if an identity is in two of the named lists, or twice in one: it would be trained and tested."""
    seen: dict[int, str] = {}
    for name, identities in lists.items():
        for identity in identities:
            if identity in seen:
                raise UserError(
                    f"{where}: identity {identity} is in {seen[identity]} and again in {name}; restore the lists"
                )
            seen[identity] = name


def require_records(records: Sequence, message: str) -> None:
    """UserError with `message` when there are no records."""
    if not records:
        raise UserError(message)


def differences(name: str, published: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """One line that says which counts differ from the published data set; none when all agree."""
    wrong = [
        f"{found[what]} {what} (published: {number})" for what, number in published.items() if found[what] != number
    ]
    return [f"not the published {name}: " + ", ".join(wrong)] if wrong else []


def fingerprint(root: str, records: Iterable[Record]) -> str:
    """SHA-256, in hex, of the images' names and sizes: tells data sets apart without reading them.

    Raises UserError for an image that is listed and not there.
    """
    digest = hashlib.sha256()
    for path in sorted(record.path for record in records):
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise UserError(f"{brief(path)}: cannot be read ({error.strerror}); the data set is not complete") from None
        digest.update(f"{os.path.relpath(path, root)}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()

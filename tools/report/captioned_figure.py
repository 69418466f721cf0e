"""A figure of the report with its caption, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.files import write_bytes


class CaptionedFigure(NamedTuple):
    """A figure of a run, ready to be shown."""

    title: str
    caption: str  # what is seen, and how to read it
    png: bytes


def write_png(path: Path, png: bytes) -> None:
    """Replace a figure's file at once, its folder made where needed. UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from None
    write_bytes(path, png)

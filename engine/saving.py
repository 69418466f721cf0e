"""How a run's states become files: whole or not at all, and once where the last model is the best one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from engine.checkpoint import FORMAT, Origin
from engine.states import Stateful
from utils.errors import UserError, reason
from utils.files import PARTIAL, interrupts_wait, replacing
from utils.runs import BEST, LAST


def save_checkpoint(folder: Path, origin: Origin, parts: Mapping[str, Stateful], best: bool = False) -> None:
    """Replace the folder's last checkpoint with the parts' states; with `best`, the best one becomes the same file.

    Ctrl-C is obeyed when both are on the disk. Raises UserError where that fails, for lack of space for instance; what
    was there before is then as it was.
    """
    content = {"format": FORMAT, "origin": origin._asdict()}
    content.update({name: part.state_dict() for name, part in parts.items()})
    with interrupts_wait():
        with _said(folder / LAST), replacing(folder / LAST) as stream:
            torch.save(content, stream)
        if best:
            keep_best(folder)


def keep_best(folder: Path) -> None:
    """The best checkpoint is the last one from now on: one file of two names, or a copy where there are no such files.

    Raises UserError where it cannot be written; the file that was there is then as it was.
    """
    last, best, name = folder / LAST, folder / BEST, folder / f".{BEST}.link{PARTIAL}"
    with _said(best):
        if best.exists() and best.samefile(last):
            return
        try:
            name.unlink(missing_ok=True)
            os.link(last, name)
        except OSError:
            with replacing(best) as stream, last.open("rb") as source:
                shutil.copyfileobj(source, stream, 2**20)
        else:
            os.replace(name, best)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError) as error:
        before = "; the previous checkpoint is as it was" if path.is_file() else ""
        raise UserError(f"{path} could not be written ({_why(error)}){before}") from None


def _why(error: BaseException) -> str:
    """The system's reason: torch raises an error of its own while it closes the file after another one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return reason(error) if cause is None else cause.strerror or reason(cause)

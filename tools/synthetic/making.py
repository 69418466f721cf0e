"""The folder of a synthetic data set: finished, taken by something else, or unfinished and resumed."""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError
from utils.locks import lock

RECORD = "synthetic.json"
STATE = "unfinished"  # in the folder of a data set that is being made: its arguments; locked by who makes it


def already_made(out: Path, chosen: dict) -> str | None:
    """The summary of a finished data set of these arguments, None if `out` is free; UserError if it is taken."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise UserError(f"{out}: exists and is not a folder")
    if not any(out.iterdir()):
        return None
    try:
        record = json.loads((out / RECORD).read_text())
        summary = record.pop("summary")
    except (OSError, ValueError, KeyError, AttributeError):
        raise UserError(f"{out}: exists and holds other files; choose another folder") from None
    differences = [
        f"{key} = {record.get(key)}, asked {chosen.get(key)}"
        for key in {**record, **chosen}
        if record.get(key) != chosen.get(key)
    ]
    if differences:
        raise UserError(
            f"{out}: holds a data set made with other arguments ({'; '.join(differences)}); "
            "remove it or choose another folder"
        )
    return summary


@contextmanager
def unfinished(out: Path, chosen: dict) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end. Interrupted, it stays, and the same arguments resume it.

    What other arguments left there is removed, as is all of it where the disk is full. UserError while another process
    works on it.
    """
    part = out.with_name(f".{out.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with (part / STATE).open("a+b") as state:
            if lock(state) is False:
                raise UserError(f"{out}: another process is making it; wait for it, or stop it")
            _start(part, state, json.dumps(chosen).encode())
            yield part
            (part / STATE).unlink()
            if out.exists():
                out.rmdir()  # empty, as already_made saw
            part.rename(out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = "no space left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise UserError(f"{out}: {reason}; nothing was written") from None


def _start(part: Path, state: BinaryIO, arguments: bytes) -> None:
    """Empty the folder, but for its state, unless it was made with the same arguments."""
    state.seek(0)
    if state.read() == arguments:
        return
    state.truncate(0)
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != STATE:
            path.unlink()
    state.write(arguments)
    state.flush()

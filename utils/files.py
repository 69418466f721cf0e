"""Files: read if they are regular and of a sane size, written under a temporary name and renamed."""

from __future__ import annotations

import json
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import UserError, reason, shown
from utils.locks import lock

TEXT_LIMIT = 64 * 2**20  # bytes; no text file of this project or of a data set comes near it
PARTIAL = ".partial"


def expanded(path: str | Path) -> Path:
    """The path with ~ replaced. UserError for a home folder that does not exist and for a text that names no file."""
    try:
        if "\0" in str(path):
            raise UserError(f"{str(path)!r}: a path cannot hold a null character")
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder") from None


def require_regular(path: Path, limit: int | None = None, hint: str = "") -> int:
    """The size in bytes of a regular file. UserError for whatever else the path names, or where it is above `limit`.

    hint: how the user finds a way out, the end of the message.
    """
    tail = f"; {hint}" if hint else ""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)}: cannot be read ({why(error)}){tail}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise UserError(f"{shown(path)}: cannot be read ({kind}, not a file){tail}")
    if limit is not None and found.st_size > limit:
        raise UserError(
            f"{shown(path)}: cannot be read ({found.st_size / 2**20:.0f} MB, more than {limit / 2**20:.0f}){tail}"
        )
    return found.st_size


def read_bytes(path: Path, limit: int | None = None, hint: str = "") -> bytes:
    """A regular file's content. UserError for anything else, one line that ends in `hint`."""
    require_regular(path, limit, hint)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({why(error)})" + (f"; {hint}" if hint else "")) from None


def read_text(path: Path, hint: str = "", limit: int = TEXT_LIMIT) -> str:
    """A text file in UTF-8, without the mark that editors of Windows put before it. UserError for one that is missing,
    too large, no regular file or no text."""
    try:
        return read_bytes(path, limit, hint).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: damaged, or not a text in UTF-8" + (f"; {hint}" if hint else "")) from None


def read_json(path: Path, hint: str = "") -> Any:
    """What a JSON file holds. UserError where it cannot be read or is not JSON."""
    try:
        return json.loads(read_text(path, hint))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged, or not JSON" + (f"; {hint}" if hint else "")) from None


def write_text(path: Path, text: str) -> None:
    """write_bytes of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content at once: a reader, or a crash, sees the old content or the new one.

    Raises UserError where it cannot be written; the old file is then as it was.
    """
    try:
        with replacing(path) as stream:
            stream.write(content)
    except OSError as error:
        before = "; the file is as it was" if path.exists() else ""
        raise UserError(f"{path}: could not be written ({why(error)}){before}") from None


@contextmanager
def replacing(path: Path, patient: bool = True) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place at the end, on the disk by then; removed whatever goes wrong.

    Ctrl-C is obeyed after the block; patient: False obeys it within, for blocks that take minutes. Its writer holds a
    lock, so that `sweep` knows what a killed process left. Raises OSError where it cannot be written, and UserError
    where `path` is a device, a pipe or a folder.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a file, so it cannot be replaced; give another name")
    with interrupts_wait() if patient else nullcontext():
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}."[-200:], suffix=PARTIAL)
        with os.fdopen(handle, "wb") as stream:
            try:
                lock(stream)
                yield stream
                stream.flush()
                os.fsync(handle)
                os.chmod(name, 0o644)
                os.replace(name, path)
                sync_folder(path.parent)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise


def sweep(folder: Path, name: str | None = None, alone: bool = False) -> None:
    """Remove unfinished files whose writers are gone: of the file `name`, or of all in the folder.

    alone: nobody else writes there. Else one without content stays: its writer may not have taken its lock yet.
    """
    for left in folder.glob(f".{'*' if name is None else escape(name)}.*{PARTIAL}"):
        with suppress(OSError), left.open("r+b") as file:
            if alone or os.fstat(file.fileno()).st_size and lock(file):
                left.unlink()


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C within the block is obeyed at its end; within nested blocks, at the end of the outermost.

    In threads other than the main one, just the block.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before in (None, signal.SIG_IGN) or isinstance(before, _Later):
        yield
        return
    later = _Later()
    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if later.came:
        raise KeyboardInterrupt


class _Later:
    """Notes that an interrupt came."""

    came = False

    def __call__(self, number, frame) -> None:
        self.came = True


def sync_folder(folder: Path) -> None:
    """A rename is on the disk once its folder is. Systems that cannot open a folder do without."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def why(error: BaseException) -> str:
    """The system's own words, such as "No space left on device", else the first line of the message."""
    return getattr(error, "strerror", None) or reason(error)

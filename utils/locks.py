"""Locks on files, which the system takes back from a process that ends, however it ends."""

from __future__ import annotations

import errno
from typing import IO

from utils.logging import logger

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_said: set[str] = set()


def lock(file: IO) -> bool | None:
    """Take the exclusive lock of an open file, without waiting: True, or False where another process holds it.

    None where there are no locks (Windows, and network file systems mounted without them): a warning says so once, and
    the work continues without. The lock is held until the file is closed here and in every process that inherited it.
    """
    if fcntl is None:
        _without("this system")
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        _without(f"the file system of {file.name}")
        return None


def _without(where: str) -> None:
    if "no locks" not in _said:
        _said.add("no locks")
        logger.warning(f"{where} has no file locks: start no two processes on one run, one table or one cache")

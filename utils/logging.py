"""The project's one logger: to the terminal at once, and to a file once a run has a folder."""

from __future__ import annotations

import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

from utils.errors import UserError
from utils.processes import is_main, me
from utils.terminal import Levelled, LogFileHandler, TerminalHandler

logger = logging.getLogger("mcja")
# Ignite reports an exception that passes through an engine; main.py says the same in one line.
logging.getLogger("ignite").addHandler(logging.NullHandler())


def log_to_terminal() -> None:
    """Print log lines on standard output, and keep them for the file that `log_to_file` opens.

    Of several processes the main one does that. Others print errors on stderr, the first one of a machine warnings too.
    """
    stop_logging()
    terminal = TerminalHandler(sys.stdout if is_main() else sys.stderr)
    who = "" if is_main() else f"process {me().rank}: "
    terminal.setFormatter(Levelled(f"%(asctime)s {who}%(message)s", "%H:%M:%S"))
    logger.addHandler(terminal)
    if is_main():
        logger.addHandler(MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1))
    logger.setLevel(logging.INFO if is_main() else logging.ERROR if me().local_rank else logging.WARNING)
    logger.propagate = False


def warn_on_terminal() -> None:
    """Print warnings alone, on standard error, each text once: for a command whose output is something else."""
    stop_logging()
    given: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        known = record.getMessage() in given
        given.add(record.getMessage())
        return not known

    terminal = TerminalHandler(sys.stderr)
    terminal.setFormatter(Levelled("%(message)s"))
    terminal.addFilter(new)
    logger.addHandler(terminal)
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def log_to_file(path: Path) -> None:
    """Append log lines to a file too, those printed before included. UserError where it cannot be opened."""
    try:
        target = LogFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in list(logger.handlers):
        if isinstance(handler, MemoryHandler):
            logger.removeHandler(handler)
            handler.setTarget(target)
            handler.close()
    logger.addHandler(target)


def stop_logging() -> None:
    """Close and forget every handler: the logger is as it was before `log_to_terminal`."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True

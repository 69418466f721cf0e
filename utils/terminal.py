"""The terminal that progress bars, log lines and errors share, and what a process does once it can no longer print."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

from utils.errors import reason
from utils.processes import hide_bar

BAR = "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar:28}| {elapsed}<{remaining}"
ERASE = "\r\x1b[K"  # back to the line's first column, and blank to its end


def bar_options() -> dict[str, Any]:
    """Arguments of a tqdm bar that fits the terminal, however wide it is now, and is hidden if there is none."""
    return {"bar_format": BAR, "dynamic_ncols": True, "disable": hide_bar()}


def clean_line() -> None:
    """Remove all bars, and the ^C that a terminal shows: what is printed next has a line of its own."""
    for bar in list(tqdm._instances):
        bar.leave = False
        bar.close()
    if sys.stderr is not None and sys.stderr.isatty():
        print(ERASE, end="", file=sys.stderr, flush=True)


def discard(stream: TextIO | None) -> None:
    """Let whatever is still written to this stream vanish: a pipe whose reader left fails at every write."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class SaysFaultOnce(logging.Handler):
    """A handler whose target may fail: one line on stderr says so once, and the work continues."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """What the first failure leads to."""
        with suppress(OSError):
            print(f"warning: {self.target()}: {error.strerror or reason(error)}", file=sys.stderr)

    def target(self) -> str:
        """What could not be written, and where the lines are instead."""
        raise NotImplementedError


class TerminalHandler(SaysFaultOnce, logging.StreamHandler):
    """Prints log lines above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return wrapped(text, shutil.get_terminal_size().columns) if self.stream.isatty() else text

    def give_up(self, error: OSError) -> None:
        super().give_up(error)
        discard(self.stream)

    def target(self) -> str:
        return "the log can no longer be printed; a run's log.txt continues"


class LogFileHandler(SaysFaultOnce, logging.FileHandler):
    """Appends log lines to a file."""

    def target(self) -> str:
        return f"{self.baseFilename}: the log can no longer be written"


class Levelled(logging.Formatter):
    """Names the level of a warning or an error in front of its message; other messages stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        record.message = level + record.message
        return super().formatMessage(record)


def wrapped(text: str, columns: int, indent: int = 9) -> str:
    """Break a line at spaces to fit `columns` characters; all but the first are indented. A table stays as it is."""
    if "\n" in text or len(text) < columns:
        return text
    rest = " " * min(indent, columns // 2)
    return textwrap.fill(text, columns, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def lost_output(probe: bool = False) -> OSError | None:
    """Flush standard output: why it cannot be written, if so. What is left in it is then dropped.

    probe: write an empty line first, since a flush that failed leaves nothing for a second one.
    """
    if sys.stdout is None:
        return None
    try:
        print(end="\n" if probe else "", flush=True)
        return None
    except OSError as error:
        discard(sys.stdout)
        return error


def last_line(text: str) -> None:
    """A command's last words on stderr, on a clean line."""
    with suppress(OSError):
        clean_line()
        print(text, file=sys.stderr)

"""Ctrl-C while a program's modules are imported, where nothing could catch it: one line, exit code 130.

An exception would not do: a library that is being imported may turn it into an error of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType


def end_on_interrupt() -> None:
    """Ctrl-C ends the process at once, until `interrupts_raise`; unless the shell has set it to be ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupts_raise() -> None:
    """Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ended_as_by_ctrl_c(command: Callable[[], int]) -> int:
    """What command() returns; SIGTERM and SIGHUP raise KeyboardInterrupt in it.

    They mean the end of a container, a job or a terminal. Once it has returned, they end the process without a word.
    One that is ignored, as nohup ignores SIGHUP, stays so.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, _interrupt)
    try:
        return command()
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)

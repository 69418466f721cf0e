"""The command line's edge: one-line errors and exit codes."""

from __future__ import annotations

import argparse
import math
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from utils.errors import UserError
from utils.interrupts import interrupts_raise
from utils.processes import LOST, claim, join, leave, lost_another, part, started_together
from utils.terminal import last_line, lost_output


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors, and whose description keeps its lines."""

    def __init__(self, prog: str | None = None, description: str | None = None):
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str):
        raise UserError(f"{message}; --help lists the arguments")


def natural(text: str) -> int:
    """Argument type: a whole number, 0 or more, that 63 bits hold."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    if len(text) > 19 or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is too large; give a number below 2^63")
    return int(text)


def positive(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def require_place(out: Path | None, option: str = "--out") -> None:
    """UserError, before anything is computed, where no file can be written. None: none is asked for."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise UserError(f"{option} {out}: there is no folder {out.parent}")
    if out.is_dir():
        raise UserError(f"{option} {out}: is a folder; give a file")
    if out.exists() and not out.is_file():
        raise UserError(f"{option} {out}: is a pipe or a device; give a file")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{option} {out}: the folder {out.parent} cannot be written")


def exit_code(work: Callable[[], None]) -> int:
    """Run a command: 0 when it is done; 2 after a UserError, 130 after Ctrl-C, each said in one line on stderr.

    What a KeyboardInterrupt says is how to resume. Output that cannot be written is an error as well; where its reader
    left (`| head`), the command ends without a word.
    """
    try:
        interrupts_raise()
        work()
        code = 0
    except UserError as error:
        last_line(f"error: {error}")
        code = 2
    except KeyboardInterrupt as error:
        last_line("; ".join(filter(None, ("interrupted", str(error)))))
        code = 130
    except OSError:
        fault = lost_output(probe=True)
        if fault is None:
            raise
        return _without_output(fault)
    fault = lost_output()
    return _without_output(fault) if fault and not code else code


def _without_output(fault: OSError) -> int:
    if isinstance(fault, BrokenPipeError):
        return 141  # what a shell says of a program that SIGPIPE ended
    last_line(f"error: standard output cannot be written ({fault.strerror})")
    return 2


def run_together(work: Callable[[], None]) -> int:
    """exit_code(work), in this process or in each of several that torchrun started; one of these says what went wrong.

    A process that fails ends at once, whatever the others wait for; torchrun then ends them.
    """
    if not started_together():
        return exit_code(work)
    try:
        code = exit_code(partial(_first_speaks, work))
    except Exception:
        traceback.print_exc()
        code = 1
    return leave(code) if code else 0


def _first_speaks(work: Callable[[], None]) -> None:
    try:
        join()
        work()
        part()
    except (Exception, KeyboardInterrupt) as error:
        if not claim("error"):
            time.sleep(1)  # the first to end is the one that torchrun's report names
            leave(1)
        if lost_another(error):
            raise UserError(LOST) from None
        raise

"""The command line's edge: one-line errors and exit codes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

from utils.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors."""

    def error(self, message: str):
        raise UserError(f"{message}; --help lists the arguments")


def natural(text: str) -> int:
    """Argument type: a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
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


def exit_code(work: Callable[[], None]) -> int:
    """Run a command: 0 when it is done; 2 after a UserError, 130 after Ctrl-C, each said in one line on stderr."""
    try:
        work()
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130

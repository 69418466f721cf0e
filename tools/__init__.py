"""Command-line tools: `python -m tools.NAME --help`."""

import sys

if sys.argv[0] == "-m":  # what `python -m tools.NAME` says while it imports this package
    from utils.interrupts import end_on_interrupt

    end_on_interrupt()

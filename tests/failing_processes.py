"""What each of two processes meets for tests/test_distributed.py: python -m tests.failing_processes NAME."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from utils.cli import run_together
from utils.errors import UserError
from utils.logging import log_to_terminal, logger
from utils.processes import connect, is_main, me, on_main


def same() -> None:
    """Both have the same bad news, and the same warning; each an error of its own."""
    logger.warning("both say this")
    logger.error(f"this says {me().rank}")
    logger.info("progress")
    raise UserError("the configuration is wrong")


def fail() -> None:
    """The second has bad news while the first waits for its tensor."""
    if not is_main():
        raise UserError("there is no more disk")
    dist.all_reduce(torch.zeros(3))


def crash() -> None:
    """The main process has a defect while the other waits for its result."""
    on_main(lambda: [][0])


def die() -> None:
    """The second is killed while the first waits for its tensor."""
    if not is_main():
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.zeros(3))


def silent() -> None:
    """The main process does not answer."""
    me().store.set_timeout(timedelta(seconds=1))
    on_main(lambda: time.sleep(60))


def work() -> None:
    log_to_terminal()
    connect(torch.device("cpu"))
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    sys.exit(run_together(work))

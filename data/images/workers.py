"""Loader processes: how many there are room for, and a loader that does not wait for them for ever."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from utils.errors import UserError
from utils.files import interrupts_wait
from utils.limits import cores
from utils.logging import logger
from utils.processes import me

SHARED_MEMORY = Path(
    "/dev/shm"
)  # through it batches leave a worker; a file system of its own, small in many containers
AHEAD = 2  # batches that a worker has ready
IN_USE = 2  # batches that the loader's own process holds
LABELS = 6 * 4096  # bytes; what goes with the images of a batch takes a page each
_said: set[tuple[int, int]] = set()
PATIENCE = 600  # seconds for one batch, far more than any batch takes


class PatientLoader(DataLoader):
    """A DataLoader that raises UserError when its workers give no batch for PATIENCE seconds: one of them was lost."""

    def __init__(self, *args: Any, num_workers: int = 0, **settings: Any):
        super().__init__(*args, num_workers=num_workers, timeout=PATIENCE if num_workers else 0, **settings)

    def __iter__(self) -> Iterator:
        with interrupts_wait():  # Python drops a Ctrl-C that comes while it forks
            batches = super().__iter__()
        try:
            yield from batches
        except RuntimeError as error:
            if "timed out" not in str(error):
                raise
            raise UserError(
                f"the {self.num_workers} loader workers gave no batch within {PATIENCE} seconds: {SHARED_MEMORY} may "
                "be full, or a disk not answer; try num_workers 0"
            ) from None


def asked_workers(given: int | None) -> int:
    """The configured number; None: one for each core that this process has to itself, 8 at most."""
    return min(8, max(1, cores() // me().local_world)) if given is None else given


def workers_with_room(wanted: int, batch: int) -> int:
    """As many of the workers as SHARED_MEMORY has room for, with a warning where that is fewer. batch: bytes of images.

    Without room a worker loses its batch, and the loader waits for it.
    """
    if not wanted or not SHARED_MEMORY.is_dir():
        return wanted
    free = shutil.disk_usage(SHARED_MEMORY).free // me().local_world
    possible = max(0, (free // (batch + LABELS) - IN_USE) // AHEAD)
    if possible < wanted and (wanted, possible) not in _said:
        _said.add((wanted, possible))
        logger.warning(
            f"num_workers = {wanted}: {SHARED_MEMORY} has room for the batches of {possible} ({free / 2**20:.0f} MB "
            f"free, {batch / 2**20:.1f} MB a batch); {possible} are used. In a container, give it more (docker run "
            "--shm-size 1g)"
        )
    return min(wanted, possible)

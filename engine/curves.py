"""Curves for TensorBoard: numbers by tag and epoch, in an event file of the run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from utils.errors import reason
from utils.logging import logger
from utils.types import ResultRow

METRICS = ("r1", "mAP", "mINP")


class Curves:
    """Appends to one event file in `folder`. TensorBoard's own writer uses a thread, whose failure is a traceback.

    A file that cannot be written is a warning, once: the run is worth more than its curves.
    """

    def __init__(self, folder: Path):
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self.path: Path | None = folder / name  # None: given up
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        """One point on each of the curves named."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._append(Event(wall_time=time.time(), step=epoch, summary=Summary(value=points)))

    def add_row(self, row: ResultRow) -> None:
        """A row of results: `PROTOCOL/r1` for one before or during training, `test/RANKING/...` for the final test.

        Those of averaged weights begin with `averaged/`.
        """
        final = row.stage in ("test", "averaged")
        prefix = f"{row.stage}/{row.ranking}/{row.protocol}" if final else row.protocol
        self.add({f"{prefix}/{name}": getattr(row, name) for name in METRICS}, row.epoch)

    def _append(self, event: Event) -> None:
        if self.path is None:
            return
        try:
            with self.path.open("ab") as file:
                RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            logger.warning(
                f"{self.path}: cannot be written ({error.strerror or reason(error)}); no more curves are kept"
            )
            self.path = None

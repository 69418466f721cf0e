"""What a cluster's job does: one run, on the node that the job was given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tools.experiments.commands import command
from tools.experiments.folders import home_of, progress
from tools.experiments.launch import Launcher
from tools.experiments.plan import Job
from tools.experiments.run_id import code_hash
from utils.errors import UserError
from utils.runs import LAST

# SLURM sends this signal, which says that time is nearly up, to all processes of a job; only submitit's is to act on
# it.
DEAF = ("sh", "-c", "trap '' ${SUBMITIT_PREEMPT_SIGNAL:-USR2}; exec \"$@\"", "sh")


class Work:
    """Trains or tests one job, from wherever it is, when it is called. submitit sends it as a pickle.

    needed: whether another run tests its model, so that a run without a checkpoint is not finished. code: the hash of
    the code for which its identity was made (see `code_hash`), in the folder `home`.
    """

    def __init__(self, job: Job, results: Path, slot: str, needed: bool, home: Path, code: str):
        self.job, self.results, self.slot, self.needed = job, results, slot, needed
        self.home, self.code = home, code
        self.saved: list[tuple[str, int]] = []

    def __call__(self) -> None:
        """UserError where the run fails, was given to other code, or has no model to test."""
        if code_hash(self.home) != self.code:
            raise UserError("the code was changed after this run was submitted; submit it again")
        if self.job.model and progress(home_of(self.results, self.job.model), with_model=True).state != "finished":
            raise UserError("the model that it tests was not trained")
        self.saved = self._checkpoints()
        launcher = Launcher(self.results, [self.slot], 1, partial(print, flush=True), _deaf_command)
        launcher.needed = {self.job.identity} if self.needed else set()
        for message in launcher.run([self.job]).values():
            raise UserError(message)

    def checkpoint(self) -> Any:
        """What submitit queues again when time is up or the node is taken away. UserError where nothing was saved."""
        if self._checkpoints() == self.saved:
            raise UserError("no epoch was finished within the time that the job had; raise time")
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _checkpoints(self) -> list[tuple[str, int]]:
        paths = home_of(self.results, self.job.identity).glob(f"*/*/{LAST}")
        return sorted((str(path), path.stat().st_mtime_ns) for path in paths)


def _deaf_command(*arguments: Any) -> Sequence[str]:
    return command(*arguments) if os.name == "nt" else [*DEAF, *command(*arguments)]

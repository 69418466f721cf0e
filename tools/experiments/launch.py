"""Runs jobs as processes of `main.py`, one on every slot, models before their tests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import IO, NamedTuple

from tools.experiments.commands import command
from tools.experiments.folders import OUTPUT, Progress, home_of, last_line, progress, take
from tools.experiments.plan import Job

POLL = 0.2  # seconds between two looks at the processes
PATIENCE = 10  # seconds that an interrupted run has to end by itself


class Running(NamedTuple):
    """A started run."""

    job: Job
    slot: str
    process: subprocess.Popen
    lock: IO[str]
    began: float  # time.monotonic


class Launcher:
    """Runs jobs to their ends and says how it goes.

    results: the folder above `runs`. slots: what --gpu is told, one entry for each run at a time. total: of the runs
    that are counted in what is said, those finished before included. prepare: makes the command line (see `command`).
    """

    def __init__(
        self,
        results: Path,
        slots: Sequence[str],
        total: int,
        say: Callable[[str], None],
        prepare: Callable[[Job, Path, str, Progress, str | None], list[str]] = command,
    ):
        self.results, self.total, self.say, self.prepare = results, total, say, prepare
        self.slots = list(slots)
        self.free = list(slots)
        self.waiting: list[Job] = []
        self.running: list[Running] = []
        self.needed: set[str] = set()  # identities whose models are to be tested
        self.elsewhere: set[str] = set()  # identities that another process was seen at
        self.failures: dict[str, str] = {}
        self.seconds: dict[bool, list[float]] = {False: [], True: []}  # of finished trainings and of finished tests

    def run(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """Run all of them; why some failed, by identity. Ends what it started when it is interrupted."""
        self.waiting = list(jobs)
        self.needed |= {job.model for job in jobs if job.model}
        try:
            while self.waiting or self.running:
                self._begin_some()
                for run in [run for run in self.running if run.process.poll() is not None]:
                    self._end(run)
                time.sleep(POLL)
        finally:
            self._stop()
        return self.failures

    def _begin_some(self) -> None:
        busy = {job.identity for job in (*self.waiting, *(run.job for run in self.running))}
        for job in list(self.waiting):
            if job.model in self.failures:
                self._fail(job, "the model that it tests was not trained")
            elif self.free and job.model not in busy:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        home = home_of(self.results, job.identity)
        lock = take(home)
        if lock is None:
            if job.identity not in self.elsewhere:
                self.elsewhere.add(job.identity)
                self.say(f"{self._count()} {job.title}: another process is at it ({home}); waiting for its end")
            return
        self.waiting.remove(job)
        so_far = progress(home, with_model=job.identity in self.needed)
        if so_far.state == "finished":
            lock.close()
            self.say(f"{self._count()} {job.title}: finished by another process")
            return
        model = job.model and str(progress(home_of(self.results, job.model), with_model=True).folder)
        try:
            process = self._start(self.prepare(job, self.results, self.free[0], so_far, model), home, lock)
        except OSError as error:
            lock.close()
            self._fail(job, f"could not be started ({error.strerror})")
            return
        self.running.append(Running(job, self.free.pop(0), process, lock, time.monotonic()))
        does = "tests" if model else "resumes" if so_far.state == "interrupted" else "trains"
        again = f" again, since {so_far.fault}" if so_far.fault else ""
        self.say(f"{self._count()} {job.title}: {does}{again}; {home / OUTPUT}")

    def _start(self, words: Sequence[str], home: Path, lock: IO[str]) -> subprocess.Popen:
        # The lock goes to the process too: where this one is killed, nobody else starts what still runs.
        inherited = {} if os.name == "nt" else {"pass_fds": (lock.fileno(),)}
        with (home / OUTPUT).open("a") as output:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment(), **inherited
            )

    def _environment(self) -> dict[str, str]:
        """Processes that compute on the CPU at the same time share its cores."""
        shared = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(self.slots)))}
        return {**(shared if len(self.slots) > 1 else {}), **os.environ}

    def _end(self, run: Running) -> None:
        self.running.remove(run)
        run.lock.close()
        self.free.append(run.slot)
        seconds = time.monotonic() - run.began
        home, code = home_of(self.results, run.job.identity), run.process.returncode
        if code == 0 and progress(home, with_model=run.job.identity in self.needed).state == "finished":
            self.seconds[run.job.model is not None].append(seconds)
            self.say(f"{self._count()} {run.job.title}: finished in {duration(seconds)}{self._left()}")
        else:
            said = f"killed by {signal.Signals(-code).name}" if code < 0 else last_line(home)
            self._fail(run.job, f"{said or f'exit code {code}'} ({home / OUTPUT})")

    def _fail(self, job: Job, message: str) -> None:
        if job in self.waiting:
            self.waiting.remove(job)
        self.failures[job.identity] = message
        self.say(f"{self._count()} {job.title}: failed: {message}")

    def _count(self) -> str:
        return f"[{self.total - len(self.waiting) - len(self.running)}/{self.total}]"

    def _left(self) -> str:
        seconds = time_left([*self.waiting, *(run.job for run in self.running)], self.seconds, len(self.slots))
        return f"; about {duration(seconds)} left" if seconds else ""

    def _stop(self) -> None:
        for run in self.running:
            run.process.terminate() if os.name == "nt" else run.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        for run in self.running:
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(max(0.0, deadline - time.monotonic()))
            run.process.kill()
            run.process.wait()


def time_left(jobs: Collection[Job], seconds: Mapping[bool, Sequence[float]], slots: int) -> float:
    """Seconds that unfinished jobs will take, from the mean of finished trainings (False) and of finished tests (True).

    A kind of which none is finished yet is taken to last as long as the other.
    """
    known = {kind: fmean(values) for kind, values in seconds.items() if values}
    if not known:
        return 0.0
    return sum(known.get(job.model is not None, max(known.values())) for job in jobs) / slots


def duration(seconds: float) -> str:
    """7 s, 1 min 52 s, 35 min, 2 h 5 min: two units where that says something."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

"""Gives runs to a cluster and follows them, each known by its folder: a later call finds what an earlier one did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.experiments.clusters import CLUSTERS, ENDED, Local, Slurm
from tools.experiments.folders import home_of, last_said, progress, take
from tools.experiments.plan import Job
from tools.experiments.work import Work
from utils.errors import UserError
from utils.files import read_json, write_text

RECORD, LOGS = "job.json", "jobs"  # in a run's output folder: its last job, and what submitit writes of all of them


class Given(NamedTuple):
    """The job that a run was given to last."""

    cluster: str
    number: str


class Submitter:
    """Gives jobs to a cluster, and says how they go.

    results, total, say: as in `Launcher`. slot: what --gpu is told on the node. home: the checkout, whose code has the
    hash `code`.
    """

    def __init__(
        self,
        cluster: Slurm | Local,
        results: Path,
        slot: str,
        total: int,
        say: Callable[[str], None],
        home: Path,
        code: str,
    ):
        self.cluster, self.results, self.slot, self.total, self.say = cluster, results, slot, total, say
        self.home, self.code = home, code
        self.clusters = {cluster.name: cluster}
        self.left: dict[str, Job] = {}  # by identity: what is neither finished nor failed
        self.needed: set[str] = set()
        self.given: dict[str, Given] = {}
        self.seen: dict[str, str] = {}  # by identity: the last state that was said of a job that lived in this call
        self.ended: dict[str, float] = {}  # by identity: time.monotonic when such a job was first seen to have ended
        self.before: dict[str, str] = {}  # by identity: how the job of an earlier call ended
        self.elsewhere: set[str] = set()
        self.failures: dict[str, str] = {}

    def run(self, jobs: Sequence[Job], start: bool = True, wait: bool = True) -> Mapping[str, str]:
        """Give the cluster what it does not have yet, and wait for all; why some failed, by identity.

        start: False gives it nothing. wait: False returns after one look. KeyboardInterrupt leaves the jobs where they
        are.
        """
        self.left = {job.identity: job for job in jobs}
        self.needed = {job.model for job in jobs if job.model}
        self.given = {name: found for name in self.left if (found := self._record(name))}
        try:
            while True:
                self._follow(patient=bool(self.seen), start=start)
                if start:
                    self._submit_some()
                if not (wait and self.left):
                    break
                time.sleep(self.cluster.poll)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("submitted runs go their way; the same command waits for them again") from None
        if self.left and start:
            there = sum(name in self.given for name in self.left)
            self.say(
                f"{there} runs are queued or running, {len(self.left) - there} are yet to be submitted; give the same "
                "command again for the rest"
            )
        return self.failures

    def _record(self, identity: str) -> Given | None:
        path = home_of(self.results, identity) / RECORD
        try:
            found = read_json(path) if path.exists() else {}
            return Given(found["cluster"], found["number"]) if found.get("cluster") in CLUSTERS else None
        except (UserError, AttributeError, KeyError):
            return None

    # -------------------------------------------------------------------------------------------------------- following

    def _follow(self, patient: bool, start: bool) -> None:
        states = self._states(patient)
        if states is None:
            return
        for identity, job in list(self.left.items()):
            state = states.get(identity, "")
            if state not in ENDED:
                self._lives(job, state)
            elif progress(home_of(self.results, identity), identity in self.needed).state == "finished":
                del self.left[identity]
                self.say(f"{self._count()} {job.title}: finished")
            elif identity in self.given and not self._may_be_late(identity):
                message = self._ending(identity, state)
                if identity in self.seen or not start:
                    self._fail(job, message)
                else:
                    self.before[identity] = message
                    del self.given[identity]

    def _states(self, patient: bool) -> dict[str, str] | None:
        """By identity. None where nobody answers, which a patient caller bears: it asks again later."""
        try:
            found = {}
            for name in {given.cluster for given in self.given.values()}:
                cluster = self.clusters.setdefault(name, CLUSTERS[name]({}))
                numbers = {key: given.number for key, given in self.given.items() if given.cluster == name}
                states = cluster.states(sorted(set(numbers.values())))
                found |= {key: states[number] for key, number in numbers.items()}
            return found
        except UserError as error:
            if not patient:
                raise
            if str(error) not in self.elsewhere:
                self.elsewhere.add(str(error))
                self.say(f"{error}; trying again")
            return None

    def _lives(self, job: Job, state: str) -> None:
        self.ended.pop(job.identity, None)
        if self.seen.get(job.identity) != state:
            self.seen[job.identity] = state
            self.say(f"{self._count()} {job.title}: job {self.given[job.identity].number} is {state}")

    def _may_be_late(self, identity: str) -> bool:
        """Whether what a job wrote that has just ended may not have come here yet, from another node."""
        if identity not in self.seen:
            return False
        return time.monotonic() - self.ended.setdefault(identity, time.monotonic()) < self.cluster.patience

    def _ending(self, identity: str, state: str) -> str:
        """How a job ended that did not finish its run: one line, which names the log."""
        number = self.given[identity].number
        log = home_of(self.results, identity) / LOGS / f"{number}_0_log.err"
        whole = state in ("", "FAILED", "COMPLETED")  # it came to its own end, and said why before srun's last lines
        words = [last_said(log, "UserError: ")] if whole else [state, last_said(log)]
        return f"{': '.join(filter(None, words)) or 'it said nothing'}; log of job {number}: {log}"

    # ------------------------------------------------------------------------------------------------------- submitting

    def _submit_some(self) -> None:
        for identity, job in list(self.left.items()):
            if identity in self.given:
                continue
            if job.model in self.failures:
                self._fail(job, "the model that it tests was not trained")
            elif job.model not in self.left:
                self._submit(job, None)
            elif self.cluster.chains and self.given.get(job.model, ("",))[0] == self.cluster.name:
                self._submit(job, self.given[job.model].number)

    def _submit(self, job: Job, after: str | None) -> None:
        home = home_of(self.results, job.identity)
        lock = take(home)
        if lock is None:
            if job.identity not in self.elsewhere:
                self.elsewhere.add(job.identity)
                self.say(f"{self._count()} {job.title}: another process is at it ({home})")
            return
        with lock:
            known = self._record(job.identity)
            if known and self._is_new(job.identity, known):
                self.given[job.identity] = known
                return
            work = Work(job, self.results, self.slot, job.identity in self.needed, self.home, self.code)
            (home / LOGS).mkdir(exist_ok=True)
            number = self.cluster.submit(work, home / LOGS, job.title, after)
            write_text(home / RECORD, json.dumps({"cluster": self.cluster.name, "number": number}))
        self.given[job.identity] = Given(self.cluster.name, number)
        self.seen[job.identity] = "PENDING"
        again = f", since the one before ended: {self.before[job.identity]}" if job.identity in self.before else ""
        self.say(f"{self._count()} {job.title}: submitted as job {number}{again}")

    def _is_new(self, identity: str, known: Given) -> bool:
        """Whether a process beside this one has submitted the run since this one looked."""
        cluster = self.clusters.setdefault(known.cluster, CLUSTERS[known.cluster]({}))
        return cluster.states([known.number])[known.number] not in ENDED

    def _fail(self, job: Job, message: str) -> None:
        del self.left[job.identity]
        self.failures[job.identity] = message
        self.say(f"{self._count()} {job.title}: failed: {message}")

    def _count(self) -> str:
        return f"[{self.total - len(self.left)}/{self.total}]"

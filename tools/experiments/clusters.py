"""Where submitit takes runs: SLURM, or processes of this machine that behave like its jobs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from utils.errors import UserError, pick, reason
from utils.extras import require

OPTION = "--slurm"
TIMES = (
    100  # how often submitit may queue a job again that reached its time limit; `Work` allows it after a saved epoch
)
LONGEST = 60 * 24 * 365  # minutes; what a local job may take unless `time` says so
ANSWER = 60  # seconds that squeue may take
TEXTS = (
    "partition", "account", "qos", "constraint", "exclude", "nodelist", "gres", "mem", "mem_per_cpu", "mem_per_gpu",
    "cpus_per_task", "cpus_per_gpu", "gpus_per_node", "gpus_per_task", "dependency", "comment", "mail_type",
    "mail_user", "wckey", "exclusive",
)  # fmt: skip
# States after which SLURM does nothing more with a job. "" is what we call one that it no longer knows.
ENDED = {
    "", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE",
    "PREEMPTED", "REVOKED",
}  # fmt: skip


def minutes(text: str) -> int:
    """The minutes of a time as SLURM writes it (30, 30:00, 12:00:00, 1-12, 1-12:00, 1-12:00:00), rounded up."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise UserError(f"{OPTION}: time={text}: write minutes, hours:minutes:seconds, or days-hours")
    days, *rest = found.groups()
    if days is None:  # MINUTES, MINUTES:SECONDS or HOURS:MINUTES:SECONDS
        rest = rest if rest[2] else [None, *rest[:2]]
    hours, number, seconds = (int(part or 0) for part in rest)
    whole = (int(days or 0) * 24 + hours) * 60 + number + -(-seconds // 60)
    if not 0 < whole <= LONGEST:
        raise UserError(f"{OPTION}: time={text}: give a time above 0 and up to a year")
    return whole


def _seconds(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise UserError(f"{OPTION}: signal_delay_s={text}: give a number of seconds")
    return int(text)


FORMS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(TEXTS, lambda text: True if text == "true" else text),
    "time": minutes,
    "signal_delay_s": _seconds,
    "setup": lambda text: [text],
    "teardown": lambda text: [text],
    "srun_args": shlex.split,
}


def read_parameters(text: str) -> tuple[str, dict[str, Any]]:
    """("slurm" or "local", parameters in the types of submitit) of a text such as "partition=gpu time=12:00:00".

    UserError for what is no KEY=VALUE, an unknown key, a key given twice and a value that cannot be.
    """
    given: dict[str, str] = {}
    for word in _words(text):
        key, equals, value = ("cluster", "=", word) if word == "local" else word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not value or not value.isprintable():
            raise UserError(f"{OPTION}: {word!r} is not KEY=VALUE, such as partition=gpu")
        if key in given:
            raise UserError(f"{OPTION}: {key} is given twice")
        given[key] = value
    cluster = given.pop("cluster", "slurm")
    pick(CLUSTERS, cluster, f"{OPTION}: cluster")
    parameters = {key: pick(FORMS, key, f"{OPTION}: the key")(value) for key, value in given.items()}
    if cluster == "slurm" and "time" not in parameters:
        raise UserError(f"{OPTION}: time is missing: how long a run may take at most, such as time=12:00:00")
    return cluster, parameters


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{OPTION}: {text!r}: {reason(error)}") from None


class Slurm:
    """SLURM's queue, through sbatch and squeue."""

    name, poll, patience = "slurm", 10.0, 30.0  # seconds between two looks, and until a node's files are seen here
    chains = True  # a job can be told to start after another one

    def __init__(self, parameters: Mapping[str, Any]):
        self.parameters = dict(parameters)

    def require(self) -> None:
        """UserError where this machine is no part of a cluster."""
        for program in ("sbatch", "srun", "squeue"):
            if shutil.which(program) is None:
                raise UserError(
                    f"{OPTION}: there is no {program} on this machine; run the command where jobs are submitted, or "
                    f'try it here with {OPTION} "local"'
                )
        require("submitit", OPTION)

    def submit(self, work: Callable[[], None], folder: Path, title: str, after: str | None) -> str:
        """The number of a new job, which starts once the job `after` has ended. UserError where sbatch refuses it."""
        chosen = {"job_name": re.sub(r"[^\w.+=-]+", "_", title)[:60], **self.parameters}
        if after:
            chosen["dependency"] = ",".join(filter(None, [chosen.get("dependency"), f"afterany:{after}"]))
        submitit = require("submitit", OPTION)
        before = set(folder.glob("*"))
        try:
            executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=TIMES)
            executor.update_parameters(**chosen)
            with redirect_stderr(StringIO()):  # submitit prints what it raises
                return executor.submit(work).job_id
        except (RuntimeError, OSError) as error:
            for left in set(folder.glob("*")) - before:
                left.unlink(missing_ok=True)
            raise UserError(
                f"{OPTION}: sbatch takes no job ({reason(error).removeprefix('sbatch: error: ')})"
            ) from None

    def states(self, jobs: Iterable[str]) -> dict[str, str]:
        """The state of each job in SLURM's words; "" for one that it has forgotten. UserError where squeue fails."""
        words = ["squeue", "--noheader", "--states=all", "--format=%i|%T", f"--jobs={','.join(jobs)}"]
        try:
            answer = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{OPTION}: squeue does not answer ({reason(error)})") from None
        if answer.returncode and "Invalid job id" not in answer.stderr:
            raise UserError(f"{OPTION}: squeue does not answer ({reason(RuntimeError(answer.stderr))})")
        known = dict(line.strip().split("|", 1) for line in answer.stdout.splitlines() if "|" in line)
        return {job: known.get(job, "") for job in jobs}


class Local:
    """Processes of this machine: what tests and first tries use instead of a cluster."""

    name, poll, patience = "local", 0.5, 0.0
    chains = False

    def __init__(self, parameters: Mapping[str, Any]):
        self.parameters = {"timeout_min": parameters.get("time", LONGEST)}
        self.parameters |= {key: parameters[key] for key in ("setup", "signal_delay_s") if key in parameters}
        if "gpus_per_node" in parameters:
            if not parameters["gpus_per_node"].isdecimal():
                raise UserError(f"{OPTION}: gpus_per_node={parameters['gpus_per_node']}: give a number")
            self.parameters["gpus_per_node"] = int(parameters["gpus_per_node"])
        self._begun: dict[str, Any] = {}

    def require(self) -> None:
        require("submitit", OPTION)

    def submit(self, work: Callable[[], None], folder: Path, title: str, after: str | None) -> str:
        """The number of a new process, which starts at once."""
        executor = require("submitit", OPTION).LocalExecutor(folder=folder, max_num_timeout=TIMES)
        executor.update_parameters(**self.parameters)
        job = executor.submit(work)
        self._begun[job.job_id] = job
        return job.job_id

    def states(self, jobs: Iterable[str]) -> dict[str, str]:
        """RUNNING, or "" for a process that has ended."""
        return {job: "RUNNING" if self._runs(job) else "" for job in jobs}

    def _runs(self, job: str) -> bool:
        if job in self._begun:
            return not self._begun[job].done()
        with suppress(OSError):
            found = subprocess.run(["ps", "-o", "args=", "-p", job], capture_output=True, text=True)
            return "submitit.local" in found.stdout
        return False


CLUSTERS = {"slurm": Slurm, "local": Local}

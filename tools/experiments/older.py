"""Finished runs of other code: the same configuration, seed, data and precision, from before the code was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.experiments.commands import unfinished
from tools.experiments.folders import home_of, progress
from tools.experiments.plan import Job, Plan, with_identities
from tools.experiments.run_id import of_any_code
from utils.errors import UserError
from utils.runs import read_record


class Older(NamedTuple):
    """A finished run of other code."""

    identity: str
    folder: Path

    @property
    def commit(self) -> str:
        """The commit that it names, with a + where files differed from that; "" where it names none."""
        try:
            git = read_record(self.folder).get("git")
        except UserError:
            return ""
        return git["commit"][:7] + "+" * git["modified"] if git else ""


def older_runs(jobs: Iterable[Job], results: Path) -> dict[str, Older]:
    """By identity of jobs that this code has not finished: the newest finished run of other code.

    jobs: those that are left to do. One whose model has yet to be tested is finished if its checkpoint is there.
    """
    found: dict[str, Older] = {}
    needed: set[str] = set()
    for job in sorted(jobs, key=lambda job: job.model is None):
        run = _newest(results, job.identity, with_model=job.identity in needed)
        if run is not None:
            found[job.identity] = run
        elif job.model:
            needed.add(job.model)
    return found


def _newest(results: Path, identity: str, with_model: bool) -> Older | None:
    homes = [home for home in (results / "runs").glob(of_any_code(identity)) if home != home_of(results, identity)]
    ended = [(home.name, progress(home, with_model)) for home in homes]
    runs = [Older(name, so_far.folder) for name, so_far in ended if so_far.state == "finished"]
    return max(runs, key=lambda run: run.folder.stat().st_mtime_ns, default=None)


def taking_older(plan: Plan, older: Mapping[str, Older]) -> Plan:
    """The plan with finished runs of other code in the place of those that this code would have to do."""
    return with_identities(plan, {name: run.identity for name, run in older.items()})


def describe_older(older: Mapping[str, Older], taken: bool) -> str:
    """One line that counts them and says how to use them."""
    commits = sorted({run.commit for run in older.values() if run.commit})
    of = f" (commit{'s' * (len(commits) > 1)} {', '.join(commits)})" if commits else ""
    count = f"{len(older)} finished run{' is' if len(older) == 1 else 's are'} of other code{of}"
    return f"{count}: taken, as --any-code asks" if taken else f"{count}; --any-code takes what is there"


def with_older(plan: Plan, results: Path, taken: bool) -> tuple[Plan, list[str]]:
    """The plan, with the finished runs of other code in it where they are `taken`, and what to say about them."""
    older = older_runs(unfinished(plan.jobs, results), results)
    return (taking_older(plan, older) if taken else plan), ([describe_older(older, taken)] if older else [])

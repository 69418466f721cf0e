"""From a table to the runs that it needs, each once, models before their tests. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from yacs.config import CfgNode

from configs import load_config, pairs
from data.sets import DATASETS
from tools.experiments.reading import COLUMN_KEYS, RUNNERS_KEYS
from tools.experiments.run_id import identity, identity_of_test
from tools.experiments.table import Table, TableRow, options
from utils.errors import UserError


class Job(NamedTuple):
    """One run: a training with its final test, or another test of a model."""

    identity: str
    title: str  # "+CMR, seed 9", of the first row that needs it
    cfg: str  # yml file
    options: tuple[str, ...]  # KEY VALUE pairs over it
    seed: int
    model: str | None  # identity of the job whose model is tested; None: it trains its own


class PlannedRun(NamedTuple):
    """Where the numbers of one run of a row come from."""

    label: str  # "seed 8", "split 3"
    identity: str


class Plan(NamedTuple):
    """A table's runs."""

    table: Table
    jobs: tuple[Job, ...]  # a job comes after the one whose model it tests
    rows: tuple[tuple[PlannedRun, ...], ...]  # of each of the table's rows


class Surroundings(NamedTuple):
    """What a run depends on beside its configuration and seed."""

    fingerprint: Callable[[CfgNode, int], str]  # (configuration, seed) -> that of the images
    precision: Callable[[CfgNode], str]  # what its steps compute in: float32, float16, bfloat16; auto: not known here
    code: str  # what `code_hash` gives


class Repetition(NamedTuple):
    """One of the runs that every row has."""

    label: str
    seed: int
    options: tuple[str, ...]


def make_plan(table: Table, overrides: Sequence[str], around: Surroundings) -> Plan:
    """All runs of a table. overrides: KEY VALUE or KEY=VALUE over every row's. UserError for runs that cannot be."""
    overrides = tuple(word for pair in pairs(overrides) for word in pair)
    require_free(table, overrides[::2])
    jobs: dict[str, Job] = {}
    found: dict[tuple[str, str], str] = {}
    for row in table.rows:
        for repetition in repetitions(table):
            job = make_job(table, row, repetition, overrides, around)
            if row.tests is not None:
                job = job._replace(model=found[row.tests, repetition.label])
            found[row.name, repetition.label] = job.identity
            known = jobs.get(job.identity)
            if known is None or known.model and not job.model:  # one that leaves a model serves both
                jobs[job.identity] = job
    rows = (tuple(PlannedRun(r.label, found[row.name, r.label]) for r in repetitions(table)) for row in table.rows)
    return Plan(table, tuple(jobs.values()), tuple(rows))


def make_job(
    table: Table, row: TableRow, repetition: Repetition, overrides: Sequence[str], around: Surroundings
) -> Job:
    given = (*options(table.keys), *options(row.keys), *repetition.options, *overrides)
    try:
        cfg = load_config(table.cfg, given)
    except UserError as error:
        own = str(error).startswith("configuration")
        raise UserError(f"{table.path}: row {row.name!r}: {error}" if own else str(error)) from None
    data, precision = around.fingerprint(cfg, repetition.seed), around.precision(cfg)
    name = identity(settings(cfg), repetition.seed, data, precision, around.code)
    return Job(name, f"{row.name}, {repetition.label}", table.cfg, given, repetition.seed, None)


def with_identities(plan: Plan, names: Mapping[str, str]) -> Plan:
    """The plan with other runs in the place of some: names of identities, by those of the plan."""
    taken = dict(names)
    for job in plan.jobs:
        if job.model and job.identity not in taken:
            taken[job.identity] = identity_of_test(job.identity, taken.get(job.model, job.model))
    jobs = (
        job._replace(
            identity=taken.get(job.identity, job.identity), model=job.model and taken.get(job.model, job.model)
        )
        for job in plan.jobs
    )
    rows = (tuple(run._replace(identity=taken.get(run.identity, run.identity)) for run in runs) for runs in plan.rows)
    return Plan(plan.table, tuple(jobs), tuple(rows))


def settings(cfg: CfgNode) -> Mapping[str, Any]:
    """The configuration without a split's number where the data set has one split."""
    return {key: value for key, value in cfg.items() if key != "trial" or DATASETS[cfg.dataset].splits}


def repetitions(table: Table) -> Iterator[Repetition]:
    """Every split with every seed; a label names what there are several of, else the seed."""
    for split in table.splits or (None,):
        for seed in table.seeds:
            names = [] if split is None else [f"split {split}"]
            names += [f"seed {seed}"] if len(table.seeds) > 1 or not names else []
            yield Repetition(", ".join(names), seed, () if split is None else ("trial", str(split)))


def require_free(table: Table, overridden: Sequence[str]) -> None:
    """UserError for keys of the command line that rows differ in, or that are the runner's own."""
    reasons = {**RUNNERS_KEYS, **COLUMN_KEYS}
    for key in overridden:
        if key in reasons:
            raise UserError(f"{key} cannot be given here: {reasons[key]}")
        rows = [row.name for row in table.rows if key in row.keys]
        if rows:
            raise UserError(f"{key} cannot be given here: {table.path} sets it in row {rows[0]!r}")
        if key == "trial" and table.splits:
            raise UserError(f"trial cannot be given here: {table.path} runs splits {list(table.splits)}")

"""From the run folders of a plan to its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.experiments.folders import final_rows, home_of, progress
from tools.experiments.outcome import Cell, Outcome, OutcomeRow, RunState
from tools.experiments.plan import Plan, PlannedRun
from tools.experiments.table import Column, TableRow
from utils.types import ResultRow

WAITS = {"interrupted": "interrupted", "absent": "not run yet"}


def collect(plan: Plan, results: Path, failures: Mapping[str, str]) -> Outcome:
    """What the finished runs gave. failures: why runs failed, by identity."""
    return Outcome(
        plan.table,
        tuple(
            outcome_row(row, plan.table.columns, [run_state(run, results, failures) for run in runs])
            for row, runs in zip(plan.table.rows, plan.rows)
        ),
    )


def run_state(run: PlannedRun, results: Path, failures: Mapping[str, str]) -> RunState:
    state, folder, fault = progress(home_of(results, run.identity))
    if state == "finished":
        return RunState(run.label, "finished", folder, "")
    if run.identity in failures:
        return RunState(run.label, "failed", folder, failures[run.identity])
    return RunState(run.label, "missing", folder, "; ".join(filter(None, (WAITS[state], fault))))


def outcome_row(row: TableRow, columns: Sequence[Column], runs: Sequence[RunState]) -> OutcomeRow:
    tested = [final_rows(run.folder) for run in runs if run.state == "finished"]
    cells = [
        Cell(*column, tuple(value(rows, column) for rows in tested), row.published.get(column))
        for column in columns
        if column.ranking in row.rankings
    ]
    return OutcomeRow(row.name, row.keys, tuple(runs), tuple(cells))


def value(rows: Sequence[ResultRow], column: Column) -> float:
    """A column's number in the rows of one finished run, in percent."""
    return next(getattr(row, column.metric) for row in rows if (row.protocol, row.ranking) == column[:2])

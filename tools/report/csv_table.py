"""A table's outcome as CSV: a line for every number, for programs. Pure."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

from engine.retrieval.rankers import uses_queries
from tools.experiments.outcome import Cell, Outcome, OutcomeRow

COLUMNS = (
    "table", "row", "protocol", "ranking", "uses_other_queries", "metric", "runs_finished", "runs", "mean", "std",
    "published", "difference", "source", "values", "run_folders", "not_finished",
)  # fmt: skip
# What spreadsheets compute rather than show; "+WG" or "-5" is none.
FORMULA = re.compile(r"[=@\t\r]|[+-].*[^\w .+-]", re.DOTALL)


def spreadsheet(outcome: Outcome, folder: Path) -> str:
    """CSV with a heading line. Numbers are in percent, run folders relative to `folder`; a list is joined by "; "."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, asked in zip(outcome.rows, outcome.table.rows):
        for cell in row.cells:
            source = asked.source if cell.published is not None else ""
            numbers, runs = _numbers(row, cell), _runs(row, cell, folder)
            writer.writerow([*map(_plain, (outcome.table.name, row.name)), *numbers, *map(_plain, (source, *runs))])
    return stream.getvalue()


def _numbers(row: OutcomeRow, cell: Cell) -> list[str | int]:
    counts = [row.finished, len(row.runs)]
    ours = [_number(cell.mean), _number(cell.std)]
    others = "yes" if uses_queries(cell.ranking) else "no"
    return [
        cell.protocol,
        cell.ranking,
        others,
        cell.metric,
        *counts,
        *ours,
        _number(cell.published),
        _number(cell.difference),
    ]


def _runs(row: OutcomeRow, cell: Cell, folder: Path) -> list[str]:
    finished = [run for run in row.runs if run.state == "finished"]
    values = [f"{run.label}: {_number(value)}" for run, value in zip(finished, cell.values)]
    folders = [Path(os.path.relpath(run.folder, folder)).as_posix() for run in finished]
    trouble = [f"{run.label}: {run.state}: {run.message}" for run in row.runs if run.message]
    return ["; ".join(texts) for texts in (values, folders, trouble)]


def _plain(text: str) -> str:
    """A text that spreadsheets do not take for a formula: with an apostrophe before one that would be."""
    return f"'{text}" if FORMULA.match(text) else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")

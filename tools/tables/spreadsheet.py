"""A table's outcome as CSV: a line for every number, for programs. Pure."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from tools.tables.outcome import Cell, Outcome, OutcomeRow

COLUMNS = (
    "table", "row", "protocol", "ranking", "uses_other_queries", "metric", "runs_finished", "runs", "mean", "std",
    "published", "difference", "source", "values", "run_folders", "not_finished",
)  # fmt: skip


def spreadsheet(outcome: Outcome, folder: Path) -> str:
    """CSV with a heading line. Numbers are in percent, run folders relative to `folder`; a list is joined by "; "."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, asked in zip(outcome.rows, outcome.table.rows):
        for cell in row.cells:
            source = asked.source if cell.published is not None else ""
            writer.writerow([outcome.table.name, row.name, *_numbers(row, cell, source), *_runs(row, cell, folder)])
    return stream.getvalue()


def _numbers(row: OutcomeRow, cell: Cell, source: str) -> list[str | int]:
    counts = [row.finished, len(row.runs)]
    ours = [_number(cell.mean), _number(cell.std)]
    uses_queries = "yes" if cell.ranking == "mser" else "no"
    return [
        cell.protocol,
        cell.ranking,
        uses_queries,
        cell.metric,
        *counts,
        *ours,
        _number(cell.published),
        _number(cell.difference),
        source,
    ]


def _runs(row: OutcomeRow, cell: Cell, folder: Path) -> list[str]:
    finished = [run for run in row.runs if run.state == "finished"]
    values = [f"{run.label}: {_number(value)}" for run, value in zip(finished, cell.values)]
    folders = [Path(os.path.relpath(run.folder, folder)).as_posix() for run in finished]
    trouble = [f"{run.label}: {run.state}: {run.message}" for run in row.runs if run.message]
    return ["; ".join(texts) for texts in (values, folders, trouble)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")

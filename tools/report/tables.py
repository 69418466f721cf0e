"""The tables of a report page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from tools.report.markup import tag, text
from tools.tables.markdown import run_values, shown
from tools.tables.outcome import Cell, Outcome, OutcomeRow, RunState
from tools.tables.table import RANKINGS, Table
from tools.tables.wording import METRICS, changes, headings, line_cells, number, published, runs

RANKING_HEADS = {"cosine": "cosine", "mser": "MSER† (uses the other queries)"}


def anchor(kind: str, position: int) -> str:
    """The name of a place in the page: row-1, run-2, config-2, log-2."""
    return f"{kind}-{position}"


def result_table(outcome: Outcome, protocol: str) -> str:
    """A line for each row, ours over the published figure, both rankings side by side."""
    table = outcome.table
    body = []
    for position, row in enumerate(outcome.rows, start=1):
        if protocol in shown(outcome, row):
            cells = [result_cell(cell, position) for cell in line_cells(table, row, protocol)]
            body.append(tag("tr", text("th", row.name, scope="row"), text("td", runs(row)), *cells))
    heads = _heads(table, ["row", "runs"])
    return tag("table", text("caption", protocol), tag("thead", *heads), tag("tbody", *body), class_="results")


def result_cell(cell: Cell | None, position: int) -> str:
    """The mean, which leads to its runs, over the published figure."""
    if cell is None:
        return text("td", "")
    kind = {"class_": "mser"} if cell.ranking == "mser" else {}
    ours = text("a", number(cell), href="#" + anchor("row", position))
    beside = published(cell) if cell.published is None else f"published {published(cell)}"
    return tag("td", ours, text("small", beside), **kind)


def change_table(outcome: Outcome) -> str:
    """The keys that each row changes."""
    heads = tag("tr", text("th", "row", scope="col"), text("th", "keys that it changes", scope="col"))
    body = [tag("tr", text("th", row.name, scope="row"), text("td", changes(row) or "none")) for row in outcome.rows]
    return tag("table", tag("thead", heads), tag("tbody", *body), class_="texts")


def run_table(outcome: Outcome, numbers: Mapping[Path, int]) -> str:
    """Every run, in a group for each row. numbers: of the run folders in the page."""
    groups = []
    for position, row in enumerate(outcome.rows, start=1):
        name = text("th", row.name, scope="rowgroup", colspan=4 + len(headings(outcome.table)))
        lines = (line for run, values in zip(row.runs, run_values(row)) for line in run_lines(outcome, row, run, values, numbers))  # fmt: skip
        groups.append(tag("tbody", tag("tr", name), *lines, id=anchor("row", position)))
    heads = _heads(outcome.table, ["run", "state", "files", "protocol"])
    return tag("table", tag("thead", *heads), *groups, class_="runs")


def run_lines(
    outcome: Outcome, row: OutcomeRow, run: RunState, values: Mapping, numbers: Mapping[Path, int]
) -> Iterator[str]:
    """A run's state, its configuration and log, and a line of numbers for each protocol."""
    first = [text("th", run.label, scope="row"), tag("td", state(run)), tag("td", links(run, numbers))]
    for protocol in shown(outcome, row) if values else [""]:
        found = (values.get((protocol, *pair)) for pair in headings(outcome.table))
        cells = (text("td", "" if value is None else f"{value:.2f}") for value in found)
        yield tag("tr", *first, text("td", protocol), *cells)
        first = [tag("td")] * 3


def state(run: RunState) -> str:
    """finished, failed or missing, and why."""
    return text("span", run.state, class_=run.state) + (f": {escape(run.message)}" if run.message else "")


def links(run: RunState, numbers: Mapping[Path, int]) -> str:
    """To the run's configuration and log, further down in the page."""
    if run.folder is None:
        return ""
    there = numbers[run.folder]
    return ", ".join(text("a", kind, href="#" + anchor(kind, there)) for kind in ("config", "log"))


def _heads(table: Table, first: list[str]) -> list[str]:
    """Two lines of column headings: the rankings, and their metrics."""
    span = {"rowspan": 2, "scope": "col"}
    over = [text("th", RANKING_HEADS[r], colspan=len(table.metrics), scope="colgroup") for r in RANKINGS]
    below = [text("th", METRICS[metric], scope="col") for _, metric in headings(table)]
    return [tag("tr", *(text("th", name, **span) for name in first), *over), tag("tr", *below)]

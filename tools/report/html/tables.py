"""The tables of a report page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path

from engine.retrieval.rankers import uses_queries
from tools.experiments.outcome import Cell, Outcome, OutcomeRow, RunState
from tools.experiments.table import Column, Table
from tools.report.html.markup import scrolling, tag, text
from tools.report.markdown import run_values, shown
from tools.report.run_files import RunFiles, mean_chance
from tools.report.wording import (
    METRICS,
    changes,
    compared,
    headings,
    leaders,
    leads,
    line_cells,
    number,
    published,
    ranking_name,
    runs,
)


def anchor(kind: str, position: int) -> str:
    """The name of a place in the page: row-1, run-2, config-2, log-2."""
    return f"{kind}-{position}"


def result_table(outcome: Outcome, protocol: str, files: Iterable[RunFiles]) -> str:
    """A line for each row, ours over the published figure, all rankings side by side; below them what chance gives."""
    table, known, best = outcome.table, compared(outcome, protocol), leaders(outcome)
    body = []
    for position, row in enumerate(outcome.rows, start=1):
        if protocol in shown(outcome, row):
            cells = zip(headings(table), line_cells(table, row, protocol))
            parts = [result_cell(cell, position, pair in known, best) for pair, cell in cells]
            body.append(tag("tr", text("th", row.name, scope="row"), text("td", runs(row)), *parts))
    parts = [tag("thead", *_heads(table, ["row", "runs"])), tag("tbody", *body)]
    chance = mean_chance(files, protocol)
    if chance is not None and "r1" in table.metrics:
        parts.append(tag("tfoot", chance_line(table, chance)))
    return scrolling(protocol, tag("table", text("caption", protocol), *parts, class_="results"))


def result_cell(cell: Cell | None, position: int, compares: bool, best: Mapping[Column, str]) -> str:
    """The mean, which leads to its runs, over the published figure where the column has any."""
    if cell is None:
        return text("td", "")
    kind = {"class_": "others"} if uses_queries(cell.ranking) else {}
    ours = text("a", number(cell), href="#" + anchor("row", position))
    ours = tag("strong", ours) if leads(cell, best) else ours
    return tag("td", ours, *([text("small", f"published {published(cell)}")] if compares else []), **kind)


def chance_line(table: Table, chance: float) -> str:
    """Rank-1 of a random order, whatever ranks. chance: in percent."""
    cells = (text("td", f"{chance:.2f}" if metric == "r1" else "") for _, metric in headings(table))
    return tag("tr", text("th", "chance (random order)", scope="row", colspan=2), *cells)


def change_table(outcome: Outcome) -> str:
    """The keys that each row changes."""
    title = "Keys that each row changes against the table's configuration"
    heads = tag("tr", text("th", "row", scope="col"), text("th", "keys", scope="col"))
    body = [tag("tr", text("th", row.name, scope="row"), text("td", changes(row) or "none")) for row in outcome.rows]
    parts = text("caption", title), tag("thead", heads), tag("tbody", *body)
    return scrolling(title, tag("table", *parts, class_="texts"))


def run_table(outcome: Outcome, folders: Iterable[Path]) -> str:
    """Every run, in a group for each row. folders: of the runs in the page, in its order."""
    numbers = {folder: position for position, folder in enumerate(folders, start=1)}
    groups = []
    for position, row in enumerate(outcome.rows, start=1):
        name = text("th", row.name, scope="rowgroup", colspan=4 + len(headings(outcome.table)))
        both = zip(row.runs, run_values(row))
        lines = (line for run, values in both for line in run_lines(outcome, row, run, values, numbers))
        groups.append(tag("tbody", tag("tr", name), *lines, id=anchor("row", position)))
    title = "The runs of each row and their numbers, in percent"
    heads = _heads(outcome.table, ["run", "state", "files", "protocol"])
    return scrolling(title, tag("table", text("caption", title), tag("thead", *heads), *groups, class_="runs"))


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
    heads = [ranking_name(name) + " (uses the other queries)" * uses_queries(name) for name in table.rankers]
    over = [text("th", name, colspan=len(table.metrics), scope="colgroup") for name in heads]
    below = [text("th", METRICS[metric], scope="col") for _, metric in headings(table)]
    return [tag("tr", *(text("th", name, **span) for name in first), *over), tag("tr", *below)]

"""A table's outcome as Markdown. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tools.experiments.outcome import Outcome, OutcomeRow, RunState
from tools.report.wording import (
    changes,
    compared,
    heading,
    headings,
    leaders,
    leads,
    line_cells,
    number,
    published,
    remarks,
    runs,
    troubles,
)
from utils.runs import CONFIG, LOG

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def markdown(outcome: Outcome, folder: Path) -> str:
    """The whole document, for a file in `folder`: a number leads to its runs, a run to its config.yml and log.txt."""
    table = outcome.table
    parts = [
        f"# {escape(table.title)}",
        escape(table.note),
        "\n".join(main_table(outcome, linked=True)),
        *map(escape, remarks(outcome)),
    ]
    if troubles(outcome.rows):
        parts += ["## Not finished", "\n".join(f"- {escape(line)}" for line in troubles(outcome.rows))]
    parts += ["## Rows", "\n".join(change_table(outcome)), "## Runs", "\n".join(run_table(outcome, folder))]
    return "\n\n".join(part for part in parts if part) + "\n"


def main_table(outcome: Outcome, linked: bool) -> list[str]:
    """The table's lines: one per row and protocol. linked: numbers lead to the row's runs, the best ones in bold."""
    table, best, known = outcome.table, leaders(outcome), compared(outcome)
    columns = [name for pair in headings(table) for name in (heading(*pair), *(["published"] if pair in known else []))]
    several = len(table.protocols) > 1  # else the notes name it
    first = ["row", "protocol", "runs"] if several else ["row", "runs"]
    lines = [[*first, *columns]]
    for position, row in enumerate(outcome.rows, start=1):
        for protocol in shown(outcome, row):
            texts = []
            for pair, cell in zip(headings(table), line_cells(table, row, protocol)):
                text = number(cell)
                if linked and text:
                    text = f"[{text}](#runs-{position})"
                    text = f"**{text}**" if leads(cell, best) else text
                texts += [text, published(cell)] if pair in known else [text]
            lines.append([escape(row.name), *([protocol] if several else []), runs(row), *texts])
    return grid(lines, numbers_from=len(first))


def change_table(outcome: Outcome) -> list[str]:
    """What each row changes."""
    lines = [["row", "keys that it changes"]]
    return grid(lines + [[escape(row.name), escape(changes(row)) or "none"] for row in outcome.rows], numbers_from=2)


def run_table(outcome: Outcome, folder: Path) -> list[str]:
    """Every run, by row and protocol, with links relative to `folder`; each number leads to the run's log."""
    lines = [
        ["row", "run", "state", "config", "log", "protocol", *(heading(*pair) for pair in headings(outcome.table))]
    ]
    for position, row in enumerate(outcome.rows, start=1):
        anchor = f'<a id="runs-{position}"></a>'
        for run, values in zip(row.runs, run_values(row)):
            for protocol in shown(outcome, row):
                config, log = (link(name, run, name, folder) for name in (CONFIG, LOG))
                texts = [
                    link(f"{values[key]:.2f}", run, LOG, folder) if key in values else ""
                    for key in ((protocol, *pair) for pair in headings(outcome.table))
                ]
                lines.append([anchor + escape(row.name), run.label, run.state, config, log, protocol, *texts])
                anchor = ""
    return grid(lines, numbers_from=6)


def run_values(row: OutcomeRow) -> list[dict[tuple[str, str, str], float]]:
    """The numbers of each run of a row by (protocol, ranking, metric); none of a run that is not finished."""
    values, position = [], 0
    for run in row.runs:
        done = run.state == "finished"
        values.append({cell[:3]: cell.values[position] for cell in row.cells} if done else {})
        position += done
    return values


def link(text: str, run: RunState, name: str, folder: Path) -> str:
    """A link to a file of a run, relative to `folder`; nothing where the run has no folder."""
    if run.folder is None:
        return ""
    return f"[{text}]({quote(Path(os.path.relpath(run.folder / name, folder)).as_posix())})"


def shown(outcome: Outcome, row: OutcomeRow) -> list[str]:
    return [protocol for protocol in outcome.table.protocols if any(cell.protocol == protocol for cell in row.cells)]


def grid(lines: Sequence[Sequence[str]], numbers_from: int) -> list[str]:
    """Lines of texts as a Markdown table, padded so that it reads as text too; the first line is the heading."""
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    rule = [("-" * (width - 1) + ":") if i >= numbers_from else "-" * width for i, width in enumerate(widths)]

    def padded(line: Sequence[str]) -> list[str]:
        return [t.rjust(w) if i >= numbers_from else t.ljust(w) for i, (t, w) in enumerate(zip(line, widths))]

    return [f"| {' | '.join(line)} |" for line in (padded(lines[0]), rule, *map(padded, lines[1:]))]


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))

"""A table's outcome as one HTML page that needs no other file: it opens from a mail attachment, and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from tools.report.markup import figure, items, tag, text
from tools.report.pictures import Picture
from tools.report.runs import RunFiles, read_run
from tools.report.sheet import STYLE
from tools.report.tables import anchor, change_table, result_table, run_table
from tools.tables.outcome import Outcome
from tools.tables.wording import DAGGER, NUMBERS, troubles


def report_page(outcome: Outcome, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The page. pictures: by what they are of, such as "all, seed 8". Reads the runs' configurations and logs."""
    folders = dict.fromkeys(run.folder for row in outcome.rows for run in row.runs if run.folder is not None)
    return render(outcome, pictures, {folder: read_run(folder) for folder in folders})


def render(outcome: Outcome, pictures: Mapping[str, Sequence[Picture]], files: Mapping[Path, RunFiles]) -> str:
    """The page from what was read. files: of each run folder; rows that test one model share it."""
    numbers = {folder: number for number, folder in enumerate(files, start=1)}
    table, shown = outcome.table, {name: drawn for name, drawn in pictures.items() if drawn}
    sections = [
        section("results", "Results", *(result_table(outcome, protocol) for protocol in table.protocols), *notes(outcome)),
        section("unfinished", "Not finished", items(map(escape, troubles(outcome.rows)))) if troubles(outcome.rows) else "",
        section("rows", "Rows", change_table(outcome)),
        section("pictures", "Pictures", *(part for name, drawn in shown.items() for part in gallery(name, drawn))) if shown else "",
        section("runs", "Runs", run_table(outcome, numbers)),
        section("files", "Configurations and logs", *(run_files(files[folder], numbers[folder], users(outcome, folder)) for folder in files)),
    ]  # fmt: skip
    header = tag("header", text("h1", table.title), *([text("p", table.note)] if table.note else []))
    body = tag("body", header, tag("main", *sections), "\n")
    return f'<!doctype html>\n<html lang="en">\n{head(table.title)}\n{body}\n</html>\n'


def head(title: str) -> str:
    return tag(
        "head",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # else a browser asks the server for one
        text("title", title),
        tag("style", STYLE),
    )


def section(name: str, title: str, *content: str) -> str:
    return "\n" + tag("section", text("h2", title), *content, id=name)


def notes(outcome: Outcome) -> list[str]:
    """What has to be known beside the numbers."""
    source = outcome.table.source
    lines = [NUMBERS, DAGGER, "A number leads to its runs.", *([f"Published figures: {source}."] if source else [])]
    return [text("p", line, class_="note") for line in lines]


def gallery(name: str, pictures: Sequence[Picture]) -> list[str]:
    return [text("h3", name), *map(figure, pictures)]


def users(outcome: Outcome, folder: Path) -> str:
    """The rows' runs that a folder holds: all, seed 8; all + MSER, seed 8."""
    return "; ".join(f"{row.name}, {run.label}" for row in outcome.rows for run in row.runs if run.folder == folder)


def run_files(run: RunFiles, number: int, used_by: str) -> str:
    """A run's facts, configuration and log, folded up."""
    facts = {"run of": used_by, **run.facts}
    parts = [text("h3", run.folder), tag("dl", *(text("dt", name) + text("dd", facts[name]) for name in facts))]
    for kind, title, content in (("config", "config.yml", run.config), ("log", "log.txt", run.log)):
        shown = text("pre", content) if content else text("p", "There is no such file.")
        parts.append(tag("details", text("summary", title), shown, id=anchor(kind, number)))
    return tag("article", *parts, id=anchor("run", number))

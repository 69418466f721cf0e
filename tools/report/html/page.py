"""A table's outcome as one HTML page that needs no other file: it opens from a mail attachment, and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from tools.experiments.outcome import Outcome
from tools.report.captioned_figure import CaptionedFigure
from tools.report.html.css import STYLE
from tools.report.html.markup import figure, items, pairs, tag, text
from tools.report.html.run_articles import run_articles
from tools.report.html.tables import change_table, result_table, run_table
from tools.report.run_files import RunFiles, distinct, read_run
from tools.report.wording import remarks, troubles

GLANCE = ("data set", "training images", "test images", "image size", "backbone", "epochs", "seed")


class Section(NamedTuple):
    """A part of the page with a heading; left out where it is empty."""

    name: str
    title: str
    content: Sequence[str]


def report_page(outcome: Outcome, figures: Mapping[str, Sequence[CaptionedFigure]]) -> str:
    """The page. figures: by what they are of, such as "all, seed 8". Reads the runs' configurations and logs."""
    folders = dict.fromkeys(run.folder for row in outcome.rows for run in row.runs if run.folder is not None)
    return render(outcome, figures, {folder: read_run(folder) for folder in folders})


def render(outcome: Outcome, figures: Mapping[str, Sequence[CaptionedFigure]], files: Mapping[Path, RunFiles]) -> str:
    """The page from what was read. files: of each run folder; rows that test one model share it."""
    table, failed = outcome.table, troubles(outcome.rows)
    results = (result_table(outcome, protocol, list(files.values())) for protocol in table.protocols)
    shown = [part for name, drawn in figures.items() if drawn for part in gallery(name, drawn)]
    sections = [
        Section("results", "Results", [tag("div", tag("div", *results), tag("div", *notes(outcome)), class_="beside")]),
        Section("unfinished", "Not finished", [items(map(escape, failed))] if failed else []),
        Section("rows", "What each row changes", [change_table(outcome)]),
        Section("figures", "Figures", shown),
        Section("runs", "Runs", [run_table(outcome, files)]),
        Section("files", "Configurations and logs", run_articles(outcome, files)),
    ]
    filled = [each for each in sections if each.content]
    header = tag("header", text("h1", table.title), *([text("p", table.note)] if table.note else []), glance(files))
    main = tag("main", header, *map(section, filled), id="main")
    body = tag("body", text("a", "Skip the contents", href="#main", class_="skip"), contents(filled), main, "\n")
    return f'<!doctype html>\n<html lang="en">\n{head(table.title)}\n{body}\n</html>\n'


def head(title: str) -> str:
    return tag(
        "head",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',  # else a browser asks the server for one
        text("title", title),
        tag("style", STYLE),
    )


def glance(files: Mapping[Path, RunFiles]) -> str:
    """What was trained and tested on what; a value that differs between runs is given as often as it differs."""
    facts = [run.facts for run in files.values()]
    found = {name: distinct(facts, name) for name in GLANCE}
    return pairs({name: value for name, value in found.items() if value})


def contents(sections: Sequence[Section]) -> str:
    links = (text("a", each.title, href=f"#{each.name}") for each in sections)
    return "\n" + tag("nav", text("h2", "Contents"), items(links), aria_label="Contents") + "\n"


def section(shown: Section) -> str:
    return "\n" + tag("section", text("h2", shown.title), *shown.content, id=shown.name)


def notes(outcome: Outcome) -> list[str]:
    """What has to be known beside the numbers."""
    lines = [text("p", line, class_="note") for line in remarks(outcome)]
    return [*lines, text("p", "Click a number to see the runs behind it.", class_="note click")]


def gallery(name: str, figures: Sequence[CaptionedFigure]) -> list[str]:
    return [text("h3", name), *map(figure, figures)]

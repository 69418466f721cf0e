"""The report's page: the outcome's numbers, every text escaped, and nothing that leads outside the page."""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tools.figures.style import DPI, new_figure, to_png
from tools.report.page import report_page
from tools.report.pictures import Picture
from tools.report.runs import facts, shorten
from tools.tables.outcome import Cell, Outcome, OutcomeRow, RunState
from tools.tables.table import Column, Table, TableRow

EVIL = "<script>alert(\"x\")</script> & 'co'"
VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """What a page holds: ids, links, sources, and the texts of every kind of element; raises on a tag left open."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.alts = [], [], [], [], []
        self.texts, self.tables, self.scopes = defaultdict(list), [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.sources += [value for key, value in attributes if key in ("src", "srcset", "data", "action", "poster")]
        if name == "img":
            self.alts.append(given.get("alt"))
        if name == "th":
            self.scopes.append(given.get("scope"))
        if name == "table":
            self.tables.append([])
        if name == "tr":
            self.tables[-1].append([])
        if name in ("td", "th"):
            self.tables[-1][-1].append("")
        if name not in VOID:
            self.open.append(name)
            self.texts[name].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        for name in set(self.open):
            self.texts[name][-1] += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data + ("|" if "small" not in self.open else "")


def run_folder(root: Path, name: str, seed: int, log: str) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "config.yml").write_text(f"lr: 0.1\ndescription: {EVIL}\n")
    (folder / "log.txt").write_text(log)
    data = {"root": "data", "fingerprint": "f1", "chance_r1": {}}
    record = {"seed": seed, "device": "cpu", "data": data, "git": {"commit": "abc123", "modified": True}, "versions": {"torch": "9.9", "torchsort": None}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def outcome(tmp_path) -> Outcome:
    """Two rows: one with two finished runs and a failed one, and one that tests the first run's model, not run yet."""
    first, second = (run_folder(tmp_path, f"run{seed}", seed, f"log of {seed}\n{EVIL}\n") for seed in (8, 9))
    published = {Column("p/1", "mser", "r1"): 70.0}
    rows = (
        TableRow("whole " + EVIL, {"lr": 0.1}, None, ("cosine", "mser"), published, "paper " + EVIL),
        TableRow("again", {}, "whole", ("mser",), {}, ""),
    )
    table = Table(tmp_path / "t.yml", "Title " + EVIL, "Note " + EVIL, "c.yml", {}, (8, 9, 10), (), ("p/1", "p/2"), ("r1", "mAP"), rows, "again")  # fmt: skip
    numbers = {"r1": (50.0, 52.0), "mAP": (40.25, 40.25)}
    more = {"cosine": 0.0, "mser": 10.0}
    cells = [
        Cell(*column, tuple(value + more[column.ranking] for value in numbers[column.metric]), published.get(column))
        for column in table.columns
    ]
    runs = (
        RunState("seed 8", "finished", first, ""),
        RunState("seed 9", "finished", second, ""),
        RunState("seed 10", "failed", None, "no memory " + EVIL),
    )
    waiting = tuple(Cell(*column, (), None) for column in table.columns if column.ranking == "mser")
    again = OutcomeRow("again", {}, (RunState("seed 8", "missing", first, "not run yet"),), waiting)
    return Outcome(table, (OutcomeRow(rows[0].name, rows[0].keys, runs, tuple(cells)), again))


@pytest.fixture
def picture() -> Picture:
    return Picture("Dots " + EVIL, "A caption " + EVIL, to_png(new_figure(1.0, 2.0)))


def test_every_cell_shows_the_outcomes_number(outcome):
    first, second, *_ = Page(report_page(outcome, {})).tables
    assert first[0] == ["row|", "runs|", "cosine|", "MSER† (uses the other queries)|"]
    assert first[1] == ["rank-1|", "mAP|"] * 2 and first[1:2] == second[1:2]
    assert first[2] == [
        f"whole {EVIL}|",
        "2 of 3|",
        "51.00 ± 1.41|not published here",
        "40.25 ± 0.00|not published here",
        "61.00 ± 1.41|published 70.00 (−9.00)",
        "50.25 ± 0.00|not published here",
    ]
    assert second[2][4] == "61.00 ± 1.41|not published here"
    # the row without a finished run, which shows MSER alone
    assert first[3] == ["again|", "0 of 1|", "", "", "–|not published here", "–|not published here"]


def test_every_run_shows_its_own_numbers_and_its_files(outcome):
    runs = Page(report_page(outcome, {})).tables[3]
    lines = [[text.replace("|", "") for text in line] for line in runs[2:]]
    assert lines[0] == ["whole " + EVIL]
    assert lines[1] == ["seed 8", "finished", "config, log", "p/1", "50.00", "40.25", "60.00", "50.25"]
    assert lines[2] == ["", "", "", "p/2", "50.00", "40.25", "60.00", "50.25"]
    assert lines[3] == ["seed 9", "finished", "config, log", "p/1", "52.00", "40.25", "62.00", "50.25"]
    assert lines[5] == ["seed 10", f"failed: no memory {EVIL}", "", "", "", "", "", ""]
    assert lines[7] == ["seed 8", "missing: not run yet", "config, log", "", "", "", "", ""]


def test_nothing_leads_outside_the_page(outcome, picture):
    html = report_page(outcome, {"whole, seed 8": [picture], "none": []})
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert re.findall(r"url\(|@import|<script|<iframe|<object|https?://", html) == []
    assert page.texts["style"][0].count("{") == page.texts["style"][0].count("}") > 10


def test_every_number_leads_to_its_runs_and_these_to_their_files(outcome):
    html = report_page(outcome, {})
    assert html.count('<a href="#row-1">') == 8 and html.count('<a href="#row-2">') == 4
    assert re.findall(r'<tbody id="(row-\d)">', html) == ["row-1", "row-2"]
    # the second row's run is the first one's: it stands in the page once
    assert re.findall(r'<article id="(run-\d)">', html) == ["run-1", "run-2"]
    assert [html.count(f'<a href="#{kind}-{n}">') for kind in ("config", "log") for n in (1, 2)] == [2, 1, 2, 1]


def test_whatever_comes_from_outside_is_escaped(outcome, picture):
    html = report_page(outcome, {"whole " + EVIL: [picture]})
    assert "<script" not in html and html.count("&lt;script&gt;") > 10
    page = Page(html)
    assert page.texts["h1"] == ["Title " + EVIL] == page.texts["title"]
    assert page.texts["h3"][0] == "whole " + EVIL
    assert page.texts["pre"][1] == f"log of 8\n{EVIL}\n"
    assert page.texts["li"][0] == f"whole {EVIL}, seed 10: failed: no memory {EVIL}"
    assert page.alts == [f"Dots {EVIL}. A caption {EVIL}"]
    assert any(text == f"Published figures: paper {EVIL}." for text in page.texts["p"])


def test_a_page_says_what_it_was_made_with(outcome):
    page = Page(report_page(outcome, {}))
    assert page.texts["dd"][:6] == [
        f"whole {EVIL}, seed 8; again, seed 8",
        "8",
        "cpu",
        "abc123, with changes that are not committed",
        "f1",
        "torch 9.9",
    ]
    assert any("uses the other queries" in text and "transductive" in text for text in page.texts["p"])


def test_pictures_are_in_the_page(outcome, picture):
    html = report_page(outcome, {"whole, seed 8": [picture]})
    (source,) = Page(html).sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == picture.png
    assert f'width="{2 * 96}" height="96"' in html and DPI == 150
    assert 'id="pictures"' not in report_page(outcome, {"whole, seed 8": []})


def test_headings_and_tables_are_for_screen_readers_too(outcome, picture):
    page = Page(report_page(outcome, {"whole, seed 8": [picture]}))
    assert None not in page.scopes and set(page.scopes) == {"col", "colgroup", "row", "rowgroup"}
    assert page.texts["caption"] == ["p/1", "p/2"]
    assert page.texts["h2"] == ["Results", "Not finished", "Rows", "Pictures", "Runs", "Configurations and logs"]


def test_files_that_are_missing_are_said_to_be(outcome):
    for name in ("log.txt", "run.json"):
        (outcome.rows[0].runs[0].folder / name).unlink()
    page = Page(report_page(outcome, {}))
    assert page.texts["p"].count("There is no such file.") == 1
    assert facts({}) == {} and facts({"seed": 0, "git": None}) == {"seed": "0"}


def test_long_logs_are_shortened_in_the_middle():
    log = "".join(f"line {n}\n" for n in range(10))
    assert shorten(log, kept=5) == log
    assert shorten(log, kept=4) == "\n".join([*(f"line {n}" for n in range(4)), "[... 2 lines are left out here ...]", *(f"line {n}" for n in range(6, 10))])  # fmt: skip

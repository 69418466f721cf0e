"""The report's page: the outcome's numbers, every text escaped, and nothing that leads outside the page."""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.retrieval.rankers import DEFAULT
from tools.experiments.outcome import Cell, Outcome, OutcomeRow, RunState
from tools.experiments.table import Column, Table, TableRow
from tools.figures.style import DPI, new_figure, to_png
from tools.report.captioned_figure import CaptionedFigure
from tools.report.html.page import report_page
from tools.report.run_files import by_key, distinct, facts, setting, shared, shorten

EVIL = "<script>alert(\"x\")</script> & 'co'"
VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """What a page holds: ids, links, sources, and the texts of every kind of element; raises on a tag left open."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.alts = [], [], [], [], []
        self.texts, self.tables, self.scopes = defaultdict(list), [], []
        self.regions, self.unscrolled, self.within = [], [], []
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
        if given.get("role") == "region":
            self.regions.append(given)
        if name in ("table", "pre") and "region" not in self.within:
            self.unscrolled.append(name)
        if name not in VOID:
            self.open.append(name)
            self.within.append(given.get("role"))
            self.texts[name].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name
        self.within.pop()

    def handle_data(self, data):
        for name in set(self.open):
            self.texts[name][-1] += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data + ("|" if "small" not in self.open else "")


def run_folder(root: Path, name: str, seed: int, log: str) -> Path:
    folder = root / name
    folder.mkdir()
    sizes = f"num_epoch: {seed // 9 + 3}\nimage_size:\n- 64\n- 32\n"
    (folder / "config.yml").write_text(f"lr: 0.1\ndescription: {EVIL}\n{sizes}")
    (folder / "log.txt").write_text(log)
    images = {"training": {"identities": 5, "pictures": 40}, "test": {"visible": 7, "infrared": 6}}
    data = {"root": "data", "fingerprint": "f1", "chance_r1": {"p/1": seed / 2}, **images}
    record = {"seed": seed, "device": "cpu", "data": data, "git": {"commit": "abc123", "modified": True}}
    record["versions"] = {"torch": "9.9", "torchsort": None}
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
    table = Table(tmp_path / "t.yml", "Title " + EVIL, "Note " + EVIL, "c.yml", {}, (8, 9, 10), (), ("p/1", "p/2"), ("r1", "mAP"), rows, "again", DEFAULT)  # fmt: skip
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
def figure() -> CaptionedFigure:
    return CaptionedFigure("Dots " + EVIL, "A caption " + EVIL, to_png(new_figure(1.0, 2.0)))


def test_every_cell_shows_the_outcomes_number(outcome):
    first, second, *_ = Page(report_page(outcome, {})).tables
    assert first[0] == ["row|", "runs|", "cosine|", "MSER† (uses the other queries)|"]
    assert first[1] == ["rank-1|", "mAP|"] * 2 and first[1:2] == second[1:2]
    assert first[2] == [
        f"whole {EVIL}|",
        "2 of 3|",
        "51.00 ± 1.41|",
        "40.25 ± 0.00|",
        "61.00 ± 1.41|published 70.00 (−9.00)",
        "50.25 ± 0.00|",
    ]
    # the row without a finished run, which shows MSER alone, beside a row with a published figure
    assert first[3] == ["again|", "0 of 1|", "", "", "–|published –", "–|"]
    assert first[4] == ["chance (random order)|", "4.25|", "", "4.25|", ""]
    # another protocol, of which nothing is published and no chance is known
    assert [line[4] for line in second[2:]] == ["61.00 ± 1.41|", "–|"]


def test_the_best_of_each_column_is_marked(outcome):
    whole, again = outcome.rows
    worse = Cell("p/2", "mser", "r1", (60.99,), None)
    better = Cell("p/1", "mser", "mAP", (50.256,), None)
    rows = (whole, again._replace(cells=(worse, better)))
    page = Page(report_page(outcome._replace(rows=rows), {}))
    assert page.texts["strong"] == ["50.26", "61.00 ± 1.41"]
    assert page.texts["p"][1].startswith("In percent. Bold: the best of a column, for each protocol. ± is")
    assert "Bold" not in Page(report_page(outcome, {})).texts["p"][1]  # one row has nothing to be better than


def test_notes_say_only_what_applies(outcome):
    whole, again = outcome.rows
    several = " ".join(Page(report_page(outcome, {})).texts["p"])
    assert "±" in several and "ours minus published" in several and "noise" not in several
    one = tuple(cell._replace(values=cell.values[:1], published=None) for cell in whole.cells)
    single = " ".join(
        Page(report_page(outcome._replace(rows=(whole._replace(cells=one, runs=whole.runs[:1]), again)), {})).texts["p"]
    )
    assert "±" not in single and "minus published" not in single
    assert "No published values are known for this table." in single and "may be noise of the seed" in single


def test_every_run_shows_its_own_numbers_and_its_files(outcome):
    runs = Page(report_page(outcome, {})).tables[3]
    lines = [[text.replace("|", "") for text in line] for line in runs[2:]]
    assert lines[0] == ["whole " + EVIL]
    assert lines[1] == ["seed 8", "finished", "config, log", "p/1", "50.00", "40.25", "60.00", "50.25"]
    assert lines[2] == ["", "", "", "p/2", "50.00", "40.25", "60.00", "50.25"]
    assert lines[3] == ["seed 9", "finished", "config, log", "p/1", "52.00", "40.25", "62.00", "50.25"]
    assert lines[5] == ["seed 10", f"failed: no memory {EVIL}", "", "", "", "", "", ""]
    assert lines[7] == ["seed 8", "missing: not run yet", "config, log", "", "", "", "", ""]


def test_nothing_leads_outside_the_page(outcome, figure):
    html = report_page(outcome, {"whole, seed 8": [figure], "none": []})
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


def test_whatever_comes_from_outside_is_escaped(outcome, figure):
    html = report_page(outcome, {"whole " + EVIL: [figure]})
    assert "<script" not in html and html.count("&lt;script&gt;") > 10
    page = Page(html)
    assert page.texts["h1"] == ["Title " + EVIL] == page.texts["title"]
    assert page.texts["h3"][0] == "whole " + EVIL
    assert page.texts["pre"][:3] == [
        f"lr: 0.1\ndescription: {EVIL}\nimage_size:\n- 64\n- 32\n",
        "num_epoch: 3\n",
        f"log of 8\n{EVIL}\n",
    ]
    assert page.texts["li"][6] == f"whole {EVIL}, seed 10: failed: no memory {EVIL}"
    assert page.alts == [f"Dots {EVIL}. A caption {EVIL}"]
    assert any(text.startswith(f"Published values: paper {EVIL}. ") for text in page.texts["p"])


def test_a_page_says_what_it_was_made_with(outcome):
    page = Page(report_page(outcome, {}))
    facts = list(zip(page.texts["dt"], page.texts["dd"]))
    glance = [("data set", "data"), ("training images", "40 of 5 identities"), ("test images", "7 visible, 6 infrared")]
    assert facts[:6] == [*glance, ("image size", "64 x 32"), ("epochs", "3; 4"), ("seed", "8; 9")]
    # what all runs have in common stands once, and each run has what differs
    commit = "abc123, with changes that are not committed"
    rest = [("device", "cpu"), ("commit", commit), ("data hash", "f1"), ("versions", "torch 9.9")]
    assert facts[6:14] == [*glance, ("image size", "64 x 32"), *rest]
    own = [
        [("epochs", str(epochs)), ("seed", str(seed)), ("folder", f"run{seed}")] for epochs, seed in ((3, 8), (4, 9))
    ]
    assert facts[14:] == [*own[0], *own[1]]
    assert page.texts["h3"] == ["Common to all runs", f"whole {EVIL} and again, seed 8", f"whole {EVIL}, seed 9"]
    assert any("uses the other queries" in text and "transductive" in text for text in page.texts["p"])


def test_figures_are_in_the_page(outcome, figure):
    html = report_page(outcome, {"whole, seed 8": [figure]})
    (source,) = Page(html).sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == figure.png
    assert f'width="{2 * 96}" height="96"' in html and DPI == 150
    assert 'id="figures"' not in report_page(outcome, {"whole, seed 8": []})


def test_headings_and_tables_are_for_screen_readers_too(outcome, figure):
    page = Page(report_page(outcome, {"whole, seed 8": [figure]}))
    assert None not in page.scopes and set(page.scopes) == {"col", "colgroup", "row", "rowgroup"}
    assert page.texts["caption"][:2] == ["p/1", "p/2"] and len(page.texts["caption"]) == len(page.tables)
    titles = ["Results", "Not finished", "What each row changes", "Figures", "Runs", "Configurations and logs"]
    assert page.texts["h2"] == ["Contents", *titles]
    assert page.links[1:7] == ["#main", "#results", "#unfinished", "#rows", "#figures", "#runs"]


def test_wide_and_long_parts_scroll_by_themselves(outcome):
    """No table and no listing makes a phone's page wider; each can be reached with the keyboard and has a name."""
    page = Page(report_page(outcome, {}))
    assert page.unscrolled == []
    assert len(page.regions) == 4 + 5
    assert all(given.get("tabindex") == "0" and given.get("aria-label") for given in page.regions)
    assert ".scroll { overflow-x: auto;" in page.texts["style"][0]


def test_paper_shows_everything_and_night_is_not_printed(outcome):
    style = Page(report_page(outcome, {})).texts["style"][0]
    assert "<details" not in report_page(outcome, {})  # closed ones stay closed on paper
    paper = style.split("@media print")[1]
    assert ".listing { overflow: visible; max-height: none;" in paper
    assert "@media screen and (prefers-color-scheme: dark)" in style


def test_files_that_are_missing_are_said_to_be(outcome):
    for name in ("log.txt", "run.json"):
        (outcome.rows[0].runs[0].folder / name).unlink()
    page = Page(report_page(outcome, {}))
    assert page.texts["p"].count("There is no such file.") == 1
    assert facts({}, {}) == {} and facts({"seed": 0, "git": None}, {}) == {"seed": "0"}


def test_configurations_are_read_key_by_key():
    config = by_key("a: 1\nlist:\n- 64\n- 32\ntext: x\n  goes on: 1\n# end\n")
    assert config == {"a": "a: 1\n", "list": "list:\n- 64\n- 32\n", "text": "text: x\n  goes on: 1\n# end\n"}
    assert (setting(config, "list"), setting(config, "a"), setting(config, "b")) == ("64 x 32", "1", "")
    assert by_key("") == {} and "".join(by_key("no key\n\0: 1").values()) == "no key\n\0: 1"


def test_what_runs_share():
    assert shared([{"a": 1, "b": 2}, {}, {"a": 1, "b": 3}]) == {"a": 1} and shared([{}, {}]) == {}
    parts = [{"a": str(number)} for number in (1, 1, 2, 3, 4, 5)]
    assert distinct(parts, "a") == "1; 2; 3; and 2 others" and distinct(parts, "b") == ""


def test_long_logs_are_shortened_in_the_middle():
    log = "".join(f"line {n}\n" for n in range(10))
    assert shorten(log, kept=5) == log
    assert shorten(log, kept=4) == "\n".join([*(f"line {n}" for n in range(4)), "[... 2 lines are left out here ...]", *(f"line {n}" for n in range(6, 10))])  # fmt: skip

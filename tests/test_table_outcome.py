"""What a table shows: numbers against results.jsonl, and the Markdown, LaTeX and CSV that they stand in."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from data.sets import DATASETS
from engine.retrieval.rankers import DEFAULT
from tools.experiments.collect import collect
from tools.experiments.outcome import Cell, Outcome, OutcomeRow, RunState
from tools.experiments.plan import Plan, PlannedRun
from tools.experiments.table import Column, Table, TableRow
from tools.report import latex, markdown
from tools.report.csv_table import spreadsheet
from tools.report.outcome_files import preview, write_outcome
from tools.report.wording import number, published, remarks, signed, troubles
from utils.errors import UserError
from utils.results import write_rows
from utils.types import ResultRow

PROTOCOL = "sysu/all/1-shot"
R1, MSER_R1 = Column(PROTOCOL, "cosine", "r1"), Column(PROTOCOL, "mser", "r1")


def table_row(name: str, rankings=("cosine", "mser"), published=None, keys=None) -> TableRow:
    return TableRow(name, keys or {}, None, rankings, published or {}, "a page & more" if published else "")


def table_of(*rows: TableRow, metrics=("r1",), title="A title") -> Table:
    return Table(
        Path("tables/small.yml"),
        title,
        "",
        "configs/Demo.yml",
        {},
        (8, 9),
        (),
        (PROTOCOL,),
        metrics,
        rows,
        rows[0].name,
        DEFAULT,
    )


def run_folder(results: Path, identity: str, values: dict[str, float] | None) -> Path:
    """A made-up run folder; values: rank-1 of its final test by ranking, mAP being 1 less; None: none yet."""
    folder = results / "runs" / identity / "sysu" / "run"
    folder.mkdir(parents=True)
    record = {"seed": 8, "device": "cpu", "data": {"root": "r", "fingerprint": "f", "chance_r1": {}}}
    (folder / "run.json").write_text(json.dumps(record))
    rows = [ResultRow("train", 1, PROTOCOL, None, None, "cosine", 99, 99, 99, 99, 99, 99)]
    for ranking, r1 in (values or {}).items():
        tested = ResultRow("test", 2, PROTOCOL, None, "last", ranking, r1, 0, 0, 0, r1 - 1, 0)
        others = [name for name in DATASETS["sysu"].protocols if name != PROTOCOL]
        rows += [tested, *(tested._replace(protocol=name, r1=99.0, mAP=99.0) for name in others)]
    write_rows(folder / "results.jsonl", rows)
    return folder


@pytest.fixture
def outcome(tmp_path) -> Outcome:
    """Row a: three runs, of which one failed; row b: MSER alone, published; row c: nothing yet."""
    results = tmp_path / "results"
    run_folder(results, "a8", {"cosine": 50.0, "mser": 60.0})
    run_folder(results, "a9", None)
    run_folder(results, "a10", {"cosine": 53.0, "mser": 64.0})
    table = table_of(
        table_row("a", keys={"vimc_wg": False, "mda_layers": (0, 1)}),
        table_row("b", ("mser",), {MSER_R1: 65.5}),
        table_row("c"),
    )
    runs = [PlannedRun("seed 8", "a8"), PlannedRun("seed 9", "a9"), PlannedRun("seed 10", "a10")]
    plan = Plan(table, (), (tuple(runs), (runs[0], runs[2]), (PlannedRun("seed 8", "c8"),)))
    return collect(plan, results, {"a9": "training diverged"})


# -------------------------------------------------------------------------------------------------------------- numbers


def test_means_and_deviations_by_hand():
    cell = Cell(*R1, (50.0, 53.0, 56.0), 60.0)
    assert (cell.mean, cell.std, cell.difference) == (53.0, 3.0, -7.0)
    assert (number(cell), published(cell)) == ("53.00 ± 3.00", "60.00 (−7.00)")


def test_one_value_has_no_deviation_and_none_no_mean():
    one, none = Cell(*R1, (50.0,), None), Cell(*R1, (), 60.0)
    assert (one.std, one.difference, number(one), published(one)) == (None, None, "50.00", "–")
    assert (none.mean, none.difference, number(none), published(none)) == (None, None, "–", "60.00")
    assert (number(None), published(None)) == ("", "")


def test_signs():
    assert [signed(value) for value in (1.2, -2.19, 0.001, -0.001)] == ["+1.20", "−2.19", "0.00", "0.00"]


def test_a_row_is_the_mean_over_its_finished_runs(outcome):
    a, b, c = outcome.rows
    assert a.cell(*R1).values == (50.0, 53.0) and a.cell(*MSER_R1).values == (60.0, 64.0)
    assert [(run.label, run.state, run.message) for run in a.runs] == [
        ("seed 8", "finished", ""), ("seed 9", "failed", "training diverged"), ("seed 10", "finished", ""),
    ]  # fmt: skip
    assert (a.finished, b.finished, c.finished) == (2, 2, 0)
    assert b.cell(*R1) is None and b.cell(*MSER_R1).difference == 62.0 - 65.5
    assert c.cell(*R1).mean is None and c.runs[0][1:] == ("missing", None, "not run yet")
    assert troubles(outcome.rows) == ["a, seed 9: failed: training diverged", "c, seed 8: not run yet"]


def test_metrics_are_not_mixed_up(tmp_path):
    run_folder(tmp_path, "x", {"cosine": 50.0, "mser": 60.0})
    table = table_of(table_row("a"), metrics=("mAP", "r1"))
    row = collect(Plan(table, (), ((PlannedRun("seed 8", "x"),),)), tmp_path, {}).rows[0]
    assert [cell.values for cell in row.cells] == [(49.0,), (50.0,), (59.0,), (60.0,)]


def test_a_run_that_lacks_a_protocol_is_not_finished(tmp_path):
    """Somebody removed lines of its results: it is tested again, and other runs of the table count."""
    results = run_folder(tmp_path, "x", {"cosine": 50.0, "mser": 60.0}) / "results.jsonl"
    run_folder(tmp_path, "y", {"cosine": 51.0, "mser": 61.0})
    results.write_text("".join(line for line in results.read_text().splitlines(True) if "indoor" not in line))
    plan = Plan(table_of(table_row("a")), (), ((PlannedRun("seed 8", "x"), PlannedRun("seed 9", "y")),))
    (row,) = collect(plan, tmp_path, {}).rows
    assert [run.state for run in row.runs] == ["missing", "finished"] and row.cell(*R1).values == (51.0,)


@pytest.mark.parametrize("name", ["results.jsonl", "run.json"])
def test_an_unreadable_file_of_one_run_stops_no_table(tmp_path, name):
    folder = run_folder(tmp_path, "x", None)
    (folder / name).write_bytes(b"\xff")
    run_folder(tmp_path, "y", {"cosine": 51.0, "mser": 61.0})
    plan = Plan(table_of(table_row("a")), (), ((PlannedRun("seed 8", "x"), PlannedRun("seed 9", "y")),))
    (row,) = collect(plan, tmp_path, {}).rows
    assert row.cell(*R1).values == (51.0,) and name in row.runs[0].message and str(folder) in row.runs[0].message


# ------------------------------------------------------------------------------------------------------------- Markdown


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_markdown_table(outcome, tmp_path):
    lines = markdown.main_table(outcome, linked=False)
    assert [cells(line) for line in lines if not line.startswith("| --")] == [
        ["row", "runs", "cosine rank-1", "MSER† rank-1", "published"],
        ["a", "2 of 3", "51.50 ± 2.12", "62.00 ± 2.83", "–"],
        ["b", "2 of 2", "", "62.00 ± 2.83", "65.50 (−3.50)"],
        ["c", "0 of 1", "–", "–", "–"],
    ]
    assert len({len(line) for line in lines}) == 1  # it reads as text too
    assert max(map(len, lines)) <= 80  # in a terminal
    assert remarks(outcome)[0].startswith(f"In percent, {PROTOCOL}.")


def test_markdown_table_names_the_protocol_where_there_are_several(outcome):
    more = outcome._replace(table=outcome.table._replace(protocols=(PROTOCOL, "other")))
    assert cells(markdown.main_table(more, linked=False)[0])[:3] == ["row", "protocol", "runs"]


def test_links_of_the_markdown_lead_to_the_runs_files(outcome, tmp_path):
    folder = tmp_path / "results" / "small"
    text = markdown.markdown(outcome, folder)
    anchors = set(re.findall(r'<a id="([^"]+)"></a>', text))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == anchors == {"runs-1", "runs-2", "runs-3"}
    line = next(line for line in text.splitlines() if line.startswith("| a ") and "seed 10" in line)
    assert cells(line)[1:] == [
        "seed 10", "finished", "[config.yml](../runs/a10/sysu/run/config.yml)", "[log.txt](../runs/a10/sysu/run/log.txt)",
        PROTOCOL, "[53.00](../runs/a10/sysu/run/log.txt)", "[64.00](../runs/a10/sysu/run/log.txt)",
    ]  # fmt: skip
    failed = next(line for line in text.splitlines() if line.startswith("| a ") and "seed 9" in line)
    assert cells(failed)[2] == "failed" and cells(failed)[6:] == ["", ""]


def test_markdown_says_what_has_to_be_known(outcome, tmp_path):
    text = markdown.markdown(outcome, tmp_path)
    assert "## Not finished\n\n- a, seed 9: failed: training diverged\n- c, seed 8: not run yet\n" in text
    assert "† MSER uses the other queries" in text and "Published values: a page & more." in text
    assert "vimc\\_wg false, mda\\_layers \\[0, 1\\]" in text


def test_markdown_shows_special_characters_as_they_are():
    assert markdown.escape("a|b *c* _d_ <e> [f] `g` #h\nnext") == r"a\|b \*c\* \_d\_ \<e\> \[f\] \`g\` \#h next"


# ---------------------------------------------------------------------------------------------------------------- LaTeX


@pytest.mark.parametrize("text, escaped", [
    ("k1_k2 & 50 % of #3 {x} $y$", r"k1\_k2 \& 50 \% of \#3 \{x\} \$y\$"),
    ("a\\b ~ ^", r"a\textbackslash{}b \textasciitilde{} \textasciicircum{}"),
    ("1 ± 2 − 3 – 4 †", r"1 $\pm$ 2 $-$ 3 -- 4 $^\dagger$"),
    ('<a|b> "c"\nnext', r"\textless{}a\textbar{}b\textgreater{} \textquotedbl{}c\textquotedbl{} next"),
])  # fmt: skip
def test_latex_escapes(text, escaped):
    assert latex.escape(text) == escaped


def test_latex_table(outcome):
    text = latex.latex(outcome._replace(table=outcome.table._replace(title="50 % & more", note="k1_k2")))
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert body == [
        r"a & sysu/all/1-shot & 2 of 3 & 51.50 $\pm$ 2.12 & 62.00 $\pm$ 2.83 & -- \\",
        r"b & sysu/all/1-shot & 2 of 2 &  & 62.00 $\pm$ 2.83 & 65.50 ($-$3.50) \\",
        r"c & sysu/all/1-shot & 0 of 1 & -- & -- & -- \\",
    ]
    assert r"\caption{50 \% \& more}" in text and r"\begin{tabular}{lllrrr}" in text
    assert r"\multicolumn{2}{c}{MSER$^\dagger$}" in text and r"\cmidrule(lr){4-4}\cmidrule(lr){5-6}" in text
    for note in (
        r"k1\_k2",
        "A dash in place of one: none is known.",
        r"a page \& more",
        r"$^\dagger$ MSER uses the other queries",
    ):
        assert note in text
    assert all(line.count(" & ") == 5 for line in body)


# ------------------------------------------------------------------------------------------------------------------ CSV


def test_csv_has_a_line_for_every_number(outcome, tmp_path):
    lines = list(csv.DictReader(io.StringIO(spreadsheet(outcome, tmp_path / "results" / "small"))))
    found = [
        (line["row"], line["ranking"], line["uses_other_queries"], line["mean"], line["published"]) for line in lines
    ]
    assert found == [
        ("a", "cosine", "no", "51.5", ""), ("a", "mser", "yes", "62", ""),
        ("b", "mser", "yes", "62", "65.5"), ("c", "cosine", "no", "", ""),
        ("c", "mser", "yes", "", ""),
    ]  # fmt: skip
    a, b = lines[0], lines[2]
    assert (a["values"], a["std"]) == ("seed 8: 50; seed 10: 53", "2.12132")
    assert a["run_folders"] == "../runs/a8/sysu/run; ../runs/a10/sysu/run"
    assert (a["runs_finished"], a["runs"], a["not_finished"]) == ("2", "3", "seed 9: failed: training diverged")
    assert (a["source"], b["source"], b["difference"]) == ("", "a page & more", "-3.5")


# ---------------------------------------------------------------------------------------------------------------- files


def test_files_of_an_outcome(outcome, tmp_path):
    folder, drawn = tmp_path / "results" / "small", []
    draw = lambda: drawn.append(1) or {}  # noqa: E731
    paths = write_outcome(outcome, folder, draw)
    assert paths == [folder / name for name in ("table.md", "table.tex", "table.csv", "report.html")]
    assert sorted(folder.iterdir()) == sorted(paths)
    before = [path.read_bytes() for path in paths]
    write_outcome(outcome, folder, draw)
    assert [path.read_bytes() for path in paths] == before and drawn == [1]  # the same table: the same report
    write_outcome(outcome._replace(rows=outcome.rows[:1]), folder, draw)
    assert drawn == [1, 1] and paths[3].read_bytes() != before[3]


def test_preview_names_what_is_not_finished(outcome):
    assert preview(outcome).endswith(
        "not finished: a, seed 9: failed: training diverged\nnot finished: c, seed 8: not run yet"
    )


def test_a_results_folder_that_cannot_be(tmp_path, outcome):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made .*; set --results"):
        write_outcome(outcome, tmp_path / "file" / "small", dict)


def test_runs_with_the_same_trouble_share_a_line():
    run = RunState("seed 8", "missing", None, "not run yet")
    row = OutcomeRow("a", {}, (run, run._replace(label="seed 9")), ())
    assert troubles([row]) == ["a, seed 8 and seed 9: not run yet"]


def test_no_text_of_the_csv_is_a_formula(outcome, tmp_path):
    names = ["=cmd|' /C calc'!A0", "@SUM(A1)", "+SUM(A1)", "+WG", "-1.5"]
    (row, *_) = outcome.rows
    table = outcome.table._replace(rows=tuple(outcome.table.rows[0]._replace(name=name) for name in names))
    text = spreadsheet(Outcome(table, tuple(row._replace(name=name) for name in names)), tmp_path)
    found = dict.fromkeys(line["row"] for line in csv.DictReader(io.StringIO(text)))
    assert list(found) == [*(f"'{name}" for name in names[:3]), *names[3:]]

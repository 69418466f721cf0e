"""Table files and the runs that they ask for: mistakes named by file, row and field; what makes runs the same run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from configs import load_config
from data.sets import DATASETS
from engine.build import rankings
from tools.experiments.plan import Surroundings, make_plan, settings
from tools.experiments.reading import TEST_KEYS, read_table
from tools.experiments.run_id import TALK, code_hash, identity, identity_of_test, of_any_code, used_modules
from tools.experiments.table import Column, options
from utils.errors import UserError

TABLES = Path("configs/tables")
NAMES = [
    "main_sysu", "main_regdb", "ablation_parts", "sensitivity_mda_m", "sensitivity_mda_layers",
    "sensitivity_cmr_strength", "sensitivity_k1", "sensitivity_k2", "sensitivity_lambda", "seeds",
]  # fmt: skip
OTHERS = ["main_llcm", "siblings_sysu", "siblings_regdb", "siblings_llcm", "demo_siblings", "ablation_baseline"]
SHIPPED = [*NAMES, *(f"demo_{name}" for name in NAMES), "demo_ablation_quick", "demo_ablation_smoke", *OTHERS]
SMALL = {
    "title": "Small", "cfg": "configs/Demo.yml", "seeds": [8, 9], "protocols": ["sysu/all/1-shot"], "metrics": ["r1"],
    "rows": [{"name": "whole"}, {"name": "k1 = 3", "tests": "whole", "keys": {"mser_k1": 3}}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent)


@pytest.fixture
def table_file(tmp_path):
    """table_file(**fields) -> path of a small table file with these fields instead of its own; None leaves one out."""

    def write(name: str = "small", **fields) -> Path:
        path = tmp_path / f"{name}.yml"
        path.write_text(yaml.safe_dump({k: v for k, v in {**SMALL, **fields}.items() if v is not None}))
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def plan_of(path: Path, *overrides: str, data: str = "images", code: str = "code"):
    around = Surroundings(lambda cfg, seed: f"{data} {cfg.trial}", lambda cfg: "float32", code)
    return make_plan(read_table(path), overrides, around)


def shipped(name: str, *overrides: str):
    return plan_of(TABLES / f"{name}.yml", *overrides)


# ------------------------------------------------------------------------------------------------------- shipped tables


def test_no_table_is_forgotten_here():
    assert {path.stem for path in TABLES.glob("[!_]*.yml")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_table_plans(name):
    plan = shipped(name)
    assert len(plan.rows) == len(plan.table.rows) and all(plan.rows)
    known = {job.identity for job in plan.jobs}
    assert len(known) == len(plan.jobs) and {run.identity for runs in plan.rows for run in runs} == known
    done = set()
    for job in plan.jobs:
        assert job.model is None or job.model in done
        done.add(job.identity)
        opts = [*job.options, "resume", "x", "test_only", str(job.model is not None)]
        cfg = load_config(job.cfg, opts)
        with_mser = cfg.dataset != "llcm" and name != "demo_siblings"  # LLCM has no published parameters
        assert ("mser" in rankings(cfg)) == with_mser


@pytest.mark.parametrize(
    "name, trainings, tests",
    [
        ("main_sysu", 1, 0), ("main_regdb", 10, 0), ("ablation_parts", 8, 0), ("seeds", 5, 0), ("sensitivity_k1", 1, 5),
        ("sensitivity_k2", 1, 4), ("sensitivity_lambda", 1, 5), ("sensitivity_mda_m", 5, 0), ("demo_main_regdb", 3, 0),
        ("demo_ablation_parts", 24, 0), ("demo_seeds", 3, 0), ("demo_sensitivity_lambda", 1, 5),
        ("main_llcm", 1, 0), ("siblings_llcm", 6, 0), ("demo_siblings", 24, 0),
    ],
)  # fmt: skip
def test_what_a_shipped_table_runs(name, trainings, tests):
    jobs = shipped(name).jobs
    assert sum(job.model is None for job in jobs) == trainings
    assert sum(job.model is not None for job in jobs) == tests


def published_of(names: Iterable[str]) -> dict[tuple[str, str, Column], float]:
    tables = {name: read_table(TABLES / f"{name}.yml").rows for name in names}
    return {
        (name, row.name, column): value
        for name, rows in tables.items()
        for row in rows
        for column, value in row.published.items()
    }


def test_published_figures_of_mcja_are_the_two_known_ones_and_no_demo_has_any():
    quoted = published_of(name for name in SHIPPED if not name.startswith("siblings_"))
    for name in ("main_sysu", "ablation_parts"):
        assert all("inferred" in row.source for row in read_table(TABLES / f"{name}.yml").rows if row.published)
    figures = {Column("sysu/all/1-shot", "mser", "r1"): 89.51, Column("sysu/all/1-shot", "mser", "mAP"): 87.58}
    rows = [("main_sysu", "MCJA"), ("ablation_parts", "all"), ("ablation_parts", "all + MSER")]
    assert quoted == {(*row, column): value for row in rows for column, value in figures.items()}


def test_published_figures_of_other_methods_stand_beside_the_protocol_that_they_belong_to():
    figures = {
        ("siblings_sysu", "sysu-agw/all/1-shot"): {
            "AGW": (47.50, 47.65, 35.30), "CAJ": (69.88, 66.89, 53.61), "MCLNet": (65.40, 61.98),
        },
        ("siblings_llcm", "llcm/i2v"): {"AGW": (49.13, 55.80), "CAJ": (49.86, 56.40), "DEEN": (55.52, 62.07)},
        ("siblings_llcm", "llcm/v2i-released"): {"AGW": (63.72, 47.21), "CAJ": (63.73, 47.71), "DEEN": (69.21, 55.52)},
        ("siblings_regdb", "regdb/i2v"): {"IV-REID": (46.8, 43.7)},
    }  # fmt: skip
    assert published_of(name for name in SHIPPED if name.startswith("siblings_")) == {
        (table, row, Column(protocol, "inner" if row == "DEEN" else "cosine", metric)): value
        for (table, protocol), rows in figures.items()
        for row, values in rows.items()
        for metric, value in zip(("r1", "mAP", "mINP"), values)
    }


@pytest.mark.parametrize("dataset", ["SYSU", "RegDB", "LLCM"])
def test_a_table_of_methods_trains_each_as_its_yml_says(dataset):
    table = read_table(TABLES / f"siblings_{dataset.lower()}.yml")
    assert [row.name for row in table.rows] == ["AGW", "CAJ", "MCLNet", "DEEN", "DJANet", "IV-REID"]
    for row in table.rows:
        found = load_config(table.cfg, options({**table.keys, **row.keys}))
        expected = load_config(f"configs/{dataset}_{row.name}.yml")
        changed = {key for key in found if found[key] != expected[key]}
        assert changed <= {"prefix", "rankers", "mser", "extra_protocols"}, row.name


@pytest.mark.parametrize("prefix", ["", "demo_"])
def test_tables_share_the_training_of_the_whole_method(prefix):
    whole = {"main_sysu": 0, "ablation_parts": -1, "seeds": 0, "sensitivity_k1": 0, "sensitivity_lambda": 0}
    found = {shipped(prefix + name).rows[position][0].identity for name, position in whole.items()}
    assert len(found) == 1


def test_tables_of_the_paper_draw_the_cutmix_as_it_was_published():
    for name in NAMES:
        assert read_table(TABLES / f"{name}.yml").keys["vimc_cc_released"] is True


def test_each_part_alone_is_what_its_row_says():
    plan = shipped("ablation_parts")
    parts = ("vimc_wg", "vimc_cc", "vimc_sj", "mda_layers", "loss_cmr")
    on = {}
    for job in plan.jobs:
        cfg = load_config(job.cfg, job.options)
        on[job.title.split(",")[0]] = [name for name in parts if cfg[name] not in (False, (0, 0, 0, 0))]
    assert on == {
        "baseline": [], "+WG": ["vimc_wg"], "+CC": ["vimc_cc"], "+SJ": ["vimc_sj"],
        "+VIMC": ["vimc_wg", "vimc_cc", "vimc_sj"], "+MDA": ["mda_layers"], "+CMR": ["loss_cmr"], "all": list(parts),
    }  # fmt: skip
    assert plan.rows[-1] == plan.rows[-2]  # MSER ranks with the model of "all": no run of its own


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_table_file_read(table_file):
    rows = [
        {"name": "a", "keys": {"lr": "1e-3", "mda_layers": [0, 0, 0, 0]}},
        {"name": "b", "tests": "a", "keys": {"mser_lambda": 1}, "ranking": "mser",
         "published": {"sysu/all/1-shot": {"mser": {"r1": 50}}}, "source": "a page"},
    ]  # fmt: skip
    table = read_table(table_file(keys={"num_epoch": 3}, rows=rows))
    a, b = table.rows
    assert (table.name, table.keys, table.seeds, table.figure_row) == ("small", {"num_epoch": 3}, (8, 9), "a")
    assert (a.keys, a.tests, a.rankings) == ({"lr": 0.001, "mda_layers": (0, 0, 0, 0)}, None, ("cosine", "mser"))
    assert b.keys == {"lr": 0.001, "mda_layers": (0, 0, 0, 0), "mser_lambda": 1.0}
    assert (b.tests, b.rankings, b.published) == ("a", ("mser",), {Column("sysu/all/1-shot", "mser", "r1"): 50.0})
    assert table.source == "a page"
    assert [c.ranking for c in table.columns] == ["cosine", "mser"]


@pytest.mark.parametrize("keys, rankers", [
    ({"rankers": ["k_reciprocal", "cosine"]}, ("k_reciprocal", "cosine")), ({"rankers": "mser"}, ("mser",)),
    ({"mser": False}, ("cosine",)), ({}, ("cosine", "mser")),
])  # fmt: skip
def test_a_table_shows_the_rankings_of_its_configuration(table_file, keys, rankers):
    table = read_table(table_file(keys=keys, rows=[{"name": "a"}, {"name": "b", "ranking": rankers[0]}]))
    assert table.rankers == tuple(column.ranking for column in table.columns) == rankers
    assert [row.rankings for row in table.rows] == [rankers, rankers[:1]]


def test_the_documents_example_is_a_table(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", Path("docs/tables.md").read_text(), flags=re.S)
    (tmp_path / "example.yml").write_text(example)
    assert [(job.title, job.model is None) for job in plan_of(tmp_path / "example.yml").jobs][::3] == [
        ("lr 3.5e-4, seed 8", True), ("lr 1e-3, seed 8", True), ("lr 1e-3, k1 = 20, seed 8", False),
    ]  # fmt: skip


def test_a_base_gives_what_the_file_leaves_out_except_published_figures(table_file):
    table_file("part", title=None, cfg=None, rows=None, protocols=None, metrics=None, seeds=[1], keys={"lr": 0.5})
    rows = [{"name": "x", "published": {"sysu/all/1-shot": {"mser": {"r1": 50}}}, "source": "a page"}]
    table_file("whole", rows=rows, keys={"lr": 0.1, "wd": 0.1}, note="kept")
    path = table_file("new", **dict.fromkeys(SMALL), base=["whole", "part"], keys={"wd": 0.2})
    table = read_table(path)
    assert (table.note, table.title, table.seeds, table.keys) == ("kept", "Small", (1,), {"lr": 0.5, "wd": 0.2})
    assert [(row.name, dict(row.published), row.source) for row in table.rows] == [("x", {}, "")]


def test_a_base_that_leads_in_a_circle(table_file):
    table_file("one", base="two")
    assert refusal(table_file("two", base="one")) == "base leads back to this file"


@pytest.mark.parametrize("base", ["../two", "/two", "..", "two\0", "x" * 300, ["two", "../two"], 3])
def test_a_base_is_a_name_in_the_same_folder(table_file, base):
    assert refusal(table_file(base=base)).endswith(
        " must be the name of a table file in the same folder, without .yml, or a list of them"
    )


@pytest.mark.parametrize("fields, said", [
    ({"title": None}, "title is missing; docs/tables.md shows a table file"),
    ({"rowz": []}, "unknown field 'rowz'; did you mean rows?"),
    ({"seeds": [8, 8]}, "seeds = [8, 8] must be a list of whole numbers such as [8, 9, 10], each once"),
    ({"seeds": 3}, "seeds = 3 must be a list of whole numbers such as [8, 9, 10], each once"),
    ({"seeds": [True]}, "seeds = [True] must be a list of whole numbers such as [8, 9, 10], each once"),
    ({"rows": []}, "rows = [] must be a list of rows"),
    ({"cfg": "configs/none.yml"}, "configs/none.yml: cannot be read (No such file or directory); give an existing yml file with --cfg"),
    ({"keys": {"batchsize": 3}}, "keys: unknown key 'batchsize'; did you mean batch_size?"),
    ({"keys": {"dataset": "market"}}, f"dataset = 'market' is unknown; choose one of: {', '.join(sorted(DATASETS))}"),
    ({"keys": {"rankers": "cosine, euclid"}}, "rankers = 'euclid' is unknown; choose one of: cosine, inner, k_reciprocal, mser"),
    ({"protocols": ["sysu/all"]}, f"protocols: 'sysu/all' is unknown; choose from {', '.join(DATASETS['sysu'].protocols)}"),
    ({"protocols": ["regdb/v2i"]}, f"protocols: 'regdb/v2i' is unknown; choose from {', '.join(DATASETS['sysu'].protocols)}"),
    ({"metrics": ["map"]}, "metrics: 'map' is unknown; choose from r1, r5, r10, r20, mAP, mINP"),
    ({"splits": [1]}, "splits: sysu has one split; leave the field out"),
    ({"splits": [11], "keys": {"dataset": "regdb"}, "protocols": ["regdb/v2i"]}, "splits: 11 is unknown; regdb has 1 to 10"),
    ({"pictures": "hole"}, "pictures: 'hole' is unknown; choose from whole"),
])  # fmt: skip
def test_a_mistake_in_a_field(table_file, fields, said):
    assert refusal(table_file(**fields)) == said


@pytest.mark.parametrize("row, said", [
    ({"keys": {}}, "row 2: name is missing"),
    ({"name": 3}, "row 2: name = 3 must be a text"),
    ({"name": "a"}, "row 'a': name is that of an earlier row; names tell rows apart"),
    ({"name": "b", "kyes": {}}, "row 'b': unknown field 'kyes'; did you mean keys?"),
    ({"name": "b", "keys": ["lr"]}, "row 'b': keys = ['lr'] must be `name: value` pairs"),
    ({"name": "b", "keys": {"vimc_gw": True}}, "row 'b': keys: unknown key 'vimc_gw'; did you mean vimc_wg?"),
    ({"name": "b", "keys": {"lr": "fast"}}, "row 'b': keys: lr = 'fast' must be a number"),
    ({"name": "b", "keys": {"lr": -1}}, "row 'b': configuration: lr = -1.0: must be finite and above 0"),
    ({"name": "b", "keys": {"test_only": True}}, "row 'b': keys: test_only cannot be set here: give the row `tests: ROW`"),
    ({"name": "b", "tests": "c"}, "row 'b': tests = 'c' must name a row above it that trains its model"),
    ({"name": "b", "tests": "b"}, "row 'b': tests = 'b' must name a row above it that trains its model"),
    ({"name": "b", "tests": "a", "keys": {"lr": 1}}, "row 'b': keys: lr needs a training of its own; with `tests`, change only "
     + ", ".join(sorted(TEST_KEYS))),
    ({"name": "b", "keys": {"mser": False}}, "row 'b': keys: mser cannot be set here: the keys of the table say which rankings all its rows show"),
    ({"name": "b", "ranking": "euclid"}, "row 'b': ranking: 'euclid' is unknown; choose from cosine, mser"),
    ({"name": "b", "published": {"sysu/all/1-shot": {"mser": {"r1": 5}}}}, "row 'b': source is missing: where are the published figures from?"),
    ({"name": "b", "published": {"sysu/all/1-shot": {"mser": {"r1": 101}}}}, "row 'b': published = 101 must be a percentage, 0 to 100"),
    ({"name": "b", "published": {"sysu/all/1-shot": {"mser": {"mAP": 5}}}}, "row 'b': published: 'mAP' is unknown; choose from r1"),
    ({"name": "b", "published": {"sysu/all/1-shot": {"r1": 5}}}, "row 'b': published = 5 must be written as protocol: {ranking: {metric: percent}}"),
])  # fmt: skip
def test_a_mistake_in_a_row(table_file, row, said):
    assert refusal(table_file(rows=[{"name": "a"}, row])) == said


def test_a_file_that_is_no_table(tmp_path):
    path = tmp_path / "t.yml"
    assert refusal(path).startswith("cannot be read")
    path.write_text("title: [")
    assert refusal(path).startswith("not valid YAML in line ")
    path.write_text("title: " + "[" * 5000)
    assert refusal(path) == "not valid YAML"
    path.write_text("seeds: " + "1" * 5000)
    assert refusal(path) == "not valid YAML"
    path.write_text("seeds: [0x" + "f" * 5000 + "]")
    assert len(refusal(path)) < 300
    path.write_bytes(b"title: \xff")
    assert refusal(path).startswith("damaged, or not a text in UTF-8")
    path.write_text('title: "\\ud800"')
    assert refusal(path) == "title = '\\ud800' must be a text"
    path.write_text("- title")
    assert refusal(path) == "must hold `field: value` lines"


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_table_that_is_no_file(tmp_path, make):
    make(tmp_path / "t.yml")
    assert refusal(tmp_path / "t.yml").startswith("cannot be read (")


# ------------------------------------------------------------------------------------------------------------- planning


def test_runs_of_a_plan(table_file):
    plan = plan_of(table_file(), "lr", "0.5")
    assert [job.title for job in plan.jobs] == ["whole, seed 8", "whole, seed 9", "k1 = 3, seed 8", "k1 = 3, seed 9"]
    assert [job.model for job in plan.jobs] == [None, None, plan.jobs[0].identity, plan.jobs[1].identity]
    assert plan.jobs[2].options == ("mser_k1", "3", "lr", "0.5")
    assert [[run.label for run in runs] for runs in plan.rows] == [["seed 8", "seed 9"]] * 2


def test_runs_of_several_splits(table_file):
    regdb = {"keys": {"dataset": "regdb"}, "protocols": ["regdb/v2i"], "rows": [{"name": "x"}]}
    plan = plan_of(table_file(**regdb, splits=[3, 5], seeds=[8]))
    assert [run.label for run in plan.rows[0]] == ["split 3", "split 5"]
    assert [job.options[-2:] for job in plan.jobs] == [("trial", "3"), ("trial", "5")]
    both = plan_of(table_file(**regdb, splits=[3, 5], seeds=[8, 9]))
    assert [r.label for r in both.rows[0]] == [
        "split 3, seed 8",
        "split 3, seed 9",
        "split 5, seed 8",
        "split 5, seed 9",
    ]


def test_a_training_takes_the_place_of_a_test_that_gives_the_same_numbers(table_file):
    rows = [{"name": "a"}, {"name": "b", "tests": "a", "keys": {"mser_k1": 3}}, {"name": "c", "keys": {"mser_k1": 3}}]
    plan = plan_of(table_file(rows=rows, seeds=[8]))
    assert [(job.title, job.model) for job in plan.jobs] == [("a, seed 8", None), ("c, seed 8", None)]
    assert plan.rows[1] == plan.rows[2]


@pytest.mark.parametrize("overrides, said", [
    (["mser_k1", "3"], "mser_k1 cannot be given here: {path} sets it in row 'k1 = 3'"),
    (["rankers", "cosine"], "rankers cannot be given here: the keys of the table say which rankings all its rows show"),
    (["output_dir", "x"], "output_dir cannot be given here: --results says where runs go"),
    (["lr", "1", "output_dir=x"], "output_dir cannot be given here: --results says where runs go"),
    (["num_epochs", "3"], "command line: unknown key 'num_epochs'; did you mean num_epoch?"),
    (["num_epoch"], "overrides come in pairs, KEY VALUE: 'num_epoch' has no value"),
    (["k_size", "3"], "{path}: row 'whole': configuration: k_size = 3: must be even with sample_method "
     "cross_modality_identity (half of each modality)"),
])  # fmt: skip
def test_overrides_that_cannot_be(table_file, overrides, said):
    path = table_file()
    with pytest.raises(UserError) as caught:
        plan_of(path, *overrides)
    assert str(caught.value) == said.format(path=path)


# ------------------------------------------------------------------------------------------------------------- identity


def named(*opts: str, seed: int = 8, data: str = "d", precision: str = "float32", code: str = "c" * 64) -> str:
    return identity(settings(load_config("configs/Demo.yml", opts)), seed, data, precision, code)


def test_what_makes_another_run():
    others = [
        named(), named(seed=9), named(data="e"), named(code="d" * 64), named(precision="bfloat16"), named("lr", "0.5"), named("num_epoch", "3"),
        named("vimc_wg", "false"), named("mser_k1", "8"), named("select", "last"), named("dataset", "regdb"),
        named("dataset", "regdb", "trial", "2"), named("num_cam", "9"),
    ]  # fmt: skip
    assert len(set(others)) == len(others)
    assert len(named()) == 25


@pytest.mark.parametrize("opts", [
    ["data_root", "x"], ["output_dir", "x"], ["num_workers", "3"], ["cache", "none"], ["cache_dir", "x"], ["resume", "x"],
    ["log_period", "3"], ["eval_memory_gb", "2"], ["grad_checkpoint", "true"], ["prefix", "x"], ["num_id", "3"], ["lr", "0.001"],
    ["trial", "2"],
])  # fmt: skip
def test_what_does_not(opts):
    assert named(*opts) == named()


def test_runs_of_other_code_share_what_they_are():
    run, other = named(), named(code="d" * 64)
    assert re.fullmatch("[0-9a-f]{16}-c{8}", run) and fnmatch(other, of_any_code(run))
    assert not fnmatch(named(seed=9), of_any_code(run))
    assert identity_of_test(run, named(seed=9)) == run and identity_of_test(run, other) == f"{run}.{'d' * 8}"


def test_precision_counts_and_the_keys_that_lead_to_it_do_not():
    assert named("amp_dtype", "bf16") == named("fp16", "false") == named() != named(precision="bfloat16")


MODULES = {
    "main.py": "from data import load\n\ndef run():\n    import losses.own\n",
    "data/__init__.py": "from data.reading import load as load\nfrom utils import seeding\nfrom utils.cli import say\n",
    "data/reading.py": '"""Reads."""\n\ndef load(x):\n    """Loads."""\n    return x + 1  # one more\n',
    "data/unused.py": "x = 1\n",
    "losses/__init__.py": "from .deep import there\n",
    "losses/deep.py": "there = 1\n",
    "losses/own.py": "x = 1\n",
    "utils/seeding.py": "x = 1\n",
    "utils/cli.py": "say = print\n",
    "tools/reproduce.py": "import main\n",
}


@pytest.fixture
def code(tmp_path):
    """code(**{path: text}) -> the hash of a small program with these modules changed."""

    def write(changed: dict[str, str] | None = None) -> str:
        for place, text in {**MODULES, **(changed or {})}.items():
            (tmp_path / place).parent.mkdir(exist_ok=True)
            (tmp_path / place).write_text(text)
        return code_hash(tmp_path)

    return write


@pytest.mark.parametrize("place, text", [
    ("data/reading.py", "# mine\ndef load( x ):\n  return (x+1)\n"),
    ("data/unused.py", "x = 2\n"),
    ("utils/cli.py", "def say(text): print(text)\n"),
    ("tools/reproduce.py", "import main, sys\n"),
    ("losses/mine.py", "x = 1\n"),
])  # fmt: skip
def test_what_leaves_the_code_the_same(code, place, text):
    assert code({place: text}) == code()


@pytest.mark.parametrize("place, text", [
    ("main.py", MODULES["main.py"] + "x = 1\n"),
    ("data/__init__.py", MODULES["data/__init__.py"] + "import data.unused\n"),
    ("data/reading.py", "def load(x):\n    return x + 1.0\n"),
    ("losses/own.py", "x = 2\n"),
    ("losses/deep.py", "there = 2\n"),
    ("utils/seeding.py", "x = 2\n"),
])  # fmt: skip
def test_what_makes_other_code(code, place, text):
    before = code()
    assert code({place: text}) != before


def test_code_that_is_no_python(code):
    with pytest.raises(UserError, match=r"losses/own.py: not valid Python \(line 2\)"):
        code({"losses/own.py": "x = 1\nx =\n"})


def test_this_projects_code_is_what_main_imports():
    modules = used_modules(Path("."))
    assert {
        "main.py",
        "utils/seeding.py",
        "engine/run.py",
        "models/mcja.py",
        "data/augmentation/mcja.py",
    } < modules.keys()
    assert modules.keys() > TALK and not any(place.startswith(("tools/", "tests/")) for place in modules)

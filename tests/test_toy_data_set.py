"""A data set is one file and one entry of DATASETS: a toy, in everything that asks for a data set."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from configs import load_config
from data.build import build_benchmark
from data.sets import DATASETS, llcm, sysu
from data.sets.value import DataSet, Foreign
from tests.conftest import TINY, only_run
from tools import evaluate, reproduce
from utils.cli import exit_code
from utils.errors import UserError
from utils.results import read_rows
from utils.runs import RESULTS
from utils.types import Benchmark, Modality, Record, Setting, Split, Trial

HOME = Path(evaluate.__file__).parent.parent

# ----------------------------------------------------------------------------------------------- one file of a data set


def load(root: str, trial: int = 1, hold_out: bool = False, seed: int = 0) -> Benchmark:
    """`root/{0,1}/{train,test}_{identity}_{number}.png`: a folder for each modality."""
    found = [(path, *path.stem.split("_")) for path in sorted(Path(root).glob("*/*.png"))]
    records = [(part, Record(str(path), int(i), 1, Modality(int(path.parent.name)))) for path, part, i, _ in found]
    train, tested = ([record for own, record in records if own == part] for part in ("train", "test"))
    sides = [[record for record in tested if record.modality == modality] for modality in Modality]
    split = Split(*sides, settings(*map(len, sides)), ("toy/i2v",))
    return Benchmark("toy", trial, len({r.pid for r in train}), train, split, None, nothing, None, ())


def nothing(query_pids, query_cameras, gallery_pids, gallery_cameras):
    return torch.zeros(len(query_pids), len(gallery_pids), dtype=torch.bool, device=query_pids.device)


def settings(visible: int, infrared: int) -> list[Setting]:
    return [Setting("toy/i2v", Modality.INFRARED, [Trial(np.arange(infrared), np.arange(visible))])]


def foreign(listing, trials_file):
    return settings(*(len(listing.pids[modality]) for modality in Modality)), []


TOY = DataSet("toy", "Toy", "datasets/toy", load, ("toy/i2v",), nothing, {"toy": Foreign(foreign)}, splits=range(1, 3))

# ----------------------------------------------------------------------------------------------------- what it works in


@pytest.fixture(autouse=True)
def entry(monkeypatch):
    monkeypatch.setitem(DATASETS, "toy", TOY)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder, dice = tmp_path_factory.mktemp("toy"), np.random.default_rng(0)
    for modality in Modality:
        (folder / str(int(modality))).mkdir()
        for part, identities in (("train", range(4)), ("test", range(4, 7))):
            for name in (f"{part}_{identity}_{n}.png" for identity in identities for n in range(2)):
                pixels = dice.integers(0, 256, (64, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / str(int(modality)) / name)
    return folder


@pytest.fixture
def arguments(root) -> list[str]:
    return [*TINY, "dataset", "toy", "data_root", str(root), "num_epoch", "1", "lr_step", "[1]"]


def test_a_run(run_main, arguments, tmp_path):
    assert run_main(*arguments, "mser", "false", "output_dir", tmp_path, "trial", "2") == 0
    rows = read_rows(only_run(tmp_path) / RESULTS)
    assert {(row.protocol, row.ranking, row.split) for row in rows} == {("toy/i2v", "cosine", 2)}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "mser: nobody published its parameters for this data set; leave it out"),
        (["mser", "false", "trial", "3"], "trial = 3: Toy has the splits 1 to 2"),
    ],
)
def test_what_a_run_refuses(run_main, arguments, tmp_path, capsys, keys, said):
    assert run_main(*arguments, "output_dir", tmp_path, *keys) == 2
    assert said in capsys.readouterr().err


def test_mser_where_its_parameters_are_given(run_main, arguments, tmp_path):
    given = ["mser_k1", "3", "mser_k2", "2", "mser_lambda", "0.3", "mser_queries_only", "false"]
    assert run_main(*arguments, *given, "output_dir", tmp_path) == 0
    assert [row.ranking for row in read_rows(only_run(tmp_path) / RESULTS)][-2:] == ["cosine", "mser"]


def test_foreign_features(root, tmp_path, capsys):
    dice, test = np.random.default_rng(0), load(str(root)).test
    arrays = {}
    for side, records, shape in (("visible", test.visible, (4, 6, 8)), ("infrared", test.infrared, (6, 8))):
        arrays[f"{side}_embeddings"] = dice.normal(size=shape)
        arrays[f"{side}_pids"] = np.array([record.pid for record in records])
        arrays[f"{side}_cameras"] = np.ones(6, int)
    np.savez(tmp_path / "x.npz", **arrays)
    command = [str(tmp_path / "x.npz"), "--protocol", "toy", "--device", "cpu", "--out", str(tmp_path / "rows.jsonl")]
    evaluate.main([*command, "--split", "2"])
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert (row.protocol, row.split, row.ranking) == ("toy/i2v", 2, "cosine")
    for more, said in (
        (["--split", "3"], "--split = 3: Toy has the splits 1 to 2"),
        (["--perm", "x.mat"], "--perm is not used with --protocol toy"),
        (["--rank", "mser"], "mser: nobody published its parameters"),
    ):
        assert exit_code(partial(evaluate.main, [*command, *more])) == 2
        assert said in capsys.readouterr().err


def test_a_table_and_its_report(run_main, root, tmp_path, capsys):
    table = {
        "title": "Toys", "cfg": "configs/Demo.yml", "seeds": [8], "splits": [1, 2], "protocols": ["toy/i2v"],
        "metrics": ["r1"], "rows": [{"name": "whole"}], "keys": {"dataset": "toy", "rankers": ["cosine"]},
    }  # fmt: skip
    (tmp_path / "toys.yml").write_text(yaml.safe_dump(table))
    keys = ["data_root", str(root), *TINY[4:], "num_epoch", "1", "lr_step", "[1]"]
    command = [str(tmp_path / "toys.yml"), "--gpu", "cpu", "--results", str(tmp_path / "results"), *keys]
    assert reproduce.main([*command, "--print"]) == 0
    runs = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [words[words.index("trial") + 1] for words in runs] == ["1", "2"]
    for words in runs:
        assert run_main(*words[2:]) == 0
    capsys.readouterr()
    assert reproduce.main([*command, "--collect"]) == 0
    assert ": 2 of 2 runs are finished" in capsys.readouterr().out
    page = (tmp_path / "results" / "toys" / "report.html").read_text()
    assert "toy/i2v" in page and "split 2" in page


def test_its_splits_are_those_of_a_table(tmp_path, capsys):
    table = {
        "title": "Toys", "cfg": "configs/Demo.yml", "seeds": [8], "splits": [3], "protocols": ["toy/i2v"],
        "metrics": ["r1"], "rows": [{"name": "whole"}], "keys": {"dataset": "toy", "rankers": ["cosine"]},
    }  # fmt: skip
    (tmp_path / "toys.yml").write_text(yaml.safe_dump(table))
    assert reproduce.main([str(tmp_path / "toys.yml"), "--gpu", "cpu"]) == 2
    assert "splits: 3 is unknown; toy has 1 to 2" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- what nobody lists


def test_data_sets_are_light_to_import():
    script = "import sys, data.sets; print(sorted({'ignite', 'torchvision', 'yacs'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_value_says_what_reading_gives(sysu_root, regdb_root, folder_root):
    for name, root in (("sysu", sysu_root), ("regdb", regdb_root), ("folder", folder_root)):
        value, benchmark = DATASETS[name], DATASETS[name].load(str(root))
        assert (value.name, value.mser, value.excluded) == (benchmark.name, benchmark.mser, benchmark.excluded)
        assert value.protocols == tuple(setting.protocol for setting in benchmark.test.settings)
        assert value.extra == tuple(setting.protocol for setting in benchmark.test.extra)
        assert (benchmark.trial is None) == (not value.splits)
    assert llcm.DATASET.mser is None and sysu.DATASET.splits == ()


def test_configuration_and_tools_name_no_data_set():
    makers = {"layouts.py", "request.py", "contact_sheet.py"}  # which make and show the files of known ones
    names = re.compile(
        f"[\"'](?:{'|'.join(set(DATASETS) - {'toy', 'folder'})})[\"']"
    )  # "folder" means any folder there
    paths = [*(HOME / "tools").rglob("*.py"), *(HOME / "configs").glob("*.py")]
    found = {path.name for path in paths if path.name not in makers and names.search(path.read_text())}
    assert found <= {"defaults.py"}  # the key's default


def test_an_unknown_name_lists_the_known_ones(root):
    with pytest.raises(UserError, match="dataset = 'duke' is unknown; choose one of: folder, llcm, regdb, sysu, toy"):
        build_benchmark(load_config(None, ["dataset", "duke"]), 0)

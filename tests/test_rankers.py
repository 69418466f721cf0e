"""Rankers are values, and retrieval stands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from configs import load_config
from data.sets import regdb
from engine.build import rankings
from engine.evaluator import result_rows
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.metrics import ranking_metrics, summary
from engine.retrieval.ranked import rank_setting
from engine.retrieval.rankers import DEFAULT, PLAIN, RANKERS, keeps_lengths, need_spectra, rankers
from tests.conftest import TINY, only_run
from tools import evaluate, reproduce, summarize, visualize
from tools.experiments.commands import command
from tools.experiments.folders import final_rows
from tools.experiments.launch import Launcher
from tools.report.wording import others_used, ranking_name
from utils.errors import UserError
from utils.results import read_rows
from utils.types import Features, Modality, MserDefaults, Setting, Stage, Trial

HOME = Path(__file__).parent.parent
HEAVY = "import engine.retrieval.metrics, engine.retrieval.ranked, sys; print(*sys.modules)"


def test_retrieval_loads_no_trainer_and_no_data_set():
    loaded = subprocess.run([sys.executable, "-c", HEAVY], cwd=HOME, capture_output=True, text=True, check=True).stdout
    packages = {name.split(".")[0] for name in loaded.split()}
    assert "engine" in packages and not packages & {"ignite", "torchvision", "data", "models", "losses", "configs"}
    assert not [name for name in loaded.split() if name.startswith("engine.") and ".retrieval" not in name]


def test_retrieval_imports_itself_and_the_nouns_only():
    for path in (HOME / "engine" / "retrieval").glob("*.py"):
        froms = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        ours = [name for name in froms if (HOME / name.split(".")[0]).is_dir()]
        assert all(name.startswith(("engine.retrieval", "utils")) for name in ours), path


def test_what_the_rankers_say():
    assert set(DEFAULT) <= RANKERS.keys() and not RANKERS[PLAIN].uses_queries
    assert [name for name in RANKERS if need_spectra([name])] == ["mser"]
    assert [name for name, ranker in RANKERS.items() if ranker.uses_queries] == ["mser", "k_reciprocal"]


def lengthy_features() -> dict[Modality, Features]:
    """Of 30 images of 6 identities, in vectors of very different lengths; both modalities' are made of the same."""
    rng = np.random.default_rng(1)
    centres, labels = rng.normal(size=(6, 4)), torch.arange(30) % 6
    rows = [(centres[labels] + 0.3 * rng.normal(size=(30, 4))) * rng.uniform(0.2, 5, size=(30, 1)) for _ in Modality]
    return {m: Features(torch.from_numpy(rows[m])[None].float(), labels, torch.zeros(30).long()) for m in Modality}


def test_inner_products_are_of_the_vectors_as_they_are_and_cosines_are_not():
    """Beside each other in the rows of one test; the metrics of the plain definitions."""
    features, galleries = lengthy_features(), [np.arange(25), np.arange(5, 30)]
    setting = Setting("p", Modality.INFRARED, [Trial(np.arange(30), gallery) for gallery in galleries])
    made = rankers(["cosine", "inner"], None)
    rows = result_rows(features, [setting], regdb.excluded, made, 1.0, None, Stage("test", 1))
    query, images = (features[modality].embeddings[0].double() for modality in (Modality.INFRARED, Modality.VISIBLE))
    for row in rows:
        cosine = row.ranking == "cosine"
        q, g = (F.normalize(part) for part in (query, images)) if cosine else (query, images)
        pids = features[Modality.VISIBLE].pids
        found = [
            ranking_metrics(-q @ g[part].T, pids, pids[part], np.zeros((30, 25), bool))
            for part in map(torch.from_numpy, galleries)
        ]
        assert row.mAP == pytest.approx(50 * sum(each["mAP"] for each in found), abs=1e-5)
    assert [row.ranking for row in rows] == ["cosine", "inner"] and rows[0].mAP > rows[1].mAP + 5
    kept = rank_setting(features, setting, regdb.excluded, made["inner"], 1e-7, keeps_lengths("inner")).shown
    assert torch.allclose(kept.distances.double(), -query @ images[:25].T, atol=1e-4)


def test_only_mser_needs_parameters():
    assert list(rankers(["cosine", "k_reciprocal"], None)) == ["cosine", "k_reciprocal"]
    with pytest.raises(UserError, match="mser: nobody published its parameters.*mser_k1"):
        rankers(["cosine", "mser"], None)


@pytest.mark.parametrize("name", RANKERS)
def test_what_is_kept_of_trials_is_what_is_evaluated(name):
    """With trials whose queries differ too, in any order."""
    rng = np.random.default_rng(0)
    features = {
        modality: Features(
            torch.from_numpy(rng.normal(size=(spectra, 20, 6))).float(),
            torch.arange(20) % 5,
            torch.zeros(20, dtype=torch.int64),
        )
        for modality, spectra in ((Modality.VISIBLE, 4), (Modality.INFRARED, 1))
    }
    drawn = [Trial(np.arange(size), np.sort(rng.permutation(20)[:9])) for size in (12, 7, 12)]
    setting = Setting("p", Modality.INFRARED, drawn)
    rank = RANKERS[name].make(MserDefaults(4, 2, 0.3, True))

    def excluded(pids, cameras, gallery_pids, gallery_cameras):
        return (pids[:, None] == 0) & (gallery_pids == 1)

    found = rank_setting(features, setting, excluded, rank, 1.0)
    assert [len(first) for first in found.first] == [12, 7, 12]
    alone = evaluate_settings(features, [setting._replace(trials=drawn[:1])], excluded, rank, 1.0)["p"]
    assert summary([found.shown.scores]) == alone
    assert found.first[0].tolist() == found.shown.scores.first.tolist()
    counted = [(first[first > 0] == 1).mean() for first in found.first]
    assert np.mean(counted) == pytest.approx(evaluate_settings(features, [setting], excluded, rank, 1.0)["p"]["r1"])


# ------------------------------------------------------------------------------------------------------ the key rankers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("cosine", "mser")),
        (["mser", "false"], ("cosine",)),
        (["rankers", "cosine, mser,k_reciprocal"], ("cosine", "mser", "k_reciprocal")),
        (["rankers", "[k_reciprocal]"], ("k_reciprocal",)),
        (["rankers", "('mser', 'cosine')", "mser", "false"], ("mser", "cosine")),
        (["rankers", "cosine"], ("cosine",)),
        (["rankers", ""], ("cosine", "mser")),
        (["rankers", "[]"], ("cosine", "mser")),
    ],
)
def test_the_configuration_names_the_rankings(given, expected):
    assert tuple(rankings(load_config(None, given))) == expected


def test_the_key_is_a_list_in_a_file_and_survives_one(tmp_path):
    (tmp_path / "a.yml").write_text("rankers: [cosine, k_reciprocal]\n")
    cfg = load_config(tmp_path / "a.yml")
    (tmp_path / "b.yml").write_text(cfg.dump())
    assert load_config(tmp_path / "b.yml").rankers == cfg.rankers == ("cosine", "k_reciprocal")


@pytest.mark.parametrize("given", ["[1, 2]", "cosine,,mser", "true", "{cosine: mser}", "3", "[[cosine]]", "' '"])
def test_what_is_no_list_of_names(given):
    with pytest.raises(UserError, match="rankers = .* must be names such as cosine, mser"):
        load_config(None, ["rankers", given])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cosine,euclid", "rankers = 'euclid' is unknown; choose one of: cosine, inner, k_reciprocal, mser"),
        ("mser,mser", "rankers = 'mser,mser' repeats mser; choose each of cosine, inner, k_reciprocal, mser once"),
    ],
)
def test_names_that_cannot_be_ranked_by(given, said):
    with pytest.raises(UserError, match=said):
        rankings(load_config(None, ["rankers", given]))


def test_a_dagger_is_explained_where_there_is_one():
    assert [ranking_name(name) for name in RANKERS] == ["cosine", "inner product", "MSER†", "k-reciprocal†"]
    assert others_used([PLAIN]) == []
    (both,) = others_used([name for name in RANKERS if name != "inner"])
    assert both.startswith("† MSER and k-reciprocal use the other queries: they re-rank ")
    assert both.endswith("their numbers are not comparable with the cosine numbers beside them.")
    (alone,) = others_used(["mser"])
    assert alone.startswith("† MSER uses ") and "beside" not in alone


# ------------------------------------------------------------------------------------------------ a new one, everywhere

TOY = """
from engine.retrieval.distances import cosine_distances
from engine.retrieval.rankers import RANKERS, Ranker


def opposite(query, gallery, memory_gb):
    return lambda columns: [(slice(0, query.shape[1]), 2 - cosine_distances(query[0], gallery[0][columns]))]


RANKERS["toy"] = Ranker("Toy", lambda mser: opposite, uses_queries=True)
"""
CHILD = "import toy_ranker, sys, main; sys.exit(main.run_together(main.partial(main.run, None)))"


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A ranker in one file, with one entry."""
    before = dict(RANKERS)
    (tmp_path / "toy_ranker.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{HOME}")
    exec(compile(TOY, "toy_ranker.py", "exec"), {})
    yield
    RANKERS.clear()
    RANKERS.update(before)


def test_a_new_ranker_trains_and_is_reported(toy, run_main, sysu_root, tmp_path, capsys):
    small = [*TINY, "num_epoch", 0, "eval_initial", "false", "data_root", sysu_root, "num_workers", 0]
    assert run_main(*small, "rankers", "toy, cosine", "output_dir", tmp_path / "out") == 0
    folder = only_run(tmp_path / "out")
    rows = [row for row in final_rows(folder) if row.protocol == "sysu/all/1-shot"]
    assert [row.ranking for row in rows] == ["toy", "cosine"] and rows[0].mAP < rows[1].mAP
    summarize.main([str(folder)])
    assert "trained, Toy" in capsys.readouterr().out
    visualize.main([str(folder), "--what", "ranked_lists", "--ranking", "k_reciprocal", "--gpu", "cpu"])
    visualize.main([str(folder), "--what", "cmc", "--gpu", "cpu"])
    assert {path.name for path in (folder / "figures").iterdir()} == {"ranked_lists_k_reciprocal.png", "cmc.png"}


def test_a_new_ranker_judges_foreign_embeddings(toy, tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {f"{side}_{what}": np.arange(8) for side in ("visible", "infrared") for what in ("pids", "cameras")}
    points = rng.normal(size=(8, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", visible_embeddings=points[None], infrared_embeddings=9 * points, **arrays)
    words = [tmp_path / "x.npz", "--protocol", "regdb", "--rank", "cosine,toy,inner", "--out", tmp_path / "rows.jsonl"]
    evaluate.main([*map(str, words), "--device", "cpu"])
    found = {(row.ranking, row.protocol): row.r1 for row in read_rows(tmp_path / "rows.jsonl")}
    assert found["cosine", "regdb/i2v"] == 100 and found["toy", "regdb/i2v"] == 0
    longest = 100 * np.mean((points @ points.T).argmax(axis=1) == np.arange(8))
    assert found["inner", "regdb/i2v"] == pytest.approx(longest, abs=1e-4) and longest < 100


def test_a_new_ranker_has_its_columns_in_a_table_and_its_report(toy, run_main, sysu_root, tmp_path, monkeypatch):
    keys = {"rankers": ["cosine", "toy"], "num_epoch": 0, "eval_initial": False, "num_workers": 0, "cache": "none"}
    fields = {
        "title": "Small",
        "cfg": "configs/Demo.yml",
        "seeds": [8],
        "protocols": ["sysu/all/1-shot"],
        "metrics": ["r1"],
        "keys": {**keys, "image_size": [64, 32], "data_root": str(sysu_root)},
        "rows": [
            {"name": "a", "published": {"sysu/all/1-shot": {"toy": {"r1": 12.5}}}, "source": "nowhere"},
        ],
    }
    (tmp_path / "small.yml").write_text(yaml.safe_dump(fields))

    def prepare(*arguments) -> list[str]:
        return [sys.executable, "-c", CHILD, *command(*arguments)[2:]]

    monkeypatch.setattr(reproduce, "Launcher", partial(Launcher, prepare=prepare))
    monkeypatch.setattr(reproduce, "figures_of", lambda outcome, gpu: {})
    assert reproduce.main([str(tmp_path / "small.yml"), "--gpu", "cpu", "--results", str(tmp_path / "results")]) == 0
    made = {path.suffix: path.read_text() for path in (tmp_path / "results" / "small").iterdir()}
    assert "Toy†" in made[".md"] and "Toy" in made[".tex"] and "12.50" in made[".md"]
    assert ",toy,yes,r1," in made[".csv"] and ",cosine,no,r1," in made[".csv"] and "mser" not in made[".csv"]
    assert "Toy† (uses the other queries)" in made[".html"] and "† Toy uses the other queries" in made[".html"]


# -------------------------------------------------------------------------------------------------------- one list only


def listed_rankers(tree: ast.AST) -> list[str]:
    """What lists two or more rankers by name: a tuple, list, set, or the keys of a dict."""
    found = []
    for node in ast.walk(tree):
        items = getattr(node, "keys" if isinstance(node, ast.Dict) else "elts", [])
        names = {item.value for item in items if isinstance(item, ast.Constant) and item.value in RANKERS}
        found += [ast.unparse(node)] if len(names) > 1 else []
    return found


def test_no_other_file_lists_the_rankers():
    assert listed_rankers(
        ast.parse("a = {'mser': 1, 'cosine': 2}; b = ['cosine', 'mser']; c = ('mser', 'rankers')")
    ) == [
        "{'mser': 1, 'cosine': 2}",
        "['cosine', 'mser']",
    ]
    packages = ("configs", "data", "engine", "losses", "models", "tools", "utils")
    paths = [path for package in packages for path in (HOME / package).rglob("*.py")]
    assert len(paths) > 80
    listing = [path.name for path in paths if listed_rankers(ast.parse(path.read_text(encoding="utf-8")))]
    assert listing == ["rankers.py"]

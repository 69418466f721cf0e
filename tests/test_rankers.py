"""Rankers are values, and retrieval stands alone."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.metrics import summary
from engine.retrieval.ranked import rank_setting
from engine.retrieval.rankers import DEFAULT, PLAIN, RANKERS, need_spectra, rankers
from utils.errors import UserError
from utils.types import Features, Modality, MserDefaults, Setting, Trial

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

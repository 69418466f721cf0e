"""The benchmarks run, and what they call the plain way computes the same."""

import numpy as np
import pytest

from benchmarks import plain, retrieval
from benchmarks.features import regdb_like, sysu_like
from engine.retrieval.protocols import evaluate_settings, rankers
from tests import slow
from utils.types import Modality


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("queries_only", [True, False])
@pytest.mark.parametrize(("spectra", "k1", "k2"), [((1, 4), 5, 3), ((4, 1), 5, 3), ((1, 1), 3, 1)])
def test_plain_mser(spectra, k1, k2, queries_only):
    rng = np.random.default_rng(k1)
    query, gallery = unit(rng, spectra[0], 9, 6), unit(rng, spectra[1], 7, 6)
    expected = slow.mser(query, gallery, k1, k2, 0.3, queries_only)
    assert plain.mser(query, gallery, k1, k2, 0.3, queries_only) == pytest.approx(expected, abs=1e-9)


def test_plain_metrics():
    rng = np.random.default_rng(0)
    dist, out = rng.integers(0, 10, (9, 30)), rng.random((9, 30)) < 0.3
    pids = rng.integers(0, 4, 9), rng.integers(0, 4, 30)
    assert plain.metrics(dist, *pids, out) == pytest.approx(slow.metrics(dist, *pids, out))


@pytest.mark.parametrize("ranking", ["cosine", "mser"])
@pytest.mark.parametrize("layout", ["sysu", "regdb"])
def test_plain_and_fast_agree_on_drawn_features(sysu_root, layout, ranking):
    data = sysu_like(sysu_root / "exp", 1.5, 32) if layout == "sysu" else regdb_like(4, 1.5, 32)
    found = evaluate_settings(data.features, data.settings, data.excluded, rankers(data.mser)[ranking], 1.0)
    for setting in data.settings:
        trials = [retrieval.plain_trial(data, ranking, setting, trial) for trial in setting.trials]
        expected = {name: np.mean([trial[name] for trial in trials]) for name in trials[0]}
        assert found[setting.protocol] == pytest.approx(expected, abs=1e-6)


def test_drawn_features_have_the_shape_of_the_split(sysu_root):
    features = sysu_like(sysu_root / "exp", 1.0, 8).features
    # four test identities, two pictures from each camera that saw them
    assert features[Modality.VISIBLE].embeddings.shape[0] == 4 and features[Modality.INFRARED].embeddings.shape[0] == 1
    seen = [len(list(sysu_root.glob(f"cam{camera}/{pid:04d}/*"))) for camera in (3, 6) for pid in identities(sysu_root)]
    assert len(features[Modality.INFRARED].pids) == sum(seen)


def identities(root) -> list[int]:
    return [int(word) for word in (root / "exp" / "test_id.txt").read_text().split(",")]


def test_benchmark(sysu_root, capsys, monkeypatch):
    monkeypatch.setattr(
        retrieval, "alone", lambda work, *arguments: work(*arguments)
    )  # starting processes takes longest
    retrieval.main(
        [str(sysu_root / "exp"), "--quick", "--width", "16", "--identities", "3", "--runs", "1", "--growth", "1"]
    )
    printed = capsys.readouterr().out
    assert "MSER distances differ by" in printed
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[1:4] for row in rows if "settings at once" in row[2]] and all(len(row) == len(rows[0]) for row in rows)
    assert {"sysu/all/10-shot", "regdb/v2i"} <= {row[2].strip() for row in rows}

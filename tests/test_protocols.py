"""The evaluation of whole protocols against golden numbers."""

import numpy as np
import pytest
import torch

from data import regdb, sysu
from engine.retrieval.protocols import evaluate_settings, rankers
from tests.conftest import golden
from utils.types import Features, Modality, Record, Setting, Trial

METRICS = ("r1", "r5", "r10", "r20", "mAP", "mINP")


def features(embeddings: list[np.ndarray], pids: np.ndarray, cameras: np.ndarray) -> Features:
    stacked = torch.from_numpy(np.stack(embeddings).astype(np.float32))
    return Features(stacked, torch.from_numpy(pids), torch.from_numpy(cameras))


@pytest.fixture(scope="module")
def sysu_case():
    arrays = golden("sysu_eval")
    data = {
        Modality.VISIBLE: features(
            [arrays[f"gallery_feats{i}"] for i in range(4)], arrays["gallery_ids"], arrays["gallery_cams"]
        ),
        Modality.INFRARED: features([arrays["query_feats"]], arrays["query_ids"], arrays["query_cams"]),
    }
    return arrays, data


@pytest.fixture(scope="module")
def regdb_case():
    arrays = golden("regdb_eval")
    data = {
        Modality.VISIBLE: features([arrays[f"vis_feats{i}"] for i in range(4)], arrays["vis_ids"], arrays["vis_cams"]),
        Modality.INFRARED: features([arrays["ir_feats"]], arrays["ir_ids"], arrays["ir_cams"]),
    }
    return arrays, data


def official_trials(arrays: dict, mode: str, shots: int) -> list[Trial]:
    """Galleries by the project's own rule, from the permutations that the golden file holds."""
    offsets = arrays["perm_off"]
    permutations = {
        (int(camera), int(identity)): arrays["perm_data"][offsets[k] : offsets[k + 1]].reshape(10, -1).astype(np.int64)
        for k, (camera, identity) in enumerate(zip(arrays["perm_cam"], arrays["perm_id"]))
    }
    visible = [
        Record(path, int(pid), int(camera), Modality.VISIBLE)
        for path, pid, camera in zip(arrays["gallery_paths"], arrays["gallery_ids"], arrays["gallery_cams"])
    ]
    return sysu.trials(visible, len(arrays["query_ids"]), sysu.MODES[mode], shots, permutations)


def evaluate(data, setting: Setting, dataset, ranking: str, memory_gb: float = 1.0) -> dict[str, float]:
    ranker = rankers(dataset.MSER)[ranking]
    return evaluate_settings(data, [setting], dataset.excluded, ranker, memory_gb)[setting.protocol]


@pytest.mark.parametrize("mode", ["all", "indoor"])
@pytest.mark.parametrize("shots", [1, 10])
class TestSysu:
    def setting(self, arrays, mode, shots):
        return Setting("sysu", Modality.INFRARED, official_trials(arrays, mode, shots))

    def test_galleries(self, sysu_case, mode, shots):
        arrays, _ = sysu_case
        for trial, chosen in zip(official_trials(arrays, mode, shots), arrays[f"sel_{mode}_{shots}"]):
            assert trial.gallery.tolist() == np.flatnonzero(chosen).tolist()

    def test_cosine(self, sysu_case, mode, shots):
        arrays, data = sysu_case
        result = evaluate(data, self.setting(arrays, mode, shots), sysu, "cosine")
        assert percent(result) == pytest.approx(arrays[f"base_{mode}_{shots}"].tolist(), abs=0.01)

    def test_mser(self, sysu_case, mode, shots):
        arrays, data = sysu_case
        result = evaluate(data, self.setting(arrays, mode, shots), sysu, "mser")
        one_query = 100 / len(arrays["query_ids"])
        assert percent(result) == pytest.approx(arrays[f"mser32_{mode}_{shots}"].tolist(), abs=0.01 + one_query)


@pytest.mark.parametrize("direction", ["i2v", "v2i"])
class TestRegDB:
    def setting(self, arrays, direction):
        visible, infrared = (np.arange(len(arrays[name])) for name in ("vis_ids", "ir_ids"))
        if direction == "v2i":
            return Setting("regdb/v2i", Modality.VISIBLE, [Trial(visible, infrared)])
        return Setting("regdb/i2v", Modality.INFRARED, [Trial(infrared, visible)])

    def test_cosine(self, regdb_case, direction):
        arrays, data = regdb_case
        result = evaluate(data, self.setting(arrays, direction), regdb, "cosine")
        assert percent(result) == pytest.approx(arrays[f"base_{direction}"].tolist(), abs=0.01)

    def test_mser(self, regdb_case, direction):
        arrays, data = regdb_case
        result = evaluate(data, self.setting(arrays, direction), regdb, "mser")
        queries = len(arrays["ir_ids" if direction == "i2v" else "vis_ids"])
        assert percent(result) == pytest.approx(arrays[f"mser32_{direction}"].tolist(), abs=0.01 + 100 / queries)


def percent(result: dict[str, float]) -> list[float]:
    return [100 * result[name] for name in METRICS]


def test_evaluation_changes_nothing_and_does_not_depend_on_its_order(sysu_case):
    arrays, data = sysu_case
    before = {m: Features(*(part.clone() for part in f)) for m, f in data.items()}
    settings = [Setting(mode, Modality.INFRARED, official_trials(arrays, mode, 1)[:2]) for mode in ("all", "indoor")]
    forwards = [evaluate(data, s, sysu, "mser") for s in settings]
    backwards = [evaluate(data, s, sysu, "mser") for s in settings[::-1]]
    assert forwards == backwards[::-1]
    for modality, parts in before.items():
        assert all(torch.equal(now, then) for now, then in zip(data[modality], parts))

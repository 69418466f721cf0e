"""The evaluation of whole protocols against golden numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data.sets import regdb, sysu
from engine.retrieval.distances import cosine_distances
from engine.retrieval.evaluation import evaluate_settings, narrowed
from engine.retrieval.k_reciprocal import k_reciprocal_distance
from engine.retrieval.metrics import ranking_metrics
from engine.retrieval.mser import mser_distance
from engine.retrieval.rankers import RANKERS
from tests.conftest import golden
from utils.types import Features, Modality, MserDefaults, Record, Setting, Split, Trial

MSER = MserDefaults(4, 3, 0.3, True)
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
    return sysu.trials(
        visible, len(arrays["query_ids"]), sysu.MODES[mode], shots, sysu.Permutations(Path("golden"), permutations)
    )


def evaluate(data, setting: Setting, dataset, ranking: str, memory_gb: float = 1.0) -> dict[str, float]:
    ranker = RANKERS[ranking].make(dataset.MSER)
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


def drawn(seed: int) -> dict[Modality, Features]:
    """9 infrared and 14 visible images of four identities; visible ones in four spectra."""
    rng = np.random.default_rng(seed)
    data = {}
    for modality, spectra, count in ((Modality.VISIBLE, 4, 14), (Modality.INFRARED, 1, 9)):
        embeddings = [rng.normal(size=(count, 6)) for _ in range(spectra)]
        pids, cameras = rng.integers(1, 5, count), rng.integers(1, 3, count)
        data[modality] = features(embeddings, pids, cameras)
    return data


def by_hand(data, setting: Setting, ranking: str) -> dict[str, float]:
    """Each trial from the normalised embeddings on, by the public functions, then the mean."""
    visible_first = setting.query_modality == Modality.VISIBLE
    sides = [data[Modality.VISIBLE], data[Modality.INFRARED]][:: 1 if visible_first else -1]
    results = []
    for trial in setting.trials:
        query, gallery = (
            Features(
                torch.nn.functional.normalize(side.embeddings, dim=2)[:, rows], side.pids[rows], side.cameras[rows]
            )
            for side, rows in zip(sides, trial)
        )
        if ranking == "cosine":
            distances = cosine_distances(query.embeddings[0], gallery.embeddings[0])
        elif ranking == "mser":
            distances = mser_distance(query.embeddings, gallery.embeddings, *MSER)
        else:
            distances = k_reciprocal_distance(query.embeddings[0], gallery.embeddings[0])
        excluded = sysu.excluded(query.pids, query.cameras, gallery.pids, gallery.cameras)
        results.append(ranking_metrics(distances, query.pids, gallery.pids, excluded))
    return {name: float(np.mean([result[name] for result in results])) for name in METRICS}


@pytest.mark.parametrize("memory_gb", [1.0, 1e-7])
@pytest.mark.parametrize("ranking", ["cosine", "mser", "k_reciprocal"])
def test_what_trials_share_does_not_change_them(ranking, memory_gb):
    data = drawn(0)
    queries, fewer, gallery = np.arange(9), np.array([1, 4, 6, 8]), np.arange(14)
    settings = [
        Setting("a", Modality.INFRARED, [Trial(queries, gallery[:6]), Trial(queries, gallery[3:])]),
        Setting(
            "b", Modality.INFRARED, [Trial(queries, gallery), Trial(fewer, gallery[::-2].copy()), Trial(fewer, gallery)]
        ),
        Setting("c", Modality.VISIBLE, [Trial(gallery, queries), Trial(gallery, fewer)]),
    ]
    found = evaluate_settings(data, settings, sysu.excluded, RANKERS[ranking].make(MSER), memory_gb)
    assert list(found) == ["a", "b", "c"]
    for setting in settings:
        assert found[setting.protocol] == pytest.approx(by_hand(data, setting, ranking), abs=1e-9)


def test_distances_are_computed_once_for_trials_with_the_same_queries():
    prepared = []

    def ranker(query, gallery, memory_gb):
        prepared.append(query.shape[1])
        return lambda columns: [(slice(0, query.shape[1]), torch.zeros(query.shape[1], len(columns)))]

    trials = [Trial(np.arange(9), np.arange(start, 14)) for start in range(5)] + [Trial(np.arange(3), np.arange(14))]
    settings = [Setting(name, Modality.INFRARED, trials) for name in "ab"]
    evaluate_settings(drawn(1), settings, sysu.excluded, ranker, 1.0)
    assert prepared == [9, 3]


def test_a_split_narrowed_to_some_protocols_gives_their_results_from_fewer_images():
    data = drawn(3)
    counts = {modality: len(features.pids) for modality, features in data.items()}
    rng = np.random.default_rng(0)
    trials = {
        name: [Trial(rng.permutation(counts[Modality.INFRARED])[:7], rng.permutation(counts[Modality.VISIBLE])[:size]) for _ in range(2)]
        for name, size in (("few", 6), ("many", counts[Modality.VISIBLE]))
    }  # fmt: skip
    settings = [Setting(name, Modality.INFRARED, found) for name, found in trials.items()]
    records = [
        [Record(f"{modality.name} {row}", int(pid), 1, modality) for row, pid in enumerate(data[modality].pids)]
        for modality in Modality
    ]
    split, rows = narrowed(Split(*records, settings, ("few",)), ["few"])
    assert [setting.protocol for setting in split.settings] == ["few"]
    asked = np.unique(np.concatenate([trial.gallery for trial in trials["few"]]))
    assert rows[Modality.VISIBLE].tolist() == asked.tolist() and len(asked) < counts[Modality.VISIBLE]
    assert [record.path for record in split.visible] == [f"VISIBLE {row}" for row in asked]
    fewer = {m: Features(f.embeddings[:, rows[m]], f.pids[rows[m]], f.cameras[rows[m]]) for m, f in data.items()}
    for ranking in ("cosine", "mser"):
        expected = evaluate_settings(data, settings[:1], sysu.excluded, RANKERS[ranking].make(MSER), 1.0)
        assert evaluate_settings(fewer, split.settings, sysu.excluded, RANKERS[ranking].make(MSER), 1.0) == expected

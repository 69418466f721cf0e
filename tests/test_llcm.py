"""LLCM: what is read from the folder, the released galleries and metrics, and what a damaged folder says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from configs import load_config
from data.sets import llcm
from engine.evaluator import result_rows
from engine.retrieval.metrics import METRICS, ranking_metrics
from engine.retrieval.rankers import rankers
from tests.conftest import TINY, golden, only_run
from tools import make_synthetic
from utils.errors import UserError
from utils.results import read_rows
from utils.runs import RESULTS
from utils.types import Benchmark, Features, Modality, Setting, Stage, Trial

TRAINED = (3, 17, 20, 405)  # the data set's numbers have gaps


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    return golden("siblings/llcm_eval")


@pytest.fixture(scope="module")
def planted(numbers, tmp_path_factory) -> Path:
    """The released code's test tree as empty files, beside two training images of each identity and modality."""
    root = tmp_path_factory.mktemp("llcm") / "LLCM"
    (root / "idx").mkdir(parents=True)
    (root / "idx" / "test_id.txt").write_text(",".join(map(str, numbers["test_ids_in_file"])) + "\n")
    for name in numbers["files"].tolist():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for kind in llcm.FILES.values():
        names = [f"{kind}/{i:04d}/{i:04d}_c0{c}_s1_f1_{kind}.jpg {k}" for k, i in enumerate(TRAINED) for c in (1, 2)]
        (root / "idx" / f"train_{kind}.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture(scope="module")
def benchmark(planted) -> Benchmark:
    return llcm.load(str(planted))


def setting_of(benchmark: Benchmark, name: str) -> Setting:
    (setting,) = (setting for setting in benchmark.test.settings if setting.protocol == f"llcm/{name}")
    return setting


def test_what_is_read(benchmark, planted):
    assert (benchmark.name, benchmark.trial, benchmark.num_ids, benchmark.mser) == ("llcm", None, 4, None)
    first = benchmark.train[0]
    assert first == (str(planted / "nir/0003/0003_c01_s1_f1_nir.jpg"), 0, 1, Modality.INFRARED)
    assert len(benchmark.train) == 16 and {record.pid for record in benchmark.train} == set(range(4))
    assert tuple(setting.protocol for setting in benchmark.test.settings) == llcm.DATASET.protocols
    (line,) = benchmark.warnings
    assert line == (
        "not the published LLCM: 4 training identities (published: 713), 16 training images (published: 30921), "
        "27 test identities (published: 351)"
    )


def test_the_trials_are_those_of_the_released_code(benchmark, numbers, planted):
    names = numbers["files"]
    listed = {"vis": benchmark.test.visible, "nir": benchmark.test.infrared}
    paths = {kind: [str(Path(r.path).relative_to(planted)) for r in records] for kind, records in listed.items()}
    for kind, own in paths.items():
        assert sorted(own) == sorted(names[numbers[f"query_{kind}"]].tolist())
    for name, kind in (("i2v", "vis"), ("v2i", "nir")):
        trials = setting_of(benchmark, name).trials
        found = [[paths[kind][row] for row in trial.gallery] for trial in trials]
        assert found == [names[rows].tolist() for rows in numbers[f"gallery_{kind}"]]
        assert all(len(trial.query) == len(listed["nir" if kind == "vis" else "vis"]) for trial in trials)
    for trial, rows in zip(setting_of(benchmark, "v2i-released").trials, numbers["gallery_nir"]):
        assert [paths["nir"][row] for row in trial.query] == names[rows].tolist()
        assert trial.gallery.tolist() == list(range(len(benchmark.test.visible)))


def scores(
    benchmark: Benchmark, numbers, setting: Setting, trial: Trial, weights: tuple[float, float], planted
) -> list:
    """The metrics of one trial by the released inner products of `pool` and `neck`, [files, 3, d] each."""
    row_of = {name: row for row, name in enumerate(numbers["files"].tolist())}
    sides = [benchmark.test.visible, benchmark.test.infrared]
    sides = [
        [side[row] for row in rows] for side, rows in zip(sides[:: 1 if setting.query_modality == 0 else -1], trial)
    ]
    rows = [[row_of[str(Path(record.path).relative_to(planted))] for record in side] for side in sides]
    query, gallery = ([numbers[kind][own].astype(np.float64).reshape(len(own), -1) for kind in ("pool", "neck")] for own in rows)  # fmt: skip
    distances = -sum(weight * q @ g.T for weight, q, g in zip(weights, query, gallery))
    (pids, cameras), (others, places) = (
        [torch.tensor([getattr(r, what) for r in side]) for what in ("pid", "camera")] for side in sides
    )
    found = ranking_metrics(distances, pids, others, benchmark.excluded(pids, cameras, others, places))
    return [found[name] for name in METRICS]


@pytest.mark.parametrize(
    ("name", "numbers_of", "weights"),
    [
        ("i2v", "ir2vis_S7", (1, 1)),
        ("i2v", "ir2vis_S8", (0.1, 0.9)),
        ("v2i", "vis2ir_S7", (1, 1)),
        ("v2i", "vis2ir_S8", (0.1, 0.9)),
        ("v2i-released", "released_swapped_vis2ir_S7", (1, 1)),
    ],
)
def test_metrics_of_the_released_code(benchmark, numbers, planted, name, numbers_of, weights):
    setting = setting_of(benchmark, name)
    for trial, expected in zip(setting.trials, numbers[numbers_of]):
        found = scores(benchmark, numbers, setting, trial, weights, planted)
        assert found == pytest.approx(expected[[0, 4, 9, 19, 20, 21]].tolist(), abs=1e-5)


def test_deens_rows_have_the_released_metrics_under_inner_products(benchmark, numbers, planted):
    """S7 of vectors at their own lengths, as a test's rows have it; cosine of the same vectors is another number."""
    row_of, features = {name: row for row, name in enumerate(numbers["files"].tolist())}, {}
    vectors = np.concatenate([numbers[kind].reshape(len(row_of), -1) for kind in ("pool", "neck")], axis=1)
    for modality, records in benchmark.test.records.items():
        rows = [row_of[str(Path(record.path).relative_to(planted))] for record in records]
        labels = (torch.tensor([getattr(record, what) for record in records]) for what in ("pid", "camera"))
        features[modality] = Features(torch.from_numpy(vectors[rows].astype(np.float32))[None], *labels)
    made = rankers(load_config("configs/LLCM_DEEN.yml").rankers, None)
    rows = result_rows(features, benchmark.test.settings, llcm.excluded, made, 1.0, None, Stage("test", 1))
    for name, key in (("i2v", "ir2vis_S7"), ("v2i", "vis2ir_S7"), ("v2i-released", "released_swapped_vis2ir_S7")):
        expected = 100 * numbers[key].mean(0)[[0, 4, 9, 19, 20, 21]]
        found = {row.ranking: row for row in rows if row.protocol == f"llcm/{name}"}
        assert [getattr(found["inner"], metric) for metric in METRICS] == pytest.approx(expected.tolist(), abs=1e-2)
        assert abs(found["cosine"].mAP - found["inner"].mAP) > 0.1


def test_the_exclusion_of_the_released_code(numbers):
    for case in numbers["m_cases"].tolist():
        own = {
            name.removeprefix(f"m_{case}__"): array for name, array in numbers.items() if name.startswith(f"m_{case}__")
        }
        labels = [torch.from_numpy(own[name]) for name in ("query_ids", "query_cams", "gallery_ids", "gallery_cams")]
        found = ranking_metrics(own["dist"], labels[0], labels[2], llcm.excluded(*labels))
        assert [found[n] for n in ("r1", "mAP", "mINP")] == pytest.approx(
            [float(own[n].ravel()[0]) for n in ("llcm_cmc", "llcm_mAP", "llcm_mINP")], abs=1e-6
        )


def test_validation_identities_are_held_out(planted):
    held = llcm.load(str(planted), hold_out=True, seed=1)
    assert held.num_ids == 3 and len(held.train) == 12 and len(held.validation.visible) == 2
    assert [setting.protocol for setting in held.validation.settings] == [f"llcm-val/{n}" for n in ("i2v", "v2i", "v2i-released")]  # fmt: skip
    assert {record.pid for record in held.validation.visible} < set(TRAINED)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("test_id.txt", "3,x", "test_id.txt: 'x' is no identity"),
        ("test_id.txt", "", "test_id.txt: lists no identities"),
        ("test_id.txt", "17", "identity 17 is in train and again in test_id"),
        ("test_id.txt", "9999", "no visible images to evaluate (llcm)"),
        ("train_vis.txt", "vis/0003/a.jpg", "train_vis.txt, line 1: 'vis/0003/a.jpg' is not"),
        ("train_vis.txt", "../0003/a.jpg 0", "train_vis.txt, line 1: '../0003/a.jpg' leaves data_root"),
        ("train_nir.txt", None, "train_nir.txt is missing"),
    ],
)
def test_what_a_damaged_folder_says(planted, tmp_path, name, text, said):
    root = tmp_path / "LLCM"
    (root / "idx").mkdir(parents=True)
    for source in (planted / "idx").iterdir():
        (root / "idx" / source.name).write_text(source.read_text())
    for kind in llcm.FILES.values():
        (root / f"test_{kind}").symlink_to(planted / f"test_{kind}")
    (root / "idx" / name).unlink() if text is None else (root / "idx" / name).write_text(text)
    with pytest.raises(UserError) as error:
        llcm.load(str(root))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [((0, 1, 2, 3), (0, 1, 2, 3)), ((2, 0, 3, 1), (2, 0, 3, 1)), ((0, 5, 9, 7), (0, 1, 3, 2)), ((1, 1, 0, 0), (2, 3, 0, 1))],
    ids=["ascending", "in another order", "with gaps", "of two identities"],
)  # fmt: skip
def test_training_labels_are_the_listed_ones_in_files_as_windows_writes_them(planted, tmp_path, given, expected):
    """The last labels contradict the folders, which count."""
    for kind in llcm.FILES.values():
        (tmp_path / f"test_{kind}").symlink_to(planted / f"test_{kind}")
        lines = (planted / "idx" / f"train_{kind}.txt").read_text().split("\n")
        pairs = ((line.split()[0], given[int(line.split()[1])]) for line in lines if line)
        (tmp_path / "idx").mkdir(exist_ok=True)
        text = "\ufeff" + "\r\n".join(f"{name} {label} " for name, label in pairs) + "\r\n\r\n"
        (tmp_path / "idx" / f"train_{kind}.txt").write_bytes(text.encode())
    identities = (planted / "idx" / "test_id.txt").read_text().strip()
    (tmp_path / "idx" / "test_id.txt").write_bytes(f"\ufeff{identities},\r\n".encode())
    found = llcm.load(str(tmp_path))
    assert {(int(Path(r.path).parent.name), r.pid) for r in found.train} == set(zip(TRAINED, expected))
    assert len(found.train) == 16 and len(found.warnings) == 1 + (len(set(given)) < 4)


def test_labels_that_contradict_the_folders_are_reported(planted, tmp_path):
    entries = llcm.read_list(planted, Modality.VISIBLE)
    assert llcm.contradictions(entries) == []
    (line,) = llcm.contradictions([entries[0], entries[1]._replace(label=9)])
    assert "1 labels contradict the folder numbers" in line


def test_a_run(run_main, tmp_path):
    root = tmp_path / "data"
    layout = ["--layout", "llcm", "--train-ids", "4", "--test-ids", "3", "--images", "2", "--cameras", "1", "2"]
    assert make_synthetic.main([str(root), *layout, "--size", "64", "32", "--workers", "1"]) == 0
    keys = ["dataset", "llcm", "data_root", root, "num_epoch", "1", "lr_step", "[1]", "mser", "false"]
    assert run_main(*TINY, *keys, "output_dir", tmp_path / "runs") == 0
    rows = [row for row in read_rows(only_run(tmp_path / "runs") / RESULTS) if row.stage == "test"]
    assert tuple(row.protocol for row in rows) == llcm.DATASET.protocols and rows[0].split is None

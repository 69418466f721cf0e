"""The benchmarks run, and what they call the plain way computes the same."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import input as input_benchmark
from benchmarks import plain, plain_input, plain_model, retrieval, step
from benchmarks.features import regdb_like, sysu_like
from engine.retrieval.protocols import evaluate_settings, rankers
from losses.cmr import cross_modality_retrieval_loss
from models.modules.mda import ModalityDistributionAdapter
from tests import slow
from utils.errors import UserError
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
    assert [row[1:4] for row in rows if "settings at once" in row[2]]
    forms = [row for row in rows if len(row) == 8]  # a head and two rankings
    assert len(forms) == 3 and {len(row) for row in rows if row not in forms} == {10}
    assert {"sysu/all/10-shot", "regdb/v2i"} <= {row[2].strip() for row in rows}


def test_input_benchmark(capsys):
    arguments = ["--pictures", "5", "--size", "48", "32", "--batch", "3", "--rounds", "1", "--device", "cpu"]
    threads = torch.get_num_threads()
    input_benchmark.main(arguments)
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    rows = [line.split("|")[1:4] for line in printed.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip().split(" only")[0] for row in rows] == [
        "one by one", "one by one: decode and resize", "one by one: augment",
        "in batches, from the cache", "in batches: read the cache", "in batches: augment",
    ]  # fmt: skip
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows) and "torch" in printed


@pytest.mark.parametrize(
    "arguments", [["--pictures", "0"], ["--size", "8", "8"], ["--rounds", "-1"], ["--device", "tpu"], ["--batch", "x"]]
)
def test_input_benchmark_refuses(arguments):
    with pytest.raises(UserError, match=arguments[0]):
        input_benchmark.main(arguments)


def test_plain_augmentation_is_of_the_same_kind():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8))
    for part in (plain_input.weighted_grayscale, plain_input.cross_channel_cutmix, plain_input.spectrum_jitter):
        assert part(image).size == image.size and part(image).mode == "RGB"
    out = plain_input.augmentation((40, 20))(image)
    assert out.shape == (3, 40, 20) and out.dtype == torch.float32


def test_step_benchmark(capsys):
    step.main(["--backbone", "resnet34", "--batch", "8", "--size", "64", "32", "--runs", "1"])
    rows = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line]
    losses = [float(row[4]) for row in rows[2:8]]
    assert losses[:5] == pytest.approx(losses[:1] * 5, rel=1e-4) and losses[5] == pytest.approx(losses[0], rel=1e-2)
    assert rows[2][1].startswith("plain") and rows[2][3] == "1.00"


def test_plain_adapters_and_losses_compute_the_same():
    torch.manual_seed(0)
    adapter = ModalityDistributionAdapter(8, 3)
    torch.nn.init.ones_(adapter.norm_bn.weight)
    same, x = copy.deepcopy(adapter), torch.randn(4, 8, 5, 3)
    same.__class__ = plain_model.PlainAdapter
    torch.testing.assert_close(same(x), adapter(x))
    embeddings = torch.randn(24, 16, dtype=torch.float64, requires_grad=True)
    pids, modalities = torch.arange(24) // 6, torch.arange(24) % 2
    pids[-1] = 9  # a query without a match
    losses = (
        plain_model.cmr_loss(embeddings, pids, modalities),
        cross_modality_retrieval_loss(embeddings, pids, modalities),
    )
    gradients = [torch.autograd.grad(loss, embeddings)[0] for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)

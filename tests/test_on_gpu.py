"""On a real GPU: a step that waits for nothing in any precision, its results beside the CPU's; memory that stays."""

from __future__ import annotations

import pytest
import torch

from configs import load_config
from data.augmentation.mcja import COLOUR_PARTS, Recipe, augment
from data.build import build_benchmark
from data.images.loader import Prefetcher
from engine.build import build_evaluator
from engine.evaluator import extract_features
from models import build_model
from models.fusion import folded
from tests.test_prefetch import loader as small_loader
from tests.test_simulated_gpu import KEYS, trained
from utils.types import Modality

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Convolutions in float32 on GPUs that would take TensorFloat-32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", 0)


class Watch:
    """Called before and after each step: from the second one on torch raises where the host waits in between."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        inside = self.calls > 2 and self.calls % 2
        torch.cuda.set_sync_debug_mode("error" if inside else "default")


@pytest.mark.parametrize(("precision", "close"), [("none", 0.02), ("bf16", 0.1), ("fp16", 0.1)])
def test_a_step_on_a_gpu_waits_for_nothing_and_is_the_cpu_s(sysu_root, tmp_path, device, precision, close):
    watch = Watch()
    keys = ["fp16", "true", "amp_dtype", precision]
    _, reports = trained(sysu_root, tmp_path / "gpu", device, watch, keys)
    _, expected = trained(sysu_root, tmp_path / "cpu", CPU, lambda: None)
    assert watch.calls == 6 and reports[0]["loss"] == pytest.approx(expected[0]["loss"], rel=close)
    assert all(torch.tensor(list(report.values())).isfinite().all() for report in reports)


def test_embedding_on_a_gpu_waits_for_nothing_between_its_batches(sysu_root, device):
    cfg = load_config("configs/Demo.yml", [*KEYS, "data_root", str(sysu_root), "test_batch_size", "8"])
    benchmark = build_benchmark(cfg, 0)
    torch.manual_seed(0)
    model = build_model(cfg, benchmark.num_ids)
    test = build_evaluator(cfg, benchmark, benchmark.test, device)
    batches = list(test.loaders[Modality.VISIBLE].loader)
    expected = extract_features(folded(model), batches, CPU, True)
    on_gpu = folded(model.to(device))
    extract_features(on_gpu, test.loaders[Modality.INFRARED], device, True)  # copies the constants

    def watched():
        for number, batch in enumerate(test.loaders[Modality.VISIBLE]):
            torch.cuda.set_sync_debug_mode("error" if 0 < number < len(batches) - 1 else "default")
            yield batch

    found = extract_features(on_gpu, Batches(watched(), len(batches)), device, True)
    assert found.embeddings.device == device and torch.equal(found.pids.cpu(), expected.pids)
    torch.testing.assert_close(found.embeddings.cpu(), expected.embeddings, rtol=1e-2, atol=1e-3)


class Batches:
    """A generator that has a length."""

    def __init__(self, made, length: int):
        self.made, self.length = made, length

    def __iter__(self):
        return self.made

    def __len__(self) -> int:
        return self.length


def test_augmentation_on_a_gpu_is_the_cpu_s(device):
    images = torch.randint(256, (32, 3, 48, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    modalities, recipe = torch.arange(32) % 2, Recipe(frozenset(COLOUR_PARTS), True, True, 10, True)
    expected = augment(images, modalities, recipe, torch.Generator().manual_seed(1))
    found = augment(images.to(device), modalities, recipe, torch.Generator().manual_seed(1)).cpu()
    level = 1 / 255 / 0.224  # rounding may turn a pixel by one level
    assert (found - expected).abs().max() < 1.1 * level
    assert ((found - expected).abs() > 1e-5).float().mean() < 0.01


def test_memory_on_a_gpu_stays_however_often_a_loader_is_gone_through(device):
    reserved = []
    for _ in range(6):
        for batch in Prefetcher(small_loader(pin=True), device):
            batch.images.float()
        torch.cuda.synchronize()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[1]

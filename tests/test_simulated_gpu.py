"""What runs on a GPU, on a pretended one: no host wait within a step or an embedding batch, devices that never mix, and
the results of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import nn

from configs import load_config
from data.augmentation import AUGMENTATIONS
from data.build import build_benchmark, build_train_loader
from data.images.loader import Prefetcher
from data.sets import regdb, sysu
from engine.build import build_evaluator, build_training
from engine.evaluator import extract_features
from engine.retrieval import sparse
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.rankers import RANKERS
from models import build_model
from models.fusion import folded
from models.modules import norm
from tests.conftest import TINY
from tests.simulated_gpu import GPU, GpuTensor, simulated_gpu
from tests.test_retrieval_memory import features
from utils.types import Batch, Features, Modality, Setting, Trial

CPU = torch.device("cpu")
KEYS = [*TINY[4:], "num_workers", "0", "fp16", "false", "log_period", "1000", "pretrained", "none"]
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory", "ignore:.*CUDA is not available")


@pytest.fixture
def gpu():
    with simulated_gpu() as device:
        yield device


# ---------------------------------------------------------------------------------------------------- the device itself


def test_devices_do_not_mix(gpu):
    there, here = torch.ones(3).to(GPU, non_blocking=True), torch.ones(3)
    assert there.device == GPU and (there + there).device == GPU and (there + here.sum()).device == GPU
    with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        there + here
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(there)
    with pytest.raises(RuntimeError, match="nobody waits for"):
        there.to(CPU, non_blocking=True)
    assert gpu.waits == []


@pytest.mark.parametrize(
    ("ask", "waits"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 0).all()), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x[torch.tensor([0])], 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.to("cpu"), 1),
        (lambda x: torch.tensor([1.0], device=GPU), 1),
        (lambda x: x.repeat_interleave(x.long()), 1),
        (lambda x: x.repeat_interleave(x.long(), output_size=3), 0),
        (lambda x: torch.zeros(3, device=GPU) + x.relu_().argmax(), 0),
        (lambda x: nn.Linear(3, 2).to(GPU), 2),
    ],
)
def test_waits_are_counted(gpu, ask, waits):
    ask(torch.ones(3).to(GPU, non_blocking=True))
    assert len(gpu.waits) == waits


# ------------------------------------------------------------------------------------------------------------- training


def trained(root, folder, device, waits, keys=()):
    """The weights, and what each of three steps reported, after three steps of a run as main.py builds it.

    waits: told how many there were in each step, with the handlers that are called after it.
    """
    cfg = load_config("configs/Demo.yml", [*KEYS, "data_root", str(root), "output_dir", str(folder), *keys])
    torch.manual_seed(0)
    benchmark = build_benchmark(cfg, 0)
    model = build_model(cfg, benchmark.num_ids).to(device)
    test = build_evaluator(cfg, benchmark, benchmark.test, device)
    loader = build_train_loader(cfg, benchmark, 0, device)
    training = build_training(cfg, benchmark, model, loader, test, folder, 0, device, None)
    trainer, reports = training.trainer, []
    trainer.add_event_handler(Events.ITERATION_STARTED, waits)

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        waits()
        reports.append({name: float(value) for name, value in engine.state.output.items()})
        if len(reports) == 3:
            engine.terminate()

    trainer.load_state_dict({"epoch": 0, "max_epochs": 3, "epoch_length": len(loader.batch_sampler)})
    trainer.run(loader)
    return {name: value.cpu() for name, value in model.state_dict().items()}, reports


def test_a_training_step_waits_for_nothing_and_is_the_cpu_s(sysu_root, tmp_path, gpu, monkeypatch):
    # The pretended GPU adds up batch statistics as torch does on a CPU; ours are closer there (models/modules/norm.py).
    monkeypatch.setattr(norm, "summed_in_a_row", lambda x: False)
    counts = []
    found, reports = trained(sysu_root, tmp_path / "gpu", GPU, lambda: counts.append(list(gpu.waits)))
    waits = [after[len(before) :] for before, after in zip(counts[::2], counts[1::2], strict=True)]
    # Constants are copied when the first step needs them, and never again.
    assert [wait.split(":")[0] for wait in waits[0]] == ["copy to the GPU, utils/device.py"] * 3
    assert waits[1:] == [[], []] and counts[0]  # the model's way there
    expected, as_expected = trained(sysu_root, tmp_path / "cpu", CPU, lambda: None)
    assert reports == [pytest.approx(report, rel=1e-4, abs=1e-6) for report in as_expected]
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


# ------------------------------------------------------------------------------------------------------------ embedding


class Watched:
    """A loader that notes how many waits there were whenever it is asked for a batch."""

    def __init__(self, loader, gpu):
        self.loader, self.gpu, self.waits = loader, gpu, []

    def __iter__(self):
        for batch in self.loader:
            self.waits.append(list(self.gpu.waits))
            yield batch
        self.waits.append(list(self.gpu.waits))

    def __len__(self):
        return len(self.loader)


def a_batch() -> Batch:
    """Four images, two of each modality, on the pretended GPU; what is known of them is on the CPU."""
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pids, modalities = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    return Batch(images.to(GPU, non_blocking=True), pids, modalities + 1, modalities, torch.arange(4))


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "mcja"])
def test_looks_wait_for_nothing_once_their_constants_are_there(gpu, name):
    augment = AUGMENTATIONS[name](load_config(None, ["augmentation", name]))
    for _ in range(2):
        before = len(gpu.waits)
        augment(a_batch(), generator=torch.Generator().manual_seed(0))
    assert gpu.waits[before:] == []


def test_labels_of_several_answers_for_an_image_are_found_without_waiting(gpu):
    keys = ["model", "deen", "backbone", "resnet18", "pretrained", "none", "image_size", "(32, 32)"]
    model, batch = build_model(load_config(None, keys), 2).eval().to(GPU), a_batch()
    output = model(batch.images.float(), batch.modalities)
    before = len(gpu.waits)
    assert batch.labels.take(output.rows).pids.tolist() == 3 * [0, 1, 0, 1]
    assert gpu.waits[before:] == []


def test_embedding_in_spectra_waits_for_nothing_between_its_batches(sysu_root, gpu):
    cfg = load_config("configs/Demo.yml", [*KEYS, "data_root", str(sysu_root), "test_batch_size", "8"])
    benchmark = build_benchmark(cfg, 0)
    torch.manual_seed(0)
    model = build_model(cfg, benchmark.num_ids)
    test = build_evaluator(cfg, benchmark, benchmark.test, GPU)
    expected = extract_features(folded(model), test.loaders[Modality.VISIBLE].loader, CPU, True)
    on_gpu = folded(model.to(GPU))
    list(Prefetcher(test.loaders[Modality.VISIBLE].loader, GPU))  # makes the stream
    extract_features(on_gpu, test.loaders[Modality.INFRARED], GPU, False)  # copies the constants
    loader = Watched(test.loaders[Modality.VISIBLE], gpu)
    found = extract_features(on_gpu, loader, GPU, True)
    assert len(loader.waits) > 3 and all(waits == loader.waits[0] for waits in loader.waits)
    assert all(isinstance(part, GpuTensor) for part in found)
    assert torch.equal(found.pids.cpu(), expected.pids) and torch.equal(found.cameras.cpu(), expected.cameras)
    torch.testing.assert_close(found.embeddings.cpu(), expected.embeddings, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------------------------- ranking

TRIALS = {
    Modality.INFRARED: [Trial(np.arange(60), np.arange(start, 150, 2)) for start in (0, 1)],
    Modality.VISIBLE: [Trial(np.arange(150), np.arange(start, 60)) for start in (0, 20)],
}
SETTINGS = [Setting(f"from {modality.name}", modality, trials) for modality, trials in TRIALS.items()]


@pytest.mark.parametrize("dataset", [sysu, regdb], ids=["sysu", "regdb"])
@pytest.mark.parametrize("ranking", ["cosine", "mser", "k_reciprocal"])
@pytest.mark.parametrize("memory_gb", [1.0, 8e-4])
def test_rankings_are_the_cpu_s(gpu, dataset, ranking, memory_gb):
    here = features(150, 60, width=16)
    there = {modality: Features(*(part.to(GPU) for part in side)) for modality, side in here.items()}
    ranker = RANKERS[ranking].make(dataset.MSER)
    expected = evaluate_settings(here, SETTINGS, dataset.excluded, ranker, 1.0)
    found = evaluate_settings(there, SETTINGS, dataset.excluded, ranker, memory_gb)
    for name, metrics in expected.items():
        assert found[name] == pytest.approx(metrics, abs=1e-6)


def test_sums_of_smaller_weights_wait_as_often_however_many_pieces_they_are_made_in(gpu):
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(40, 30, generator=generator) * (torch.rand(40, 30, generator=generator) < 0.3)
    dense[3] = 0
    rows, columns = dense.nonzero().unbind(dim=1)
    parts = (rows.bincount(minlength=40), columns, dense[rows, columns])
    matrix, chosen = sparse.Rows.of(*(part.to(GPU) for part in parts), 30), torch.arange(5, 25).to(GPU)
    turned = sparse.Turned.of(matrix)
    found, waits = [], []
    for memory_gb in (1.0, 1e-6):
        before = len(gpu.waits)
        found.append(sparse._shared_weight(matrix, chosen, turned, memory_gb))
        waits.append(len(gpu.waits) - before)
    assert waits == [3, 3] and torch.equal(found[0].inner, found[1].inner)
    expected = torch.minimum(dense[5:25, None], dense[None]).sum(dim=2)
    torch.testing.assert_close(found[0].inner, expected)


def test_a_trial_s_gallery_is_prepared_once(monkeypatch, gpu):
    made, of = [], sparse.Turned.of
    monkeypatch.setattr(sparse.Turned, "of", staticmethod(lambda matrix: made.append(matrix) or of(matrix)))
    there = {m: Features(*(part.to(GPU) for part in side)) for m, side in features(150, 60, width=16).items()}
    evaluate_settings(there, SETTINGS[:1], sysu.excluded, RANKERS["mser"].make(sysu.MSER), 8e-4)
    assert len(made) == len(SETTINGS[0].trials)

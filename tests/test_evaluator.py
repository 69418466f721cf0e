import re

import numpy as np
import pytest
import torch
from torch import nn

from configs import load_config
from data.build import build_benchmark
from data.sets import sysu
from engine.build import build_evaluator
from engine.evaluator import Evaluator, enough_memory, extract_features, mean_rank1
from engine.retrieval.cosine import cosine_ranking
from utils.errors import UserError
from utils.images import normalise
from utils.types import Batch, Modality, Record, ResultRow, Setting, Split, Stage, Trial

CPU = torch.device("cpu")


class MeanColour(nn.Module):
    """Embeds an image by its mean colour; `seen` is told how many it is given (by copies of this model too)."""

    def __init__(self, seen=lambda number: None):
        super().__init__()
        self.seen = seen

    def embed(self, images, modalities):
        assert not self.training and images.dtype == torch.float32 and len(modalities) == len(images)
        self.seen(len(images))
        return images.mean(dim=(2, 3))


def batches(pids: list[int], camera: int, modality: Modality) -> list[Batch]:
    """One flat image per identity, two to a batch; its colour is (10, 20, 30) times the identity."""
    made = []
    for start in range(0, len(pids), 2):
        part = torch.tensor(pids[start : start + 2])
        images = (part[:, None] * torch.tensor([10, 20, 30])).to(torch.uint8)[:, :, None, None].expand(-1, 3, 4, 2)
        rows = torch.arange(start, start + len(part))
        made.append(Batch(images, part, torch.full_like(part, camera), torch.full_like(part, modality), rows))
    return made


@pytest.fixture
def evaluator():
    visible, infrared = [1, 2, 3], [3, 1, 2, 2]
    split = Split(
        visible=[Record("", pid, 1, Modality.VISIBLE) for pid in visible],
        infrared=[Record("", pid, 6, Modality.INFRARED) for pid in infrared],
        settings=[
            Setting(name, Modality.INFRARED, [Trial(torch.arange(4).numpy(), torch.arange(3).numpy())]) for name in "ab"
        ],
        quick=("a",),
    )
    loaders = {
        Modality.VISIBLE: batches(visible, 1, Modality.VISIBLE),
        Modality.INFRARED: batches(infrared, 6, Modality.INFRARED),
    }
    return Evaluator(split, loaders, {"cosine": cosine_ranking, "mser": all_tied}, sysu.excluded, None, CPU, 1.0)


def all_tied(query, gallery, memory_gb):
    assert len(gallery) == 4  # spectra
    return lambda columns: [(slice(0, 4), torch.zeros(4, len(columns)))]


def test_visible_images_have_four_spectra_and_infrared_ones_are_embedded_once(evaluator):
    seen = []
    features = evaluator.extract(MeanColour(seen.append), with_spectra=True)
    assert features[Modality.VISIBLE].embeddings.shape == (4, 3, 3)
    assert features[Modality.INFRARED].embeddings.shape == (1, 4, 3)
    assert sum(seen) == 4 * 3 + 4
    green = normalise(torch.tensor([20, 20, 20], dtype=torch.uint8).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(features[Modality.VISIBLE].embeddings[2, 0], green)  # identity 1, third spectrum


def test_features_keep_the_order_and_labels_of_the_loader():
    features = extract_features(MeanColour().eval(), batches([5, 3, 4], 2, Modality.VISIBLE), CPU, with_spectra=False)
    assert features.pids.tolist() == [5, 3, 4] and features.cameras.tolist() == [2, 2, 2]
    expected = normalise(torch.tensor([40, 80, 120], dtype=torch.uint8).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(features.embeddings[0, 2], expected)


def test_rows(evaluator):
    rows = evaluator(MeanColour(), Stage("test", 7, "val"), ["cosine", "mser"])
    assert [(r.protocol, r.ranking) for r in rows] == [("a", "cosine"), ("a", "mser"), ("b", "cosine"), ("b", "mser")]
    assert {(r.stage, r.epoch, r.split, r.selected_on) for r in rows} == {("test", 7, None, "val")}
    assert rows[0].r1 == 100  # equal colours point the same way
    assert rows[1].r1 == 25  # all distances tie: the first gallery image wins, right for one query of four


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode(evaluator, training):
    model = MeanColour().train(training)
    evaluator(model, Stage("test", 1), ["cosine"])
    assert model.training == training


def test_chance(evaluator):
    assert evaluator.chance() == {"a": pytest.approx(100 / 3), "b": pytest.approx(100 / 3)}


def test_score_is_the_mean_rank1():
    rows = [
        ResultRow("train", 1, name, 1, None, "cosine", r1, 0, 0, 0, 0, 0) for name, r1 in (("i2v", 40.0), ("v2i", 60.0))
    ]
    assert mean_rank1(rows) == 50


def test_embedding_in_half_precision_gives_float32_features():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def embed(self, images, modalities):
            out = self.layer(images.mean(dim=(2, 3)))
            assert out.dtype == torch.bfloat16
            return out

    features = extract_features(Linear(), batches([5, 3, 4], 2, Modality.VISIBLE), CPU, False, torch.bfloat16)
    assert features.embeddings.dtype == torch.float32


@pytest.mark.parametrize(("given", "expected"), [([], None), (["eval_amp", "true"], torch.bfloat16)])
def test_the_precision_of_embedding_is_a_key(sysu_root, given, expected):
    cfg = load_config(
        None, ["amp_dtype", "bf16", "data_root", str(sysu_root), "num_workers", "0", "cache", "none", *given]
    )
    benchmark = build_benchmark(cfg, 0)
    assert build_evaluator(cfg, benchmark, benchmark.test, CPU).dtype == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_refused_by_name(evaluator, value):
    class Broken(MeanColour):
        def embed(self, images, modalities):
            embeddings = super().embed(images, modalities)
            embeddings[images.mean(dim=(1, 2, 3)) > 0] *= value  # identity 3
            return embeddings

    evaluator.split = evaluator.split._replace(
        visible=[record._replace(path=f"{record.pid}.png") for record in evaluator.split.visible]
    )
    evaluator.loaders[Modality.VISIBLE] = [b._replace(images=b.images * (b.pids > 1)[:, None, None, None] * 4) for b in evaluator.loaders[Modality.VISIBLE]]  # fmt: skip
    with pytest.raises(UserError, match="[12] of 3 visible test images have embeddings that are not finite, [23].png"):
        evaluator(Broken(), Stage("test", 1), ["cosine"])


def numpy_s():
    np.empty((2**40, 2**10))


def torch_s():
    torch.empty(2**50)


def a_gpu_s():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize("work", [numpy_s, torch_s, a_gpu_s])
def test_memory_that_is_lacking_is_one_line_with_the_way_out(work):
    said = "ranking (mser): not enough memory, though it was told to hold 0.5 GB beside the embeddings; give less: "
    with pytest.raises(UserError, match=re.escape(said) + ".*eval_memory_gb.*--memory-gb"), enough_memory("mser", 0.5):
        work()


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="must match the size"), enough_memory("mser", 0.5):
        torch.zeros(2) + torch.zeros(3)

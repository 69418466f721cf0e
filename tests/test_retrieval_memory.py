"""How much ranking holds follows the limit, and what it computes does not depend on it; nor on the device."""

import numpy as np
import pytest
import torch

from data.sets import regdb, sysu
from engine.retrieval import cosine, neighbours, reranking
from engine.retrieval.distances import blocks, take, take_columns, tile_side
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.rankers import RANKERS
from utils.types import Features, Modality, Setting, Trial

GB = 2**30


def features(visible: int, infrared: int, width: int = 8) -> dict[Modality, Features]:
    rng = torch.Generator().manual_seed(0)
    made = {}
    for modality, spectra, count in ((Modality.VISIBLE, 4, visible), (Modality.INFRARED, 1, infrared)):
        embeddings = torch.randn(spectra, count, width, generator=rng)
        pids, cameras = (torch.randint(1, high, (count,), generator=rng) for high in (30, 3))
        made[modality] = Features(embeddings, pids, cameras)
    return made


@pytest.fixture
def largest(monkeypatch) -> list[int]:
    """Bytes of every matrix of distances that is computed."""
    sizes = []

    def watched(function):
        def call(left, right):
            found = function(left, right)
            sizes.append(found.numel() * found.element_size())
            return found

        return call

    for module, name in (
        (neighbours, "squared_distances"),
        (reranking, "squared_distances"),
        (cosine, "cosine_distances"),
    ):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return sizes


@pytest.mark.parametrize("dataset", [sysu, regdb])
@pytest.mark.parametrize("ranking", ["cosine", "mser", "k_reciprocal"])
@pytest.mark.parametrize("megabytes", [1, 4])
def test_no_matrix_of_distances_is_larger_than_its_share(largest, dataset, ranking, megabytes):
    setting = Setting("one", Modality.INFRARED, [Trial(np.arange(300), np.arange(900))])
    ranker, limit = RANKERS[ranking].make(dataset.MSER), megabytes * 2**20
    evaluate_settings(features(900, 300), [setting], sysu.excluded, ranker, limit / GB)
    assert 0 < max(largest) <= limit / 2 and (max(largest) <= limit / 8 or len(largest) == 1)


@pytest.mark.parametrize("share", [1 / 64, 1 / 8])
def test_blocks_cover_all_rows_once(share):
    parts = list(blocks(10, 1000, 64 * 4000 * 3 / GB, share))
    assert [row for part in parts for row in range(10)[part]] == list(range(10))
    assert len(parts) == (4 if share == 1 / 64 else 1)  # three rows of 4000 bytes, or more than all
    assert [part.stop - part.start for part in blocks(3, 1000, 1e-12)] == [1, 1, 1]


def test_a_tile_is_as_high_as_wide():
    side = tile_side(1.0)
    assert side == 2048 and next(iter(blocks(10**6, side, 1.0))) == slice(0, side)


def test_taking_everything_copies_nothing():
    matrix = torch.arange(12.0).view(3, 4)
    assert take(matrix, torch.arange(3), 0) is matrix and take_columns(matrix, torch.arange(4)) is matrix
    assert take_columns(matrix, torch.tensor([3, 1])).tolist() == [[3, 1], [7, 5], [11, 9]]
    assert take(matrix, torch.tensor([2, 0]), 0).tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dataset", [sysu, regdb])
@pytest.mark.parametrize("ranking", ["cosine", "mser", "k_reciprocal"])
def test_a_gpu_gives_the_same(dataset, ranking):
    data = features(900, 300, width=64)
    on_gpu = {modality: Features(*(part.cuda() for part in side)) for modality, side in data.items()}
    trials = [Trial(np.arange(300), np.arange(start, 900, 2)) for start in (0, 1, 300)]
    setting, ranker = Setting("one", Modality.INFRARED, trials), RANKERS[ranking].make(dataset.MSER)
    here, there = (evaluate_settings(d, [setting], sysu.excluded, ranker, 0.05)["one"] for d in (data, on_gpu))
    assert there == pytest.approx(here, abs=1e-4 + 1 / 300)  # one query may cross a near tie

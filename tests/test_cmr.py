import numpy as np
import pytest
import torch

from losses.cmr import cross_modality_retrieval_loss
from tests import reference as slow
from tests.conftest import golden

GOLDEN = golden("cmr_loss")


def loss_and_gradient(embeddings, pids, modalities, **kwargs):
    embeddings = torch.as_tensor(embeddings).clone().requires_grad_()
    loss = cross_modality_retrieval_loss(embeddings, torch.as_tensor(pids), torch.as_tensor(modalities), **kwargs)
    loss.backward()
    return loss.item(), embeddings.grad.numpy()


@pytest.mark.parametrize("case", GOLDEN["cases"].tolist())
def test_golden(case):
    arrays = [GOLDEN[f"{case}__{name}"] for name in ("emb", "ids", "mods")]
    loss, gradient = loss_and_gradient(*arrays)
    assert loss == pytest.approx(float(GOLDEN[f"{case}__loss"]), rel=1e-5)
    expected = GOLDEN[f"{case}__grad"]
    assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(np.abs(expected).max()) + 1e-12)


def test_by_hand():
    # One visible query; gallery: a match at cosine 1 (d = 0) and a mismatch at cosine -1 (d = 1). theta = (2, 0) and
    # w = (2, 1): theta - w = (0, -1) falls already, so the ranks are hard, 1 and 2, which is the ideal ranking.
    # From the infrared side only the match is a query with a match, and its whole gallery is matches: dropped.
    embeddings = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    loss, _ = loss_and_gradient(embeddings, [0, 0, 1], [0, 1, 1])
    assert loss == pytest.approx(0.0, abs=1e-6)
    wrong_way_round, _ = loss_and_gradient(embeddings, [1, 0, 1], [0, 1, 1])
    assert wrong_way_round == pytest.approx(1.0, abs=1e-6)  # each of two pairs is one rank off


@pytest.mark.parametrize("strength", [0.5, 0.1, 0.02])
def test_agrees_with_the_definition(strength):
    rng = np.random.default_rng(5)
    embeddings, pids, modalities = rng.normal(size=(30, 8)), rng.integers(0, 6, 30), rng.integers(0, 2, 30)
    loss, _ = loss_and_gradient(embeddings, pids, modalities, strength=strength)
    assert loss == pytest.approx(slow.cmr_loss(embeddings, pids, modalities, strength), rel=1e-9)


@pytest.mark.parametrize(
    ("pids", "modalities"),
    [([0, 0, 1, 1], [0, 0, 0, 0]), ([0, 0, 0, 0], [0, 0, 1, 1]), ([0, 1, 2, 3], [0, 0, 1, 1])],
    ids=["one modality", "one identity", "no match"],
)
def test_no_valid_pair_is_a_zero_with_a_graph(pids, modalities):
    loss, gradient = loss_and_gradient(torch.eye(4), pids, modalities)
    assert loss == 0 and not gradient.any()


def test_half_precision_is_computed_in_float32():
    drawn = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    pids, modalities = torch.arange(8) // 4, torch.arange(8) % 2
    loss = cross_modality_retrieval_loss(drawn, pids, modalities)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, cross_modality_retrieval_loss(drawn.float(), pids, modalities))

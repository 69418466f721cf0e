"""Ranking against its definition on random data: ties, single images, nobody's identity, more neighbours than data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.retrieval import cpu_ranking as kernels
from engine.retrieval.k_reciprocal import k_reciprocal_distance
from engine.retrieval.metrics import ranking_metrics
from engine.retrieval.mser import mser_distance
from tests import reference as slow

checked = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
MEMORY = st.sampled_from([1.0, 1e-7])  # all at once, or a row at a time


@pytest.fixture(params=["numba", "tensors"])
def backend(request, monkeypatch):
    """On a CPU the numba kernels; and what other devices do, here on the CPU too."""
    if request.param == "tensors":
        monkeypatch.setattr(kernels, "on_cpu", lambda tensor: False)


def units(draw, *shape: int) -> np.ndarray:
    """Rows with four entries of +-1/2 and zeros: of length 1, all distances exact in float32, with many ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(4, 7))
    rows = np.zeros((*shape, width), np.float32)
    for index in np.ndindex(*shape):
        rows[index][rng.choice(width, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return rows


@st.composite
def sides(draw):
    """Query [Vq, Q, D] and gallery [Vg, G, D]: at most one of them in several spectra."""
    spectra = draw(st.sampled_from([(1, 1), (1, 4), (4, 1), (1, 2), (3, 1)]))
    sizes = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rows = units(draw, spectra[0] * sizes[0] + spectra[1] * sizes[1])
    query, gallery = np.split(rows, [spectra[0] * sizes[0]])
    return query.reshape(spectra[0], sizes[0], -1), gallery.reshape(spectra[1], sizes[1], -1)


@checked
@given(sides(), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.3, 1.0]), st.booleans(), MEMORY)
def test_mser(backend, sides, k1, k2, lam, queries_only, memory_gb):
    copies = [side.copy() for side in sides]
    found = mser_distance(*sides, k1, k2, lam, queries_only, memory_gb).numpy()
    assert found == pytest.approx(slow.mser(*sides, k1, k2, lam, queries_only), abs=1e-6)
    assert all(np.array_equal(now, before) for now, before in zip(sides, copies))


@checked
@given(sides(), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.3, 1.0]), MEMORY)
def test_k_reciprocal(backend, sides, k1, k2, lam, memory_gb):
    query, gallery = (side[0] for side in sides)
    copies = query.copy(), gallery.copy()
    found = k_reciprocal_distance(query, gallery, k1, k2, lam, memory_gb).numpy()
    assert found == pytest.approx(slow.k_reciprocal(query, gallery, k1, k2, lam), abs=1e-6)
    assert np.array_equal(query, copies[0]) and np.array_equal(gallery, copies[1])


@st.composite
def rankings(draw):
    """Distances with ties, identities that one side lacks or that have a single image, random exclusions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, gallery, identities = draw(st.integers(1, 12)), draw(st.integers(1, 40)), draw(st.integers(1, 30))
    dist = rng.integers(0, draw(st.integers(1, 50)), (queries, gallery)).astype(
        draw(st.sampled_from(["f4", "f8", "i8"]))
    )
    pids = rng.integers(0, identities, queries), rng.integers(0, identities, gallery)
    return dist, *pids, rng.random((queries, gallery)) < draw(st.sampled_from([0.0, 0.3, 0.9]))


@pytest.mark.filterwarnings("ignore:no query has a match")
@checked
@given(rankings())
def test_metrics(backend, ranking):
    copies = [array.copy() for array in ranking]
    assert ranking_metrics(*ranking) == pytest.approx(slow.metrics(*ranking), abs=1e-9)
    assert all(np.array_equal(now, before) for now, before in zip(ranking, copies))


def test_what_is_not_a_number_is_farthest(backend):
    dist = torch.tensor([[float("nan"), 1.0, float("inf")]])
    pids, kept = torch.tensor([1, 2, 3]), torch.zeros(1, 3, dtype=torch.bool)
    assert ranking_metrics(dist, torch.tensor([1]), pids, kept)["mAP"] < 0.51
    assert ranking_metrics(dist * float("nan"), torch.tensor([3]), pids, kept)["mAP"] == pytest.approx(1 / 3)

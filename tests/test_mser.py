import numpy as np
import pytest
import torch

from engine.retrieval.mser import mser_distance
from engine.retrieval.neighbours import nearest
from tests import reference as slow
from tests.conftest import golden

GOLDEN = golden("mser")


def golden_case(case: str):
    count, direction = int(GOLDEN[f"{case}__nlist"]), str(GOLDEN[f"{case}__mode"])
    query, gallery = (np.stack([GOLDEN[f"{case}__{side}{i}"] for i in range(count)]) for side in "qg")
    sides = (query[:1], gallery) if direction == "i2v" else (query, gallery[:1])
    k1, k2, lam, queries_only = (GOLDEN[f"{case}__{name}"].item() for name in ("k1", "k2", "lambda", "eval_type"))
    return (*sides, int(k1), int(k2), float(lam), bool(queries_only))


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("case", GOLDEN["cases"].tolist())
def test_golden(case):
    distances = mser_distance(*golden_case(case)).numpy()
    assert distances == pytest.approx(GOLDEN[f"{case}__dist32"], abs=2e-5)
    assert distances == pytest.approx(GOLDEN[f"{case}__dist"], abs=5.5e-3)  # the released code keeps float16


@pytest.mark.parametrize("queries_only", [True, False])
@pytest.mark.parametrize(
    ("spectra", "k1", "k2"), [((1, 4), 5, 3), ((4, 1), 5, 3), ((1, 1), 3, 1), ((1, 2), 100, 100), ((2, 1), 1, 2)]
)
def test_agrees_with_the_definition(spectra, k1, k2, queries_only):
    rng = np.random.default_rng(k1)
    query, gallery = unit(rng, spectra[0], 9, 6), unit(rng, spectra[1], 7, 6)
    expected = slow.mser(query, gallery, k1, k2, 0.3, queries_only)
    assert mser_distance(query, gallery, k1, k2, 0.3, queries_only).numpy() == pytest.approx(expected, abs=1e-9)
    single = mser_distance(query.astype(np.float32), gallery.astype(np.float32), k1, k2, 0.3, queries_only)
    assert single.dtype == torch.float32 and single.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("queries_only", [True, False])
def test_little_memory_changes_nothing(queries_only):
    rng = np.random.default_rng(0)
    for sides in ((unit(rng, 1, 20, 8), unit(rng, 4, 12, 8)), (unit(rng, 4, 20, 8), unit(rng, 1, 12, 8))):
        whole = mser_distance(*sides, 6, 3, 0.2, queries_only)
        torch.testing.assert_close(mser_distance(*sides, 6, 3, 0.2, queries_only, memory_gb=1e-7), whole)


def test_no_expansion_leaves_gallery_rows_empty():
    rng = np.random.default_rng(1)
    query, gallery = unit(rng, 1, 8, 4), unit(rng, 1, 5, 4)
    expected = 0.7 + 0.3 * slow_scaled(query[0], gallery[0])  # J = 1
    assert mser_distance(query, gallery, 4, 1, 0.3, True).numpy() == pytest.approx(expected)


def slow_scaled(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    nodes = np.concatenate([query, gallery])
    dist = ((query[:, None] - nodes[None]) ** 2).sum(axis=2)
    return dist[:, len(query) :] / dist.max(axis=1, keepdims=True)


def test_neighbours_tie_to_the_lower_index():
    distances = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    columns, values = nearest(distances, 3)
    assert columns.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert values.tolist() == [[1, 2, 2], [0, 0, 0]]


def test_equal_images_give_no_nan():
    same = np.ones((1, 6, 4), dtype=np.float32) / 2
    assert torch.isfinite(mser_distance(same, same, 3, 2, 0.3, True)).all()


def test_two_visible_sides_are_refused():
    with pytest.raises(ValueError, match="only one side is visible"):
        mser_distance(torch.ones(2, 3, 4), torch.ones(4, 3, 4), 3, 2, 0.3, True)


def test_arguments_are_not_changed():
    rng = np.random.default_rng(2)
    query, gallery = unit(rng, 1, 8, 4), unit(rng, 4, 5, 4)
    copies = query.copy(), gallery.copy()
    mser_distance(query, gallery, 4, 2, 0.3, False)
    assert np.array_equal(query, copies[0]) and np.array_equal(gallery, copies[1])


def test_embeddings_that_carry_a_graph():
    rng = np.random.default_rng(3)
    query, gallery = (torch.from_numpy(unit(rng, 1, 6, 4)).requires_grad_() for _ in range(2))
    expected = mser_distance(query.detach(), gallery.detach(), 3, 2, 0.3, False)
    assert torch.equal(mser_distance(query, gallery, 3, 2, 0.3, False), expected)

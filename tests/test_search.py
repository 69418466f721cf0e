"""Searching a gallery: exact by blocks, by an index that skips most rows, and re-ranked among the first candidates."""

import numpy as np
import pytest

from engine.gallery import search
from engine.gallery.search import NOTHING, Found, exact, recall, reranked, without
from engine.retrieval.k_reciprocal import k_reciprocal_distance
from utils.errors import UserError


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def slow(queries, vectors, count, allowed=None):
    """By definition: every cosine in float64, all of them sorted."""
    scores = (queries.astype(np.float64)[:, None] * vectors[None].astype(np.float64)).sum(axis=2)
    rows = np.argsort(-scores, axis=1, kind="stable")
    kept = [row if allowed is None else row[allowed[row]] for row in rows]
    padded = np.array([[*row[:count], *[NOTHING] * (count - len(row))] for row in kept], dtype=int)
    padded = padded.reshape(len(queries), count)
    return padded, np.where(padded == NOTHING, -np.inf, np.take_along_axis(scores, padded.clip(0), axis=1))


@pytest.mark.parametrize("seed", range(12))
def test_exact_search_agrees_with_the_definition(monkeypatch, tmp_path, seed):
    """Over a memory map, blocks of a few rows, several of them equal, queries and places of any number."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(search, "BLOCK_BYTES", int(rng.integers(1, 2000)))
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 3)
    n, width = rng.integers(1, 90), rng.integers(1, 20)
    distinct = unit(rng, int(rng.integers(1, n + 1)), width)
    np.save(tmp_path / "vectors.npy", distinct[rng.integers(len(distinct), size=n)])
    vectors, queries = np.load(tmp_path / "vectors.npy", mmap_mode="r"), unit(rng, int(rng.integers(0, 8)), width)
    allowed = rng.random(n) < rng.random() if seed % 2 else None
    count = int(rng.integers(1, 2 * n + 1))
    rows, scores = slow(queries, vectors, count, allowed)
    found = exact(queries, vectors, count, allowed)
    assert found.rows.dtype == np.int64 and found.scores.dtype == np.float64
    assert np.array_equal(found.rows, rows) and np.array_equal(found.scores, scores)


def test_cosines_that_float32_cannot_tell_apart_are_in_order():
    rng = np.random.default_rng(2)
    near = unit(rng, 1, 32) + np.float32(1e-4) * rng.standard_normal((300, 32)).astype(np.float32)
    vectors = near / np.linalg.norm(near, axis=1, keepdims=True)
    rows, scores = slow(vectors[:1], vectors, 300)
    assert len(np.unique(scores.astype(np.float32))) < 100 and len(np.unique(scores)) > 250
    assert np.array_equal(exact(vectors[:1], vectors, 300).rows, rows)


def test_an_image_in_many_copies_is_found_in_the_order_of_its_rows(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(search, "BLOCK_BYTES", 4 * 33 * 7)
    vectors = unit(rng, 1, 33).repeat(100, axis=0)
    assert exact(vectors[:1], vectors, 5).rows.tolist() == [[0, 1, 2, 3, 4]]


def test_a_query_finds_the_same_alone_and_among_others():
    rng = np.random.default_rng(1)
    queries, vectors = unit(rng, 9, 200), unit(rng, 500, 200)
    together = exact(queries, vectors, 7)
    for row, query in enumerate(queries):
        assert np.array_equal(exact(query[None], vectors, 7).scores[0], together.scores[row])


def test_an_empty_gallery_and_no_query():
    assert exact(np.ones((2, 3), np.float32), np.empty((0, 3), np.float32), 4).rows.tolist() == [[NOTHING] * 4] * 2
    assert exact(np.empty((0, 3), np.float32), np.ones((2, 3), np.float32), 4).scores.shape == (0, 4)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"queries \(1, 2\) and vectors \(5, 3\)"):
        exact(np.ones((1, 2), np.float32), np.ones((5, 3), np.float32), 1)
    with pytest.raises(ValueError, match=r"allowed has shape \(4,\); there are 5 rows"):
        exact(np.ones((1, 3), np.float32), np.ones((5, 3), np.float32), 1, np.ones(4, dtype=bool))


def test_a_row_that_is_not_finite_is_named(monkeypatch):
    monkeypatch.setattr(search, "BLOCK_BYTES", 4 * 3 * 4)
    vectors = unit(np.random.default_rng(0), 9, 3)
    vectors[6, 1] = np.nan
    with pytest.raises(UserError, match="row 6 of vectors.npy has a vector that is not finite; embed the images again"):
        exact(vectors[:2], vectors, 2)
    vectors[6] = 3 * vectors[0]
    with pytest.raises(UserError, match="row 6 of vectors.npy has a vector of length 3, not 1; embed the images again"):
        exact(vectors[:2], vectors, 2)


def test_rows_that_a_query_leaves_out():
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]], dtype=np.float32)
    found = Found(np.array([[4, 2, 7], [5, 6, 1]]), scores, np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    left = without(found, [np.array([2]), np.array([], dtype=np.int64)], 2)
    assert left.rows.tolist() == [[4, 7], [5, 6]]
    assert left.scores == pytest.approx(np.array([[0.9, 0.7], [0.9, 0.8]]))
    assert left.vectors.tolist() == [[[0, 1], [4, 5]], [[6, 7], [8, 9]]]
    assert without(Found(*found[:2]), [np.array([4, 2]), np.array([5])], 2).rows.tolist() == [[7, NOTHING], [6, 1]]


def test_recall_by_hand():
    truth = Found(np.array([[1, 2], [3, NOTHING]]), np.zeros((2, 2), np.float32))
    assert recall(Found(np.array([[2, 9], [9, 3]]), truth.scores), truth) == pytest.approx(2 / 3)
    assert (
        recall(exact(np.empty((0, 2), np.float32), np.ones((1, 2), np.float32), 1), truth._replace(rows=truth.rows[:0]))
        == 1
    )


def test_candidates_are_the_places_that_have_an_image():
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    found = Found(np.array([[3, 1, NOTHING]]), np.zeros((1, 3), np.float32))
    rows, taken = found.candidates(0, vectors)
    assert rows.tolist() == [3, 1] and taken.tolist() == [[6, 7], [2, 3]]
    rows, taken = found._replace(vectors=np.ones((1, 3, 2), np.float32)).candidates(0, vectors)
    assert rows.tolist() == [3, 1] and taken.tolist() == [[1, 1], [1, 1]]


def test_reranking_is_the_published_one_among_the_candidates():
    rng = np.random.default_rng(3)
    query, candidates = unit(rng, 8), unit(rng, 60, 8)
    order, distances = reranked(query, candidates)
    (expected,) = k_reciprocal_distance(query[None], candidates, 20, 6, 0.3).numpy()
    assert np.array_equal(distances, expected[order]) and np.array_equal(order, np.argsort(expected, kind="stable"))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 19, 39])
def test_reranking_a_few_candidates(count):
    """Neighbourhoods shrink with the candidates, and every candidate keeps a place."""
    rng = np.random.default_rng(count)
    query, candidates = unit(rng, 4), unit(rng, count, 4)
    candidates.flags.writeable = False  # as those of a gallery are
    order, distances = reranked(query, candidates)
    assert sorted(order.tolist()) == list(range(count)) and np.isfinite(distances).all()
    assert (np.diff(distances) >= 0).all()


def test_reranking_lifts_images_that_agree_with_each_other():
    """A stranger that stands alone is a little nearer to the query than the many images of its person."""
    lone, person = [[1.0, -0.48]], [[1.0, 0.5 + 0.01 * step] for step in range(12)]
    others = [[0.8, -0.9 + 0.01 * step] for step in range(12)]
    candidates = np.array([*lone, *person, *others], dtype=np.float32)
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    query = np.array([1, 0], dtype=np.float32)
    assert (candidates @ query).argmax() == 0
    assert set(reranked(query, candidates)[0][:12]) == set(range(1, 13))

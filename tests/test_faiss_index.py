"""The index of faiss: what it finds, and when it is built again."""

import io
import os
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from engine.gallery import inverted_lists
from engine.gallery.inverted_lists import InvertedLists
from engine.gallery.search import INDEXES, NOTHING, recall
from tests.test_search import unit
from utils.errors import UserError

pytest.importorskip("faiss")


def gallery(root, vectors, model="a"):
    root.mkdir(exist_ok=True)
    np.save(root / "vectors.npy", vectors)
    return SimpleNamespace(root=root, vectors=np.load(root / "vectors.npy", mmap_mode="r"), card={"model": model})


@pytest.fixture
def clustered():
    """60 identities in 10 images each, and a query of each."""
    rng = np.random.default_rng(0)
    rows = unit(rng, 60, 16).repeat(11, axis=0) + 0.2 * rng.standard_normal((660, 16), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.reshape(60, 11, 16)[:, 1:].reshape(600, 16), rows.reshape(60, 11, 16)[:, 0]


def test_nearly_all_is_found_and_cosines_are_exact(clustered, tmp_path, monkeypatch):
    vectors, queries = clustered
    monkeypatch.setattr(inverted_lists, "FEWEST", 1)
    monkeypatch.setattr(inverted_lists, "ADDED", 4 * 16 * 250)
    shelf = gallery(tmp_path / "g", vectors)
    index, truth = INDEXES["faiss"](shelf), INDEXES["exact"](shelf).search(queries, 10)
    found = index.search(queries, 10)
    assert index.lists.index.nlist == 15 and 0.9 < recall(found, truth) < 1
    same = found.rows == truth.rows
    assert np.array_equal(found.scores[same], truth.scores[same]) and (np.diff(found.scores, axis=1) <= 0).all()


def test_every_allowed_row_is_found_however_few_there_are(clustered, tmp_path, monkeypatch):
    vectors, queries = clustered
    monkeypatch.setattr(inverted_lists, "FEWEST", 1)
    index = INDEXES["faiss"](gallery(tmp_path / "g", vectors))
    allowed = np.zeros(600, dtype=bool)
    allowed[[5, 300, 599]] = True
    found = index.search(queries, 5, allowed)
    assert all(sorted(rows) == [NOTHING, NOTHING, 5, 300, 599] for rows in found.rows.tolist())
    assert (index.search(queries, 5, np.zeros(600, dtype=bool)).rows == NOTHING).all()


@pytest.mark.parametrize("count", [0, 1, 50])
def test_small_galleries(tmp_path, count):
    vectors = unit(np.random.default_rng(0), count, 4)
    found = INDEXES["faiss"](gallery(tmp_path / "g", vectors)).search(np.eye(4, dtype=np.float32), 60)
    assert np.array_equal(found.rows, INDEXES["exact"](gallery(tmp_path / "h", vectors)).search(np.eye(4), 60).rows)


@pytest.fixture
def built(monkeypatch):
    """The calls that build an index."""
    calls, build = [], InvertedLists._build
    monkeypatch.setattr(InvertedLists, "_build", lambda self, vectors: (calls.append(1), build(self, vectors))[1])
    return calls


def test_an_index_is_kept_until_the_gallery_or_its_model_changes(clustered, tmp_path, built):
    vectors, queries = clustered
    root = tmp_path / "g"
    first = InvertedLists(gallery(root, vectors)).rows(queries, 5, None)
    os.utime(root / "vectors.npy", (1, 1))
    again = SimpleNamespace(root=root, vectors=vectors, card={"model": "a"})
    assert len(built) == 1 and InvertedLists(again) and InvertedLists(again)
    assert len(built) == 2, "the file has another time"
    assert np.array_equal(InvertedLists(again).rows(queries, 5, None), first) and len(built) == 2
    InvertedLists(again.__class__(**{**vars(again), "card": {"model": "b"}}))
    assert len(built) == 3 and len(list(root.glob("*.index"))) == 1
    InvertedLists(gallery(root, vectors[:500], "b"))
    assert len(built) == 4


@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_damaged_index_is_built_again(clustered, tmp_path, built, size):
    shelf = gallery(tmp_path / "g", clustered[0])
    path = InvertedLists(shelf).path
    path.write_bytes(path.read_bytes()[:size])
    assert InvertedLists(shelf).index.ntotal == 600 and len(built) == 2


def test_a_folder_that_cannot_be_written_costs_a_warning(clustered, tmp_path, monkeypatch, caplog):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(inverted_lists, "replacing", lambda path, patient: nullcontext(Full()))
    shelf = gallery(tmp_path / "g", clustered[0])
    assert InvertedLists(shelf).index.ntotal == 600
    assert "not kept (No space left on device), so the next search builds it again" in caplog.text


def test_a_vector_that_is_not_finite_is_refused(clustered, tmp_path):
    vectors = clustered[0].copy()
    vectors[7, 3] = np.nan
    with pytest.raises(
        UserError, match="^row 7 of vectors.npy has a vector that is not finite; embed the images again$"
    ):
        InvertedLists(gallery(tmp_path / "g", vectors))

"""Galleries in Milvus Lite, for real: filled, filled again, searched like the folder, refused where they misfit."""

from __future__ import annotations

import csv
import fcntl
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from engine.gallery import handing_over, milvus
from engine.gallery.folder import Gallery, open_gallery
from engine.gallery.handing_over import hand_over
from engine.gallery.milvus import connected, open_collection
from engine.gallery.search import exact, reranked
from tests.test_gallery_folder import CARD_OF_NOBODY
from tools import hand_over as command
from utils.errors import UserError

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

WIDTH = 16
NAMES = (
    "plain",
    'with "quotes"',
    "it's",
    "back\\slash",
    "new\nline\ttab",
    "张三 李四",
    "\x01 control",
    "\udcff no UTF-8",
    '"',
    "",
)


def make(folder: Path, count: int, seed: int = 0, model: str = "0") -> Gallery:
    """A gallery of random vectors, every 7th of them twice; a larger one of the same seed begins with the same rows."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((1000, WIDTH)).astype(np.float32)[:count]
    vectors[7::7] = vectors[6:-1:7]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", vectors)
    with (folder / "images.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "path", "identity", "camera", "modality"])
        for row in range(count):
            name = NAMES[row % len(NAMES)]
            writer.writerow([row, f"/data/{name}/{row}", name, name, ("visible", "infrared")[row % 2]])
    card = {**CARD_OF_NOBODY, "model": model * 64, "dimension": WIDTH, "rows": count}
    (folder / "card.json").write_text(json.dumps(card))
    return open_gallery(folder)


@pytest.fixture
def database(tmp_path):
    """A client of an empty database of Milvus Lite."""
    with connected(str(tmp_path / "try.db")) as client:
        yield client


def texts(gallery: Gallery, row: int) -> tuple[str, ...]:
    return gallery.paths[row], gallery.identities[row], gallery.cameras[row], gallery.modalities[row]


def queries(count: int = 20) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, WIDTH)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def require_same(found, truth) -> None:
    """The same rows, but for those that tie with a query's last one: which of them are found is Milvus's choice."""
    assert np.array_equal(found.scores, truth.scores)
    clear = truth.scores > truth.scores[:, -1:]
    assert np.array_equal(found.rows[clear], truth.rows[clear]) and clear.any()


def test_a_collection_finds_what_exact_search_finds(database, tmp_path):
    gallery = make(tmp_path / "gallery", 300)
    assert hand_over(gallery, database, "people", "FLAT") == 300
    collection = open_collection(database, "people")
    assert collection.card == {key: value for key, value in gallery.card.items() if key != "rows"}
    found, truth = collection.search(queries(), 30), exact(queries(), gallery.vectors, 30)
    require_same(found, truth)
    assert np.array_equal(found.vectors, gallery.vectors[found.rows])
    columns = (collection.paths, collection.identities, collection.cameras, collection.modalities)
    for row in np.unique(found.rows):
        assert tuple(column[row] for column in columns) == texts(gallery, row)
    rows, candidates = found.candidates(0, None)
    order, _ = reranked(queries()[0], candidates)
    assert np.array_equal(order, reranked(queries()[0], gallery.vectors[rows])[0])


def test_fewer_images_than_asked_for_and_none(database, tmp_path):
    hand_over(make(tmp_path / "gallery", 3), database, "few", "AUTOINDEX")
    found = open_collection(database, "few").search(queries(2), 5)
    assert (found.rows[:, 3:] == -1).all() and np.isneginf(found.scores[:, 3:]).all() and (found.rows[:, :3] >= 0).all()
    assert open_collection(database, "few").search(queries(0), 5).rows.shape == (0, 5)
    with pytest.raises(UserError, match="Milvus finds 16384 images for a query at most, not 20000"):
        open_collection(database, "few").search(queries(1), 20000)


def test_cameras_and_modalities_are_filtered_whatever_they_are_called(database, tmp_path):
    gallery = make(tmp_path / "gallery", 200)
    hand_over(gallery, database, "people", "FLAT")
    collection = open_collection(database, "people")
    for name in NAMES:
        allowed = np.array([camera == name for camera in gallery.cameras])
        found = collection.search(queries(3), 50, collection.condition(None, [name]))
        require_same(found, exact(queries(3), gallery.vectors, 50, allowed))
        path = f"/data/{name}/{NAMES.index(name)}"
        assert collection.rows_of([path, "/nowhere"]) == {path: [NAMES.index(name)]}
    allowed = np.array([row % 2 == 1 and row % len(NAMES) in (1, 5) for row in range(200)])
    condition = collection.condition("infrared", [NAMES[1], NAMES[5]])
    require_same(collection.search(queries(3), 50, condition), exact(queries(3), gallery.vectors, 50, allowed))
    with pytest.raises(UserError, match="""no image is of camera 'c" or camera != "'"""):
        collection.condition(None, ['c" or camera != "'])
    with pytest.raises(UserError, match="there is no such image to search among"):
        collection.condition("visible", [NAMES[1]])


def test_what_is_there_is_not_given_again_and_what_was_appended_is(database, tmp_path, monkeypatch):
    monkeypatch.setattr(handing_over, "BATCH_ROWS", 20)
    assert hand_over(make(tmp_path / "gallery", 50), database, "people", "FLAT") == 50
    assert hand_over(open_gallery(tmp_path / "gallery"), database, "people", "FLAT") == 0
    gallery = make(tmp_path / "gallery", 130)
    assert hand_over(gallery, database, "people", "FLAT") == 80
    require_same(open_collection(database, "people").search(queries(), 130), exact(queries(), gallery.vectors, 130))


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_killed_call_is_completed_by_the_next(database, tmp_path, monkeypatch, batch):
    """Killed within a batch of which a part arrived."""
    monkeypatch.setattr(handing_over, "BATCH_ROWS", 20)
    gallery, insert, seen = make(tmp_path / "gallery", 110), database.insert, []

    def dying(name, rows, **options):
        seen.append(rows)
        insert(name, rows[5:13] if len(seen) > batch else rows, **options)
        if len(seen) > batch:
            raise KeyboardInterrupt

    monkeypatch.setattr(database, "insert", dying)
    with pytest.raises(KeyboardInterrupt):
        hand_over(gallery, database, "people", "FLAT")
    monkeypatch.setattr(database, "insert", insert)
    counted = []
    assert hand_over(gallery, database, "people", "FLAT", counted.append) == 110 - 20 * batch - 8
    assert counted == [20 * batch, *[20] * (5 - batch), 10]
    collection = open_collection(database, "people")
    assert len(collection) == 110
    require_same(collection.search(queries(), 110), exact(queries(), gallery.vectors, 110))


def test_a_call_that_was_killed_before_there_was_an_index(database, tmp_path, monkeypatch):
    gallery = make(tmp_path / "gallery", 10)
    with monkeypatch.context() as patch:
        patch.setattr(database, "create_index", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hand_over(gallery, database, "people", "FLAT")
    assert hand_over(gallery, database, "people", "FLAT") == 10


def test_a_collection_of_another_model_or_of_other_images_is_refused_and_stays(database, tmp_path):
    hand_over(make(tmp_path / "gallery", 40), database, "people", "FLAT")
    for count, seed, model, said in (
        (40, 0, "1", "is of the model 000000000000, .* of 111111111111; give another --collection"),
        (40, 1, "0", "holds another gallery: its row 0 is /data/plain/0; give another --collection"),
        (30, 0, "0", "holds 40 rows, .* 30: another gallery; give another --collection"),
    ):
        with pytest.raises(UserError, match=said):
            hand_over(make(tmp_path / "other", count, seed, model), database, "people", "FLAT")
    assert open_collection(database, "people").count() == 40


def test_a_name_without_a_gallery_is_said(database):
    with pytest.raises(
        UserError, match="there is no collection people; give it by tools.hand_over, or name one of: none"
    ):
        open_collection(database, "people")
    with pytest.raises(UserError, match="'a b' is no name of a collection"):
        open_collection(database, "a b")
    database.create_collection("foreign", dimension=4)
    with pytest.raises(UserError, match="the collection foreign holds no gallery"):
        open_collection(database, "foreign")


# ---------------------------------------------------------------------------------------------------------- the command


def test_the_command_says_what_it_did_and_lets_go_of_the_file(tmp_path, capfd):
    make(tmp_path / "7 画廊 a", 30)
    arguments = [str(tmp_path / "7 画廊 a"), "--milvus", str(tmp_path / "a b.db")]
    command.main(arguments)
    command.main(arguments)
    assert capfd.readouterr() == (
        f"{arguments[2]}: the collection _7_a holds 30 rows, 30 of them new\n"
        f"{arguments[2]}: the collection _7_a holds 30 rows, nothing to do\n",
        "",
    )
    with (tmp_path / "a b.db" / "LOCK").open("w") as lock:  # nothing serves the file any more
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("uri, said", [
    ("{folder}/no/x.db", "/no: no such folder"),
    ("{folder}/x.txt", "x.txt: give a file for Milvus Lite whose name ends in .db, or http://HOST:PORT"),
    ("{folder}/text.db", "text.db: another process uses it, or it is none of this version of Milvus Lite"),
    ("http://user:secret@host:19530", "--milvus: give http://HOST:PORT or https://HOST:PORT, and a token in MILVUS_TOKEN"),
    ("ftp://host", "--milvus: give http://HOST:PORT"),
    ("http://127.0.0.1:{silent}", "no answer within 1 s, or the token in MILVUS_TOKEN is refused"),
    ("http://127.0.0.1:1", "no answer within 1 s, or the token in MILVUS_TOKEN is refused"),
])  # fmt: skip
def test_where_milvus_is_not_is_one_line(tmp_path, monkeypatch, capfd, uri, said):
    monkeypatch.setattr(milvus, "CONNECTING", 1.0)
    make(tmp_path / "gallery", 3)
    (tmp_path / "text.db").write_text("text")
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        where = uri.format(folder=tmp_path, silent=silent.getsockname()[1])
        with pytest.raises(UserError) as error:
            command.main([str(tmp_path / "gallery"), "--milvus", where])
    assert said in str(error.value) and "secret" not in str(error.value)
    assert capfd.readouterr() == ("", "") and (tmp_path / "text.db").read_text() == "text"


def test_a_file_that_another_process_uses_is_said(tmp_path):
    (tmp_path / "try.db").mkdir()
    with (tmp_path / "try.db" / "LOCK").open("w") as lock:  # as Milvus Lite locks it
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="try.db: another process uses it, or it is none of this version"):
            with connected(str(tmp_path / "try.db")):
                pass
    with connected(str(tmp_path / "try.db")) as client:
        assert client.list_collections() == []

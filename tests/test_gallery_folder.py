"""A gallery folder: what it holds comes back, and what is wrong with it is one line."""

import json
import shutil

import numpy as np
import pytest
import torch

from engine.checkpoint import open_checkpoint
from engine.embed import Embedder, model_hash, open_model
from engine.gallery.card import CARD
from engine.gallery.folder import open_gallery, require_model
from utils.errors import UserError
from utils.results import read_rows
from utils.schema import misfit

ROWS = [
    ("/data/plain.jpg", "0007", "3", "visible"),
    ('/data/a "name", with\nlines\r\nand\rspaces .jpg', "", "", "infrared"),
    ("/data/行人/红外.png", "张三", "北门", "infrared"),
    ("/data/\udcff\udcfe.jpg", "7", "", "visible"),
]
CARD_OF_NOBODY = {
    "model": "0" * 64,
    "method": "MCJA",
    "image_size": [64, 32],
    "dimension": 4,
    "dataset": "sysu",
    "protocol": "",
    "scores": [],
    "versions": {},
    "rows": len(ROWS),
}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.fixture
def folder(tmp_path):
    """A gallery of four rows, written here by hand."""
    np.save(tmp_path / "vectors.npy", np.eye(4, dtype=np.float32))
    lines = [",".join([str(row), *map(quoted, texts)]) for row, texts in enumerate(ROWS)]
    text = "\n".join(["row,path,identity,camera,modality", *lines]) + "\n"
    (tmp_path / "images.csv").write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "card.json").write_text(json.dumps(CARD_OF_NOBODY))
    return tmp_path


def test_a_gallery_says_what_its_files_hold(folder):
    gallery = open_gallery(str(folder))
    assert len(gallery) == 4 and gallery.root == folder and gallery.card == CARD_OF_NOBODY
    assert isinstance(gallery.vectors, np.memmap) and np.array_equal(gallery.vectors, np.eye(4))
    columns = (gallery.paths, gallery.identities, gallery.cameras, gallery.modalities)
    assert list(zip(*columns)) == ROWS


def test_rows_beyond_the_card_s_are_of_an_addition_that_was_not_finished(folder):
    (folder / "card.json").write_text(json.dumps({**CARD_OF_NOBODY, "rows": 3}))
    gallery = open_gallery(folder)
    assert len(gallery) == len(gallery.vectors) == len(gallery.modalities) == 3


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: shutil.rmtree(f), r"card.json: cannot be read \(No such file.*give a folder that tools.embed wrote"),
        (lambda f: (f / "vectors.npy").unlink(), "vectors.npy: cannot be read"),
        (lambda f: (f / "images.csv").unlink(), "images.csv: cannot be read"),
        (lambda f: _cut(f / "card.json", 40), "card.json: damaged, or not JSON"),
        (lambda f: _cut(f / "vectors.npy", 150), "vectors.npy: damaged"),
        (lambda f: _cut(f / "vectors.npy", 0), "vectors.npy: damaged"),
        (lambda f: _cut(f / "images.csv", 60), "images.csv: line 2 is not that of row 0"),
        (lambda f: _cut(f / "images.csv", 100), "images.csv: damaged"),
        (lambda f: _cut(f / "images.csv", 0), "images.csv: its first line is not row,path"),
        (lambda f: _cut(f / "images.csv", 75), "images.csv: damaged, it holds 1 of 4 rows"),
        (lambda f: (f / "images.csv").write_text("row,path,identity,camera,modality\n0,a,b,c,thermal\n"), "line 2 .* row 0"),
        (lambda f: np.save(f / "vectors.npy", np.eye(4)), r"vectors.npy: not float32 \[N, 4\]"),
        (lambda f: np.save(f / "vectors.npy", np.eye(5, dtype=np.float32)), r"vectors.npy: not float32 \[N, 4\]"),
        (lambda f: np.save(f / "vectors.npy", np.eye(3, 4, dtype=np.float32)), "vectors.npy: damaged, it holds 3 of 4"),
        (lambda f: np.save(f / "vectors.npy", 2 * np.eye(4, dtype=np.float32)), "row 0 .* has a vector of length 2, not 1"),
        (lambda f: np.save(f / "vectors.npy", np.diag(np.float32([1, 1, np.nan, 1]))), "row 2 .* that is not finite"),
        (lambda f: (f / "card.json").write_text("{}"), "card.json: not as tools.embed writes it: model is missing"),
        (lambda f: (f / "card.json").write_text("[]"), "card.json: not as tools.embed writes it"),
    ],
)  # fmt: skip
def test_damage_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        open_gallery(folder)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- the model's card


@pytest.fixture(scope="module")
def embedder(trained):
    return open_model(trained)


def test_a_card_says_what_the_model_is_and_how_good_it_was(embedder, trained):
    card = embedder.card
    assert misfit(card, CARD) is None and json.loads(json.dumps(card)) == card
    assert (card["model"], card["method"], card["image_size"]) == (embedder.hash, "Demo", [64, 32])
    assert card["dimension"] == embedder(torch.zeros(2, 3, 64, 32, dtype=torch.uint8), "infrared").shape[1]
    assert (card["dataset"], card["protocol"]) == ("sysu", "sysu/all/1-shot")
    assert card["identities"] == open_checkpoint(str(trained), best=True).origin.num_ids
    tested = [row for row in read_rows(trained / "results.jsonl") if row.stage == "test"]
    assert card["scores"] == [row._asdict() for row in tested] != []


def test_a_copied_checkpoint_has_the_hash_and_the_scores_that_its_training_knew(embedder, trained, tmp_path):
    shutil.copy(trained / "best.pth", tmp_path / "copy.pth")
    copied = open_model(tmp_path / "copy.pth")
    assert copied.hash == embedder.hash
    (row,) = copied.card["scores"]
    assert (row["stage"], row["protocol"], row["epoch"]) == (
        "train",
        "sysu/all/1-shot",
        embedder.card["scores"][0]["epoch"],
    )


def test_another_model_has_another_hash():
    config = {"model": "mcja", "lr": 1.0}
    model = torch.nn.Linear(2, 3)
    known = model_hash(model, (64, 32), config)
    assert known == model_hash(
        model, (64, 32), {**config, "lr": 2.0}
    )  # how it was trained says nothing about its vectors
    others = [model_hash(model, (64, 64), config), model_hash(model, (64, 32), {**config, "vector": "pool"})]
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    others.append(model_hash(model, (64, 32), config))
    assert len({known, *others}) == 4


def test_a_gallery_of_another_model_is_refused(folder, embedder):
    with pytest.raises(UserError, match=f"made by the model 000000000000 .*not by this one, {embedder.hash[:12]}"):
        require_model(open_gallery(folder), embedder)
    (folder / "card.json").write_text(json.dumps({**CARD_OF_NOBODY, "model": embedder.hash}))
    require_model(open_gallery(folder), embedder)


def test_an_embedder_knows_its_dimension(embedder):
    assert isinstance(embedder, Embedder) and embedder.dimension == embedder.card["dimension"] == 512

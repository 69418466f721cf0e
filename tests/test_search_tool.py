"""python -m tools.search: its list, its sheet, its JSON, and what it says of bad input."""

import csv
import io
import json
import os
import re
import shlex
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.sets import sysu
from engine.embed import open_model
from engine.gallery.search import exact
from tools import embed, hand_over, search
from tools.searching import sheet
from tools.searching.answers import Answer, Hit, Query
from utils.cli import exit_code
from utils.logging import stop_logging


@pytest.fixture(scope="session")
def embedder(trained):
    return open_model(trained)


def write_gallery(root: Path, embedder, rows, vectors=None) -> Path:
    """A gallery of (path, identity, camera, modality), as docs/search.md says that it looks."""
    root.mkdir(parents=True, exist_ok=True)
    found = [embedder([path], modality).numpy() for path, _, _, modality in rows] if vectors is None else [vectors]
    np.save(root / "vectors.npy", np.concatenate([np.empty((0, embedder.dimension), np.float32), *found]))
    with (root / "images.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        csv.writer(stream).writerows(
            [["row", "path", "identity", "camera", "modality"], *([n, *row] for n, row in enumerate(rows))]
        )
    (root / "card.json").write_text(json.dumps({**embedder.card, "rows": len(rows)}))
    return root


@pytest.fixture(scope="session")
def rows(sysu_root):
    test = sysu.load(str(sysu_root)).test
    return [
        (os.path.abspath(record.path), str(record.pid), str(record.camera), modality.name.lower())
        for modality, records in test.records.items()
        for record in records
    ]


@pytest.fixture(scope="session")
def gallery(tmp_path_factory, embedder, rows):
    """All test images of both modalities. Not to be written to."""
    return write_gallery(tmp_path_factory.mktemp("gallery") / "g", embedder, rows)


@pytest.fixture
def ask(monkeypatch, embedder, trained, capsys):
    """ask(*arguments) -> (exit code, standard output, standard error); the model is opened once for all tests."""
    monkeypatch.setattr(search, "open_model", lambda path, device: embedder)

    def run(*arguments):
        words = [str(word) for word in (*arguments, "--model", trained, "--device", "cpu")]
        code = exit_code(partial(search.main, words))
        stop_logging()
        return code, *capsys.readouterr()

    return run


def infrared(rows):
    return next(row for row in rows if row[3] == "infrared")


# ---------------------------------------------------------------------------------------------------------- the answers


def test_the_list_is_the_exact_ranking_without_the_query(gallery, rows, ask, embedder):
    """With the command's own way to the model, and right and wrong from the gallery's identities."""
    path, identity, *_ = infrared(rows)
    code, out, error = ask(gallery, path, "--top", 5, "--json")
    assert (code, error) == (0, "")
    answer = json.loads(out)
    (query,) = answer["queries"]
    vectors = np.load(gallery / "vectors.npy")
    own = [row[0] for row in rows].index(path)
    expected = exact(embedder([path], "infrared").numpy(), vectors, 6)
    kept = expected.rows[0] != own
    assert answer["model"] == embedder.hash and answer["index"] == "exact" and answer["recall"] is None
    assert query["left_out"] == [own] and query["modality"] == "infrared" and query["identity"] == identity
    assert [hit["row"] for hit in query["hits"]] == expected.rows[0][kept].tolist()
    assert [hit["cosine"] for hit in query["hits"]] == pytest.approx(expected.scores[0][kept].tolist())
    for rank, hit in enumerate(query["hits"], start=1):
        assert hit["rank"] == rank and hit["distance"] == pytest.approx(1 - hit["cosine"], abs=1e-6)
        assert (hit["path"], hit["identity"], hit["camera"], hit["modality"]) == rows[hit["row"]]
        assert hit["right"] is (hit["identity"] == identity) and hit["reranked"] is None


def test_the_command_opens_the_model_itself(gallery, rows, trained, capsys):
    assert exit_code(lambda: search.main([str(gallery), rows[0][0], "--model", str(trained), "--device", "cpu"])) == 0
    assert "rank  cosine  distance  match  identity  camera  modality  path\n   1  " in capsys.readouterr().out


def test_several_queries_each_by_its_own_modality(gallery, rows, ask):
    paths = [rows[0][0], infrared(rows)[0]]
    code, out, _ = ask(gallery, *paths, "--json")
    together = json.loads(out)["queries"]
    assert [(query["path"], query["modality"]) for query in together] == list(zip(paths, ("visible", "infrared")))
    for path, query in zip(paths, together):
        alone = json.loads(ask(gallery, path, "--json")[1])["queries"][0]
        assert [hit["row"] for hit in alone["hits"]] == [hit["row"] for hit in query["hits"]]


def test_an_image_from_elsewhere_needs_its_modality_and_has_no_identity(gallery, rows, ask, tmp_path):
    copy = tmp_path / infrared(rows)[1] / "copy.jpg"
    copy.parent.mkdir()
    shutil.copy(infrared(rows)[0], copy)
    code, _, error = ask(gallery, copy)
    assert code == 2
    assert error == f"error: {copy}: say which sensor took it: --modality visible or --modality infrared\n"
    query = json.loads(ask(gallery, copy, "--modality", "infrared", "--json")[1])["queries"][0]
    assert query["identity"] == "" and {hit["right"] for hit in query["hits"]} == {None}
    assert query["hits"][0]["path"] == infrared(rows)[0] and query["hits"][0]["cosine"] == pytest.approx(1)
    named = ("--modality", "infrared", "--identity", "parent", "--json")
    query = json.loads(ask(gallery, copy, *named)[1])["queries"][0]
    assert query["identity"] == infrared(rows)[1] and query["hits"][0]["right"] is True
    assert "(infrared)" in ask(gallery, copy, "--modality", "infrared")[1]


def test_a_link_to_an_image_of_the_gallery_does_not_find_it(gallery, rows, ask, tmp_path):
    (tmp_path / "link.jpg").symlink_to(rows[0][0])
    query = json.loads(ask(gallery, tmp_path / "link.jpg", "--json")[1])["queries"][0]
    assert query["left_out"] == [0] and 0 not in [hit["row"] for hit in query["hits"]]


def test_more_images_than_there_are(gallery, rows, ask):
    code, out, error = ask(gallery, rows[0][0], "--top", 10**15, "--json")
    assert (code, error, len(json.loads(out)["queries"][0]["hits"])) == (0, "", len(rows) - 1)


def test_filters(gallery, rows, ask):
    path = infrared(rows)[0]
    hits = json.loads(ask(gallery, path, "--among", "visible", "--top", 500, "--json")[1])["queries"][0]["hits"]
    assert len(hits) == sum(row[3] == "visible" for row in rows)
    hits = json.loads(ask(gallery, path, "--top", 500, "--json", "--camera", 1, 3)[1])["queries"][0]["hits"]
    assert {hit["camera"] for hit in hits} == {"1", "3"}
    assert len(hits) == sum(row[2] in "13" for row in rows) - 1
    code, _, error = ask(gallery, path, "--camera", "9")
    assert code == 2 and error == f"error: {gallery}: no image is of camera '9'; its cameras: 1, 2, 3, 4, 5, 6\n"
    code, _, error = ask(gallery, path, "--camera", "3", "--among", "visible")
    assert code == 2 and "there is no image of visible of these cameras to search among" in error


def test_reranking_orders_the_first_hundred_and_says_so(gallery, rows, ask, monkeypatch):
    monkeypatch.setattr("tools.searching.answers.CANDIDATES", 9)
    path = infrared(rows)[0]
    plain = json.loads(ask(gallery, path, "--top", 12, "--json")[1])["queries"][0]["hits"]
    again = json.loads(ask(gallery, path, "--top", 12, "--json", "--rerank")[1])
    hits = again["queries"][0]["hits"]
    assert again["reranked"] is True
    assert sorted(hit["row"] for hit in hits[:9]) == sorted(hit["row"] for hit in plain[:9])
    assert [hit["row"] for hit in hits[9:]] == [hit["row"] for hit in plain[9:]]
    distances = [hit["reranked"] for hit in hits]
    assert distances[:9] == sorted(distances[:9]) and distances[9:] == [None] * 3
    out = ask(gallery, path, "--top", 2, "--rerank")[1]
    assert "k-reciprocal re-ranking of the first 100)" in out and "distance  re-ranked  match" in out


def test_the_index_of_faiss_prints_its_recall(gallery, rows, ask, tmp_path):
    pytest.importorskip("faiss")
    own = shutil.copytree(gallery, tmp_path / "g")
    code, out, _ = ask(own, rows[0][0], "--index", "faiss", "--top", 3)
    assert code == 0 and "\nthe index faiss found 100.0 % of the 3 images that exact search finds\n" in out
    assert json.loads(ask(own, rows[0][0], "--index", "faiss", "--json")[1])["recall"] == 1


def test_a_collection_answers_as_the_folder_does(gallery, rows, ask, tmp_path, capsys):
    """Filtered, re-ranked, with images of its own left out; the folder may be gone."""
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    own, place = shutil.copytree(gallery, tmp_path / "people"), ("--milvus", tmp_path / "try.db")
    hand_over.main([str(own), "--milvus", str(tmp_path / "try.db")])
    capsys.readouterr()
    shutil.rmtree(own)
    path = infrared(rows)[0]
    for asked in ([], ["--rerank"], ["--among", "visible"], ["--camera", 1, 3], ["--top", 500]):
        code, out, error = ask("people", path, "--json", *asked, *place)
        assert (code, error) == (0, "")
        answer, expected = json.loads(out), json.loads(ask(gallery, path, "--json", *asked)[1])
        assert answer["queries"] == expected["queries"] and answer["index"] == "milvus"
    assert ask("people", path, "--out", tmp_path / "sheet.png", *place)[0] == 0
    code, _, error = ask("people", path, "--camera", "9", *place)
    assert code == 2 and error == "error: people: no image is of camera '9'\n"


def test_a_collection_of_another_model_or_none_is_one_line(gallery, rows, ask, tmp_path):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    own, place = shutil.copytree(gallery, tmp_path / "people"), ("--milvus", tmp_path / "try.db")
    code, _, error = ask("people", rows[0][0], *place)
    assert code == 2 and error == f"error: {tmp_path / 'try.db'}: no such file\n"
    card = json.loads((own / "card.json").read_text())
    (own / "card.json").write_text(json.dumps({**card, "model": "f" * 64}))
    hand_over.main([str(own), "--milvus", str(tmp_path / "try.db")])
    code, _, error = ask("people", rows[0][0], *place)
    assert code == 2 and error.startswith("error: people: made by the model ffffffffffff (")
    code, _, error = ask("others", rows[0][0], *place)
    assert code == 2 and error.startswith("error: there is no collection others; ") and error.endswith(": people\n")
    code, _, error = ask("people", rows[0][0], *place, "--index", "faiss")
    assert code == 2 and error.startswith("error: --index faiss is for a folder")


# ------------------------------------------------------------------------------------------------------------ the sheet


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_the_sheet_is_written_and_named(gallery, rows, ask, tmp_path):
    code, out, error = ask(gallery, rows[0][0], "--top", 12, "--out", tmp_path / "sheet.png")
    assert (code, error) == (0, "") and out.endswith(f"\nsheet: {tmp_path}/sheet.png\n")
    width, height = size_of((tmp_path / "sheet.png").read_bytes())
    assert width == 1080 and height > 500  # two lines
    code, out, error = ask(gallery, rows[0][0], "--json", "--out", tmp_path / "sheet.png")
    assert json.loads(out) and error == ""


def test_gone_images_are_grey_tiles_and_one_warning(embedder, rows, ask, tmp_path):
    kept, *others = (shutil.copy(row[0], tmp_path / f"{n}.jpg") for n, row in enumerate(rows[:4]))
    own = [(str(tmp_path / f"{n}.jpg"), *row[1:]) for n, row in enumerate(rows[:4])]
    shelf = write_gallery(tmp_path / "g", embedder, own)
    others[0].unlink()
    others[1].write_text("no image")
    code, out, error = ask(shelf, kept, "--out", tmp_path / "sheet.png")
    assert code == 0 and out.count("visible") == 4
    assert error.count("\n") == 1 and error.startswith("warning: ")
    assert error.endswith(".jpg and 1 more: gone or not readable; grey in the sheet\n")


def test_a_sheet_that_cannot_be_written_does_not_cost_the_list(gallery, rows, ask, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    _, listed, _ = ask(gallery, rows[0][0])
    monkeypatch.setattr("os.fsync", full)
    place = tmp_path / "sheet.png"
    assert ask(gallery, rows[0][0], "--out", place) == (
        2, listed, f"error: {place}: could not be written (No space left on device)\n"
    )  # fmt: skip


def test_a_sheet_has_room_for_a_limited_number_of_lines(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sheet, "LINES", 3)
    read = []
    monkeypatch.setattr(sheet, "load_image", lambda path, size: read.append(path) or (_ for _ in ()).throw(MemoryError))
    monkeypatch.setattr(sheet, "pixels", lambda path, size, missing: read.append(path))
    hit = Hit(1, 0, 0.5, 0.5, None, "$x_{", "\n", "visible", "b", False)
    answers = [Answer(Query("a", "visible", "", np.array([])), [hit] * 15)] * 2
    assert size_of(sheet.sheet(answers, (32, 16)))[1] > 600
    assert len(read) == 2 + 15 + 10
    assert "the sheet has room for 3 lines of 10 images; the others are not in it" in caplog.text


# ------------------------------------------------------------------------------------------------------------ bad input


def test_the_gallery_says_where_its_model_lies_and_which_modality_it_lacks(rows, embedder, trained, tmp_path, capsys):
    """The shortest command: a visible gallery, and an image of another folder, which is taken as infrared."""
    visible = [row for row in rows if row[3] == "visible"]
    own = write_gallery(tmp_path / "g", embedder, visible)
    card = {**embedder.card, "rows": len(visible)}
    image = Path(shutil.copy(infrared(rows)[0], tmp_path / "night.jpg"))
    for file, code in ((embedder.file, 0), (tmp_path / "gone.pth", 2), ("", 2)):
        (own / "card.json").write_text(json.dumps({**card, "file": str(file)}))
        assert exit_code(lambda: search.main([str(own), str(image), "--top", "1", "--json"])) == code
        printed, error = capsys.readouterr()
        if code:
            assert error.endswith("give it by --model\n") and (f"{file}" or "names no model") in error
        else:
            assert json.loads(printed)["queries"][0]["modality"] == "infrared"


def test_another_model_is_refused_by_its_hash(gallery, rows, ask, tmp_path):
    own = shutil.copytree(gallery, tmp_path / "g")
    card = json.loads((own / "card.json").read_text())
    (own / "card.json").write_text(json.dumps({**card, "model": "0" * 64}))
    code, _, error = ask(own, rows[0][0])
    assert code == 2 and error.count("\n") == 1
    assert f"{own}/card.json: made by the model 000000000000 " in error and card["model"][:12] in error


def test_unreadable_queries(gallery, ask, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("text.jpg", "missing.jpg"):
        code, out, error = ask(gallery, tmp_path / name, "--modality", "visible")
        assert code == 2 and out == "" and error.startswith(f"error: {tmp_path / name}: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--top", "0"], "--top 0: give 1 or more"),
        (["--out", "nowhere/x.png"], "--out nowhere/x.png: there is no folder nowhere"),
        (["--out", "."], "--out .: is a folder; give a file"),
        (["--modality", "thermal"], "invalid choice: 'thermal'"),
    ],
)
def test_bad_arguments(gallery, rows, ask, words, said):
    code, out, error = ask(gallery, rows[0][0], *words)
    assert code == 2 and out == "" and said in error and error.count("\n") == 1


def test_damaged_galleries(gallery, rows, ask, tmp_path, embedder):
    assert ask(tmp_path / "none", rows[0][0])[0] == 2
    own = shutil.copytree(gallery, tmp_path / "g")
    vectors = np.load(own / "vectors.npy")
    for name, damaged, said in (
        ("short", vectors[:3], "vectors.npy: damaged, it holds 3 of "),
        ("wide", vectors.astype(np.float64), "vectors.npy: not float32"),
        ("nan", np.where(np.arange(len(vectors))[:, None] == 4, np.nan, vectors), "row 4 of vectors.npy has a vector"),
    ):
        np.save(own / "vectors.npy", damaged.astype(np.float64 if name == "wide" else np.float32))
        code, out, error = ask(own, rows[0][0])
        assert code == 2 and out == "" and said in error and error.count("\n") == 1, name
    empty = write_gallery(tmp_path / "empty", embedder, [])
    code, _, error = ask(empty, rows[0][0], "--modality", "visible")
    assert code == 2 and error == f"error: {empty}: there is no image to search among\n"


def test_names_that_are_no_plain_text(embedder, rows, ask, tmp_path):
    """A line end, quotes, Chinese, bytes that are no UTF-8, and what other programs would take for a formula."""
    names = ["two\nlines.jpg", "a \"b\" 'c',.jpg", "行人.jpg", "x\udcff.jpg", "$x_{.jpg"]
    own = []
    for name, row in zip(names, rows):
        shutil.copy(row[0], tmp_path / name)
        own.append((str(tmp_path / name), "$x_{", name[:3], row[3]))
    shelf = write_gallery(tmp_path / "g", embedder, own)
    code, out, error = ask(shelf, tmp_path / names[0], "--json", "--out", tmp_path / "$sheet.png")
    assert (code, error) == (0, "")
    assert {hit["path"] for hit in json.loads(out)["queries"][0]["hits"]} == {row[0] for row in own[1:]}
    code, out, _ = ask(shelf, tmp_path / names[0])
    assert code == 0 and len(out.splitlines()) == 2 + 4 and "two\\nlines.jpg" in out and "行人.jpg" in out


# ------------------------------------------------------------------------------------------------------------- the page


PAGE = (Path(search.__file__).parent.parent / "docs" / "search.md").read_text(encoding="utf-8")
PARTS = {name: body for name, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.S | re.M)}


@pytest.fixture
def walk(monkeypatch, embedder, trained, sysu_root, rows, tmp_path, capsys):
    """walk(text): what the commands and the Python of a part of the page print, each as it stands there."""
    for module in (search, embed):
        monkeypatch.setattr(module, "open_model", lambda path, device: embedder)
    monkeypatch.chdir(tmp_path)
    for name, camera in (("night", "cam3"), ("day", "cam1")):
        (tmp_path / name).symlink_to(sysu_root / camera)
    shutil.copy(infrared(rows)[0], "IMAGE.jpg")
    (tmp_path / "RUN").symlink_to(trained)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/SYSU-MM01").symlink_to(sysu_root)

    def run(text: str) -> list[str]:
        printed = []
        for kind, block in re.findall(r"```(sh|python)\n(.*?)```", text, flags=re.S):
            for line in block.splitlines() if kind == "sh" else [block]:
                if kind == "python":
                    exec(line, {})
                else:
                    _, _, name, *words = shlex.split(line)
                    words += ["--workers", "0"] * (name == "tools.embed")
                    command = {"tools.embed": embed, "tools.search": search, "tools.hand_over": hand_over}[name]
                    assert not exit_code(partial(command.main, words)), line
                    stop_logging()
                printed.append(capsys.readouterr().out)
        return printed

    return run


def test_the_page_leads_from_a_model_to_a_search(walk, rows):
    made = walk(PARTS["Make a gallery"])
    assert made[0] == f"GALLERY: a gallery of {len(rows)} images, {len(rows)} of them new\n" and len(made) == 3
    plain, again, as_json, python = walk(PARTS["Search"])
    example = re.search(r"^rank .*path$", PARTS["Search"], flags=re.M)
    assert (
        example and example[0] in plain.splitlines() and "re-ranked" in again and again.endswith("\nsheet: sheet.png\n")
    )
    hits = json.loads(as_json)["queries"][0]["hits"]
    assert python == "".join(f"{hit['cosine']:.4f} {hit['identity']} {hit['path']}\n" for hit in hits)
    if find_spec("faiss"):
        (faiss, *_) = walk(PARTS["Exact search, faiss, Milvus"].partition("**Milvus**")[0])
        assert "the index faiss found 100.0 %" in faiss


def test_the_page_leads_to_milvus(walk):
    pytest.importorskip("milvus_lite")
    walk(PARTS["Make a gallery"].partition("For images of your own")[0])
    made, found = walk(PARTS["Exact search, faiss, Milvus"].partition("**Milvus**")[2])
    assert "the collection people holds" in made and found.splitlines()[1].startswith("rank  cosine")

"""The page and the API of tools.serve: what they show, and every bad input (tests/test_page.py uses a browser)."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import serve as benchmark
from engine.embed import open_model
from engine.gallery.folder import open_gallery
from tests.serving import CARD, Quarters, make_gallery, running
from tools import serve
from utils.cli import exit_code

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("python_multipart")

from fastapi.testclient import TestClient  # noqa: E402

from tools.serving import library as libraries  # noqa: E402
from tools.serving import uploads, views  # noqa: E402
from tools.serving.app import build_app  # noqa: E402
from tools.serving.asked import Filters, Wanted  # noqa: E402
from tools.serving.columns import column  # noqa: E402
from tools.serving.library import Library  # noqa: E402
from tools.serving.uploads import Uploads  # noqa: E402

ODD = 'a "q" <b>x\n& \u4eba.png'  # quotes, HTML, a line end, Chinese
LIMIT = 200_000  # bytes
ALERT = re.compile(r'role="alert">(.*?)</p>', flags=re.S)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "first"
    folder.mkdir()
    return make_gallery(folder, names=(ODD,))


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "second"
    folder.mkdir()
    return make_gallery(folder, identities=3, cameras="13")


@pytest.fixture(scope="module")
def client(root, second):
    app = build_app(Quarters(), [open_gallery(root), open_gallery(second)], limit=LIMIT)
    with TestClient(app, base_url="http://127.0.0.1:8000") as made:
        yield made


def infrared(root: Path, identity: int) -> bytes:
    return (root / "images" / "cam3" / f"{identity:04d}" / "1.png").read_bytes()


def send(client, content: bytes, path: str = "/search", name: str = "query.png", **values):
    return client.post(path, files={"image": (name, content)}, data=values, follow_redirects=False)


def alert(answer) -> str:
    (found,) = ALERT.findall(answer.text)
    return found


# -------------------------------------------------------------------------------------------------------------- results


def test_an_infrared_image_finds_its_person(client):
    reply = client.get("/api/search", params={"query_row": 4, "top": 5, "gallery": "first"}).json()
    assert reply["query"] | {"page": ""} == {
        "modality": "infrared", "name": "cam3/0001/0.png", "identity": "1", "camera": "3", "gallery": "first", "row": 4,
        "page": "",
    }  # fmt: skip
    assert (reply["searched"], reply["same_identity"]) == (25, 4)  # visible images, the one without an identity too
    found = reply["results"]
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4, 5]
    assert [hit["same_identity"] for hit in found] == [True] * 4 + [found[4]["identity"] and False]
    assert sorted(hit["row"] for hit in found[:4]) == [0, 1, 2, 3]
    distances = [hit["distance"] for hit in found]
    assert distances == sorted(distances) and 0 <= distances[0] < 0.05 < distances[4]
    assert reply["reranked"] is None


def test_distances_are_those_of_the_vectors(client, root):
    gallery = open_gallery(root)
    expected = 1 - gallery.vectors @ gallery.vectors[4]
    for hit in client.get("/api/search", params={"query_row": 4, "top": 20, "gallery": "first"}).json()["results"]:
        assert hit["distance"] == pytest.approx(expected[hit["row"]], abs=2e-6)


def test_both_galleries_are_searched_together(client):
    reply = client.get("/api/search", params={"query_row": 4, "top": 50, "modality": "both"}).json()
    assert reply["searched"] == 37 - 1 + 12 == len(reply["results"])  # without the query itself
    assert {hit["gallery"] for hit in reply["results"]} == {"first", "second"}
    assert ("first", 4) not in {(hit["gallery"], hit["row"]) for hit in reply["results"]}
    distances = [hit["distance"] for hit in reply["results"]]
    assert distances == sorted(distances)


def test_a_file_does_not_find_itself_in_another_gallery(root, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    for name in ("vectors.npy", "images.csv", "card.json"):
        (again / name).write_bytes((root / name).read_bytes())
    found = Library([open_gallery(root), open_gallery(again)], CARD)
    wanted = Wanted(query_gallery="again", query_row=4, modality="both", top=200)
    answer = found.search(found.query(wanted), wanted)
    assert answer.searched == 2 * 36 and 4 not in {hit.place.row for hit in answer.hits}


def test_filters(client):
    def search(**values):
        return client.get("/api/search", params={"query_row": 4, "gallery": "first", **values}).json()

    assert {hit["camera"] for hit in search(camera="2")["results"]} == {"2"}
    assert search(camera=["1", "2"])["searched"] == 24
    assert {hit["modality"] for hit in search(modality="infrared")["results"]} == {"infrared"}
    assert search(modality="infrared")["searched"] == 11
    near = search(threshold=0.05)
    assert len(near["results"]) == 4 and near["searched"] == 25
    assert search(camera="3")["results"] == []


def test_reranking_stands_beside_the_distance(client, monkeypatch):
    monkeypatch.setattr(
        libraries, "reranked", lambda query, found: (np.arange(len(found))[::-1], np.linspace(0, 1, len(found)))
    )
    reply = client.get("/api/search", params={"query_row": 4, "top": 3, "rerank": "1", "gallery": "first"}).json()
    assert reply["candidates"] == 25
    everything = client.get("/api/search", params={"query_row": 4, "top": 50, "gallery": "first"}).json()["results"]
    assert [hit["row"] for hit in reply["results"]] == [hit["row"] for hit in everything[:3]]
    assert [hit["row"] for hit in reply["reranked"]] == [hit["row"] for hit in everything[:-4:-1]]
    page = client.get("/search", params={"query_row": 4, "top": 3, "rerank": "1", "gallery": "first"}).text
    assert (
        page.count('<ol class="tiles">') == 2
        and "▲</span> was 25" in page
        and "the nearest 25 among themselves" in page
    )


def test_those_behind_the_candidates_stay_behind(client, monkeypatch):
    monkeypatch.setattr(libraries, "CANDIDATES", 2)
    monkeypatch.setattr(libraries, "reranked", lambda query, found: (np.array([1, 0]), np.array([0.1, 0.2])))
    reply = client.get("/api/search", params={"query_row": 4, "top": 4, "rerank": "1", "gallery": "first"}).json()
    plain, again = reply["results"], reply["reranked"]
    assert [hit["row"] for hit in again] == [plain[place]["row"] for place in (1, 0, 2, 3)]
    assert [hit["rank"] for hit in again] == [1, 2, 3, 4] and again[2]["reranked_distance"] is None


def test_real_reranking_is_that_of_the_gallery(client):
    reply = client.get("/api/search", params={"query_row": 4, "top": 4, "rerank": "1", "gallery": "first"}).json()
    assert {hit["row"] for hit in reply["reranked"]} == {0, 1, 2, 3}


# ------------------------------------------------------------------------------------------------------------ the pages


def test_the_page_says_right_and_wrong_by_more_than_colour(client):
    page = client.get("/search", params={"query_row": 4, "top": 6, "gallery": "first"}).text
    assert page.count('class="tile right"') == 4 and page.count('✓</span><span class="hidden">Same identity.') == 4
    assert page.count('class="tile wrong"') + page.count('class="tile"') == 2
    assert "4 of the 6 shown are right, the first at rank 1; 4 of the images searched show this identity." in page
    assert "Drawn, trained on SYSU-MM01: rank-1 61.2 %, mAP 50.5 % (sysu/all/1-shot, cosine)" in page


def test_every_image_of_a_result_leads_on(client):
    page = client.get("/search?query_row=4&top=3&rerank=1&gallery=first&camera=1&threshold=0.5").text
    links = {link.replace("&amp;", "&") for link in re.findall(r'<a href="(/search\?[^"]*query_row=\d+)">', page)} - {
        "/search?query_row=4"
    }
    assert len(links) == 3 and all("top=3" in link and "rerank=1" in link and "camera" not in link for link in links)
    for link in links:
        assert "Nearest infrared images" in client.get(link).text


def test_an_address_holds_the_whole_state(client):
    wanted = Wanted(
        query_gallery="second", query_row=3, gallery=["a b", "&"], camera=["1"], top=5, threshold=0.25, rerank=True
    )
    asked = dict(part.split("=") for part in wanted.address("/s").partition("?")[2].split("&") if "gallery" not in part)
    assert asked == {"camera": "1", "top": "5", "threshold": "0.25", "rerank": "1", "query_row": "3"}
    page = client.get("/search?query_gallery=second&query_row=3&gallery=second&camera=1&top=50&threshold=0.25").text
    for state in ('value="second" checked', 'value="1" checked', 'value="0.25"', "<option selected>50</option>"):
        assert state in page
    assert wanted.filters() == Filters(gallery=["a b", "&"], camera=["1"], top=5, threshold=0.25, rerank=True)


def test_start_shows_infrared_images_first(client):
    page = client.get("/").text
    assert page.count('class="tile"') == 12 and "12 images of first" in page
    assert "6 images" in client.get("/?modality=both&identity=1&camera=").text
    assert client.get("/?gallery=second&modality=visible&camera=1").text.count('class="tile"') == 6
    assert "No image of this gallery fits" in client.get("/?identity=77").text
    assert "There is no such page" in client.get("/?page=9").text


def test_pages_of_a_gallery(tmp_path):
    gallery = open_gallery(make_gallery(tmp_path, identities=30))
    with TestClient(build_app(Quarters(), [gallery]), base_url="http://localhost") as client:
        first, second = client.get("/").text, client.get("/?page=2").text
    assert first.count('class="tile"') == 48 and second.count('class="tile"') == 12
    assert 'href="/?page=2#gallery"' in first and 'href="/#gallery" rel="prev"' in second and "Next" not in second


def test_nothing_within_the_threshold_says_how_near_the_nearest_is(client):
    page = client.get("/search?query_row=4&threshold=0").text
    assert re.search(r"No image is within a distance of 0; the nearest is at 0\.0\d\d", page)
    assert "No image passes the filters" in client.get("/search?query_row=4&camera=3").text


def test_the_card_is_shown_and_unknown_is_said(client, root):
    page = client.get("/model").text
    for said in ("Drawn", "SYSU-MM01", "61.25", "32 × 16 pixels", CARD["model"], "torch 2.9.0"):
        assert said in page
    drawn = views.data_set({**CARD, "identities": 64})
    assert drawn == "64 identities in the layout of SYSU-MM01, which has 395"
    assert views.data_set({**CARD, "identities": 395}) == views.data_set(CARD) == "SYSU-MM01"
    blank = Quarters()
    blank.card = {**CARD, "method": "", "dataset": "", "protocol": "", "scores": []}
    with TestClient(build_app(blank, [open_gallery(root)]), base_url="http://localhost") as other:
        page = other.get("/model").text
    assert page.count("unknown") >= 4 and "Unknown: the file of the model holds no results." in page


def test_names_are_escaped(client):
    row = 36
    for page in (client.get(f"/search?query_row={row}&modality=both"), client.get("/?modality=visible")):
        assert "<b>x" not in page.text and "&lt;b&gt;x\\n&amp; \u4eba.png" in page.text
    name = client.get(f"/api/search?query_row={row}").json()["query"]["name"]
    assert name.endswith('a "q" <b>x\\n& \u4eba.png')
    assert client.get(f"/image/first/{row}").headers["content-type"] == "image/jpeg"


def test_the_api_page_lists_every_parameter(client):
    page = client.get("/api").text
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/api/search", "/api/galleries"}
    names = {each["name"] for each in schema["paths"]["/api/search"]["get"]["parameters"]}
    assert names == set(Wanted.model_fields) and all(f"<code>{name}</code>" in page for name in names)
    assert "integer, 1 to 200" in page and "POST /api/search" in page and "<code>query_modality</code>" in page
    assert "<td>integer, 0 or more</td>" in page and "<td>number, 0 to 2</td><td></td>" in page
    assert "<td>boolean</td><td>false</td>" in page and "<td>visible | infrared</td><td>infrared</td>" in page
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404  # they would load scripts from elsewhere


def test_the_description_names_the_status_of_every_refusal(client):
    def described(method: str) -> set[int]:
        return {int(code) for code in client.get("/openapi.json").json()["paths"]["/api/search"][method]["responses"]}

    image = {"image": ("a.png", whole(32, 64))}
    answers = {
        "get": [client.get(f"/api/search?{asked}") for asked in ("", "query_row=99", "upload=x", "query_row=0&top=x")],
        "post": [
            *(send(client, content, "/api/search") for content, *_ in BAD.values()),
            client.post("/api/search", content=b"x"),
            client.post("/api/search", files=image, headers={"origin": "http://evil.example"}),
            send(client, whole(32, 64), "/api/search", gallery="third"),
        ],
    }
    for method, got in answers.items():
        assert all(set(answer.json()) == {"error"} for answer in got)
        assert {answer.status_code for answer in got} | {200, 503} <= described(method)
    assert 408 in described("post")


def test_galleries_are_listed(client):
    first, second = client.get("/api/galleries").json()["galleries"]
    assert first == {
        "name": "first",
        "images": {"visible": 25, "infrared": 12},
        "identities": 6,
        "cameras": ["1", "2", "3"],
    }
    assert second["name"] == "second"
    assert client.get("/api/galleries").json()["card"] == CARD


# -------------------------------------------------------------------------------------------------------------- uploads


def test_an_upload_finds_its_person_and_has_an_address(client, root):
    answer = send(client, infrared(root, 3), query_modality="infrared", top="4", gallery="first")
    assert answer.status_code == 303
    page = client.get(answer.headers["location"])
    assert page.status_code == 200 and page.headers["cache-control"] == "no-store"
    assert [int(identity) for identity in re.findall(r"Identity</span> (\d+)", page.text)] == [3] * 4
    assert page.text.count('class="tile"') == 4  # neither right nor wrong: nobody knows who the query is
    token = re.search(r"upload=([\w-]+)", answer.headers["location"])[1]
    assert f'name="upload" value="{token}"' in page.text  # the filters keep it
    tile = Image.open(io.BytesIO(client.get(f"/upload/{token}").content))
    assert tile.format == "JPEG" and tile.size == (32, 64)


def test_the_api_takes_an_image(client, root):
    sent = {"files": {"image": ("q.png", infrared(root, 2))}, "params": {"top": 2, "gallery": "first"}}
    reply = client.post("/api/search", **sent, data={"query_modality": "infrared"}).json()
    assert [hit["identity"] for hit in reply["results"]] == ["2", "2"] and reply["query"]["identity"] is None
    assert client.get(reply["query"]["page"]).status_code == 200


def test_uploads_of_any_size_stay_in_memory(client, monkeypatch, tmp_path):
    def refuse(self):
        raise AssertionError("an upload was written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    noise = np.random.default_rng(0).integers(0, 256, (1200, 600, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    assert len(stream.getvalue()) > 2 * 2**20  # twice what the parser keeps in memory by default
    client.app.state.service.limit, before = 2**23, client.app.state.service.limit
    try:
        assert send(client, stream.getvalue()).status_code == 303
    finally:
        client.app.state.service.limit = before


def test_old_uploads_are_forgotten(client):
    uploads = Uploads(kept=2)
    tokens = [uploads.add(number) for number in range(2)]
    assert uploads.get(tokens[0]) == 0  # which makes the other one the oldest
    uploads.add(2)
    assert list(uploads.known.values()) == [0, 2]
    answer = client.get("/search?upload=" + tokens[1])
    assert answer.status_code == 410 and "no longer in memory" in alert(answer)
    assert client.get("/upload/x").status_code == 410


def png(width: int, height: int) -> bytes:
    """A PNG of this size that holds no pixels: only its header can be read."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def whole(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(stream, "PNG")
    return stream.getvalue()


BAD = {
    "a text": (b"not an image at all", 422, "of no known format"),
    "nothing": (b"", 400, "no image was sent"),
    "damaged": (whole(64, 128)[:90], 422, "not a readable image"),
    "1 pixel": (whole(1, 1), 422, "1 x 1 pixels are too few"),
    "200 megapixels": (png(20_000, 10_000), 413, "more than 50 million pixels"),
    "60 megapixels": (png(10_000, 6_000), 413, "more than 50 million pixels"),
    "too many bytes": (bytes(LIMIT + 1), 413, "the most that is taken"),
    "far too many bytes": (bytes(5 * LIMIT), 413, "the most that is taken"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "of no known format"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_uploads_get_a_message(client, name):
    content, status, message = BAD[name]
    answer = send(client, content, name="<i>.jpg")
    assert answer.status_code == status and message in alert(answer) and "<i>" not in answer.text
    assert 'enctype="multipart/form-data"' in answer.text  # another image can be sent at once
    reply = send(client, content, "/api/search")
    assert reply.status_code == status and message in reply.json()["error"]


def test_a_body_without_end_is_not_read_to_its_end(client):
    sent = 0

    def endless():
        nonlocal sent
        while sent < 100 * LIMIT:
            sent += LIMIT
            yield bytes(LIMIT)

    async def read():
        from starlette.requests import Request

        from tools.serving.asked import Refusal
        from tools.serving.uploads import read_body

        chunks = endless()

        async def receive():
            return {"type": "http.request", "body": next(chunks), "more_body": True}

        with pytest.raises(Refusal) as refusal:
            request = Request({"type": "http", "headers": [], "method": "POST"}, receive)
            await read_body(request, LIMIT, LIMIT, partial(asyncio.sleep, 0))
        return refusal.value.status

    assert asyncio.run(read()) == 413 and sent <= 10 * LIMIT


def ask(app, body, path: str = "/api/search") -> list[int]:
    """The statuses that the server answers to the start of a form; body: called, and awaited, for the rest of it."""
    statuses = []
    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
    first = iter([{"type": "http.request", "body": b"--b", "more_body": True}])

    async def receive():
        return next(first, None) or await body()

    async def send(message):
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers, "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return statuses


def test_who_sends_slowly_gives_way(client, root, monkeypatch):
    async def never():
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "SECONDS", 0.01)
        assert ask(client.app, never) == [408]
    monkeypatch.setattr(client.app.state.service, "bodies", asyncio.Semaphore(0))  # all are held by others
    assert send(client, infrared(root, 1), "/api/search").status_code == 200  # a small one needs none


def test_who_leaves_in_the_middle_of_an_upload_is_no_fault_of_the_program(client):
    async def gone():
        return {"type": "http.disconnect"}

    for path in ("/search", "/api/search"):
        assert ask(client.app, gone, path) == [400]  # without an exception, which a server would print


def test_a_form_that_is_none(client):
    assert client.post("/search", content=b"x").status_code == 415
    damaged = client.post("/api/search", content=b"x", headers={"content-type": "multipart/form-data; boundary=y"})
    assert damaged.status_code == 400 and set(damaged.json()) == {"error"}
    body = b'--y\r\nContent-Disposition: form-data; name="image"; filename=" "\r\n\r\n%s\r\n--y--\r\n' % whole(32, 64)
    written = client.post("/api/search", content=body, headers={"content-type": "Multipart/Form-Data; boundary=y"})
    assert written.status_code == 200 and written.json()["query"]["name"] == "image"
    assert send(client, whole(32, 64), query_modality="thermal").status_code == 422
    assert (
        send(client, whole(32, 64), "/api/search", nonsense="1")
        .json()["error"]
        .startswith("nonsense: there is no such")
    )


# ------------------------------------------------------------------------------------------------------------ bad input

WRONG = {
    "/search": (422, "no query"),
    "/search?query_row=-1": (422, "query_row"),
    "/search?query_row=37": (404, "its rows are 0 to 36"),
    "/search?query_row=99999999999999999999": (422, "query_row"),
    "/search?query_row=x": (422, "query_row = &#39;x&#39;"),
    "/search?query_row=1&gallery=third": (404, "choose one of: first, second"),
    "/search?query_row=1&query_gallery=../first": (404, "choose one of"),
    "/search?query_row=1&top=0": (422, "top"),
    "/search?query_row=1&top=100000": (422, "top"),
    "/search?query_row=1&threshold=nan": (422, "threshold"),
    "/search?query_row=1&threshold=3": (422, "threshold"),
    "/search?query_row=1&modality=thermal": (422, "modality"),
    "/search?query_row=1&nonsense=1": (422, "nonsense: there is no such parameter"),
    "/?page=0": (422, "page"),
    "/?gallery=third": (404, "choose one of"),
    "/image/first/37": (404, "its rows are 0 to 36"),
    "/image/first/..%2F..%2Fetc%2Fpasswd": (404, "no such page"),
    "/image/first/cam1": (422, "row"),
    "/static/..%2F..%2Fviews.py": (404, "no such page"),
    "/static/../app.py": (404, "no such page"),
    "/nowhere": (404, "no such page"),
}


@pytest.mark.parametrize("address", WRONG)
def test_wrong_addresses_get_a_message(client, address):
    status, message = WRONG[address]
    answer = client.get(address)
    assert (answer.status_code, message in alert(answer)) == (status, True), alert(answer)
    if address.startswith("/search"):
        assert client.get("/api" + address).json().keys() == {"error"}


def test_an_image_that_is_gone(tmp_path):
    root = make_gallery(tmp_path, identities=2)
    (root / "images" / "cam1" / "0001" / "0.png").unlink()
    (root / "images" / "cam1" / "0001" / "1.png").write_bytes(b"damaged")
    with TestClient(build_app(Quarters(), [open_gallery(root)]), base_url="http://127.0.0.1") as client:
        page = client.get("/search?query_row=4").text
        assert "The image is gone:<br>cam1/0001/0.png" in page and f"/image/{tmp_path.name}/0" not in page
        for row in (0, 1):
            gone = client.get(f"/image/{tmp_path.name}/{row}")
            assert gone.status_code == 404 and gone.headers["content-type"].startswith("image/svg")
        assert client.get("/search?query_row=0").status_code == 200
        there = {hit["row"]: hit["there"] for hit in client.get("/api/search?query_row=4").json()["results"]}
    assert [row for row, found in there.items() if not found] == [0]


def test_only_images_are_ever_sent(tmp_path):
    """Whatever an images.csv names: a file is decoded and drawn again, never handed out."""
    root = make_gallery(tmp_path, identities=1)
    secret = tmp_path / "secret.txt"
    secret.write_text("the password")
    table = root / "images.csv"
    table.write_text(table.read_text().replace(str(root / "images" / "cam1" / "0001" / "0.png"), str(secret)))
    with TestClient(build_app(Quarters(), [open_gallery(root)]), base_url="http://localhost") as client:
        answer = client.get(f"/image/{tmp_path.name}/0")
    assert answer.status_code == 404 and "password" not in answer.text


def test_a_fault_of_the_program_is_a_page_too(root, monkeypatch):
    with TestClient(
        build_app(Quarters(), [open_gallery(root)]), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        monkeypatch.setattr(Library, "search", lambda *arguments: 1 / 0)
        assert "the program failed" in alert(client.get("/search?query_row=1"))
        answer = client.get("/api/search?query_row=1")
    assert answer.status_code == 500 and set(answer.json()) == {"error"}


# --------------------------------------------------------------------------------------------------------------- safety


STRANGE = ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "first"]
STRANGE += ["evil@127.0.0.1", "127.0.0.1/evil", "127.0.0.1:8000:1", "127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1?x"]


@pytest.mark.parametrize("host", STRANGE)
def test_other_names_are_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421 and "--name NAME" in answer.text
    answer = client.get("/api/galleries", headers={"host": host})
    assert answer.status_code == 421 and "--name NAME" in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.7:80", "LOCALHOST"])
def test_its_own_names_are_answered(client, host):
    assert client.get("/model", headers={"host": host}).status_code == 200


def test_a_name_can_be_added(root):
    with TestClient(
        build_app(Quarters(), [open_gallery(root)], names=["Lab.example"]), base_url="http://lab.example"
    ) as named:
        assert named.get("/model").status_code == 200


def test_forms_of_other_sites_are_refused(client, root):
    sent = {"image": ("q.png", infrared(root, 1))}
    assert client.post("/search", files=sent, headers={"origin": "http://evil.example"}).status_code == 403
    for origin in ("null", "http://[", "http://127.0.0.1:9000"):
        assert client.post("/search", files=sent, headers={"origin": origin}).status_code == 403
    assert client.post("/search", files=sent, headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


def test_the_head_of_an_answer_can_be_asked_for(root):
    import http.client

    with running(build_app(Quarters(), [open_gallery(root)])) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        for path, status in (("/", 200), ("/api/search?query_row=1", 200), ("/image/first/0", 200), ("/nowhere", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, b"") and int(answer.headers["content-length"]) > 0
            connection.close()


def test_what_an_address_takes_is_said(client):
    answer = client.put("/api/search")
    assert answer.status_code == 405 and "GET" in answer.headers["allow"] and "/api lists" in answer.json()["error"]


def test_every_answer_is_guarded(client):
    for path in ("/", "/nowhere", "/static/style.css", "/image/first/0", "/api/galleries"):
        headers = client.get(path, headers={"origin": "http://evil.example"}).headers
        assert (
            "default-src 'none'" in headers["content-security-policy"] and headers["referrer-policy"] == "same-origin"
        )
        assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers


def test_pages_need_no_other_host_and_no_inline_code(client):
    addresses = ("/", "/model", "/api", "/search?query_row=4&rerank=1", "/nowhere")
    for text in (client.get(path).text for path in (*addresses, "/static/style.css", "/static/page.js")):
        assert not re.search(r"(?:src|href|action|url)[=(]\s*[\"']?(?:https?:)?//", text)
        assert not re.search(r"<script(?! src)|<style|\son\w+=|\sstyle=", text)


def test_too_many_waiting_requests_are_refused(client):
    service = client.app.state.service
    service.waiting = 10_000
    try:
        answer = client.get("/api/search?query_row=4")
    finally:
        service.waiting = 0
    assert answer.status_code == 503 and "try again" in answer.json()["error"] and answer.headers["retry-after"]


def test_the_model_works_on_one_image_at_a_time(root):
    inside, most = 0, 0

    class Counting(Quarters):
        def __call__(self, images, modality):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.01)
            inside -= 1
            return super().__call__(images, modality)

    with TestClient(build_app(Counting(), [open_gallery(root)]), base_url="http://localhost") as client:
        codes = []
        work = lambda: codes.append(send(client, infrared(root, 1), "/api/search").status_code)  # noqa: E731
        threads = [threading.Thread(target=work) for _ in range(12)]
        for step in (threading.Thread.start, threading.Thread.join):
            for thread in threads:
                step(thread)
    assert codes == [200] * 12 and most == 1


def test_many_clients_get_answers(root, capsys):
    with running(build_app(Quarters(), [open_gallery(root)])) as address:
        benchmark.main([address, "--clients", "12", "--seconds", "0.5"])
    assert re.search(r"12 clients, \d+ s: [1-9]\d* requests \(\d+ a second\), 0 errors\n", capsys.readouterr().out)


def test_the_benchmark_says_where_nobody_answers(capsys):
    assert exit_code(partial(benchmark.main, ["http://127.0.0.1:1/"])) == 2
    assert "start it first" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ the parts


def test_columns_keep_texts_apart():
    cameras = column(["10", "2", "", "10"])
    assert cameras.values == ["", "2", "10"] and cameras.codes.tolist() == [2, 1, 0, 2]
    assert cameras.chosen(["10", "no such"]).tolist() == [True, False, False, True]


def test_galleries_of_one_name_are_told_apart(root, tmp_path):
    again = tmp_path / "first"
    again.mkdir()
    shelves = Library([open_gallery(root), open_gallery(make_gallery(again, identities=1))], CARD).shelves
    assert list(shelves) == ["first", "first-2"]


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def embedded(trained, tmp_path_factory, root) -> tuple[Path, Path]:
    """A trained run, and a gallery of it: the folder of the drawn one with this model's card and vectors."""
    folder = tmp_path_factory.mktemp("embedded")
    model = open_model(trained)
    drawn = open_gallery(root)
    vectors = [model([path], modality).numpy() for path, modality in zip(drawn.paths, drawn.modalities)]
    np.save(folder / "vectors.npy", np.concatenate(vectors))
    (folder / "images.csv").write_bytes((root / "images.csv").read_bytes())
    (folder / "card.json").write_text(json.dumps(model.card))
    return trained, folder


def test_the_command_answers(embedded, capsys):
    run, gallery = embedded
    assert (
        exit_code(partial(serve.main, [str(gallery), "--model", str(run), "--device", "cpu", "--port", "0", "--check"]))
        == 0
    )
    printed = capsys.readouterr()
    assert re.search(r"http://127\.0\.0\.1:\d+/ shows the page.*\n.* found 12 of 12 images\n", printed.out)
    assert printed.err == ""


def test_a_gallery_of_another_model_is_refused(embedded, root, capsys):
    command = [str(root), "--model", str(embedded[0]), "--device", "cpu", "--port", "0", "--check"]
    assert exit_code(partial(serve.main, command)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {root}/card.json: made by the model 000000000000") and printed.count("\n") == 1


def test_an_address_in_use_is_one_line(embedded, capsys):
    run, gallery = embedded
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert exit_code(partial(serve.main, [str(gallery), "--model", str(run), "--port", str(port)])) == 2
    assert (
        capsys.readouterr().err
        == f"error: --port {port}: is in use on 127.0.0.1; give another one, or 0 for a free one\n"
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--host", "256.1.1.1"], "--host 256.1.1.1"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1"),
        (["--port", "70000"], "65535"),
    ],
)
def test_an_address_that_cannot_be_had(embedded, capsys, arguments, said):
    run, gallery = embedded
    assert exit_code(partial(serve.main, [str(gallery), "--model", str(run), *arguments])) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1


def test_ctrl_c_ends_the_server(embedded):
    run, gallery = embedded
    command = [sys.executable, "-m", "tools.serve", str(gallery), "--model", str(run), "--device", "cpu", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    with process:
        assert "shows the page" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "warning: whoever reaches 0.0.0.0 can search and see these images\ninterrupted\n"

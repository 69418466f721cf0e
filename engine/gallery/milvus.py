"""Galleries in Milvus, a vector database: a collection holds the rows of a gallery folder, and is searched like one.

The same code speaks to Milvus Lite, which keeps its collections in a local file and runs within this process, and to a
server.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from logging import NullHandler, getLogger
from pathlib import Path
from typing import Any

import numpy as np

from engine.gallery.card import CARD
from engine.gallery.search import Found, nothing
from utils.errors import UserError, reason, shown
from utils.extras import require
from utils.files import expanded
from utils.schema import misfit

TOKEN = "MILVUS_TOKEN"  # the environment variable that holds the token of a server, or user:password
CONNECTING, ANSWERING = 10.0, 120.0  # seconds that a server may take
LITE = ".db"  # how the name of a local file ends
CARD_KEY = "mcja.card"  # the collection's property that holds the card, which is its description as well
TEXTS = ("path", "identity", "camera", "modality")
LONGEST = 65535  # bytes of a text in Milvus
MOST = 16384  # images that Milvus finds for a query
AT_ONCE = 16  # queries of a request, so that an answer with vectors stays small


@contextmanager
def connected(uri: str, existing: bool = False) -> Iterator[Any]:
    """A MilvusClient. uri: a local file of Milvus Lite, or http(s)://host:port, whose token is in MILVUS_TOKEN.

    existing: a file that is not there is an error. Raises UserError, here and in the block, for what Milvus refuses.
    """
    pymilvus = require("pymilvus", "Milvus")
    local = local_file(uri, existing)
    if local:
        require("milvus_lite", "Milvus Lite")
        getLogger("milvus_lite").addHandler(NullHandler())
    getLogger("pymilvus").setLevel(100)  # it logs what it raises
    with faults_said(uri, local):
        access = {} if local else {"token": os.environ.get(TOKEN, "")}
        client = pymilvus.MilvusClient(str(local or uri), timeout=CONNECTING, **access)
        try:
            yield client
        finally:
            client.close()
            if local:
                release(local)


def release(local: Path) -> None:
    """End the threads that serve a local file; where they cannot be ended, they end with the process."""
    with suppress(Exception):
        require("milvus_lite.server_manager", "Milvus Lite").server_manager_instance.release_server(str(local))


def local_file(uri: str, existing: bool) -> Path | None:
    """The file of Milvus Lite that a URI names; None for a server. UserError for what can be neither."""
    if "://" in uri:
        if not re.match(r"https?://[^/@]+", uri) or "@" in uri:
            raise UserError(f"--milvus: give http://HOST:PORT or https://HOST:PORT, and a token in {TOKEN}")
        return None
    path = expanded(uri).absolute()
    if path.suffix != LITE:
        raise UserError(f"{shown(uri)}: give a file for Milvus Lite whose name ends in {LITE}, or http://HOST:PORT")
    if not path.exists() if existing else not path.parent.is_dir():
        raise UserError(f"{shown(path if existing else path.parent)}: no such {'file' if existing else 'folder'}")
    return path


@contextmanager
def faults_said(uri: str, local: Path | None) -> Iterator[None]:
    """UserError for an exception of Milvus or of the connection to it."""
    faults = (require("pymilvus", "Milvus").MilvusException, require("grpc", "Milvus").RpcError)
    try:
        yield
    except faults as error:
        said = reason(Exception(getattr(error, "message", "") or str(error)))
        if local and "Open local" in said:
            said = "another process uses it, or it is none of this version of Milvus Lite"
        elif "Fail connecting" in said:
            said = f"no answer within {CONNECTING:.0f} s, or the token in {TOKEN} is refused"
        raise UserError(f"{shown(uri)}: {said}") from None


def kept(text: str) -> str:
    """A text as Milvus can keep it, which is UTF-8: bytes of a name that are none are escaped, in quotes as in JSON."""
    return json.dumps(text) if text.startswith('"') or any("\ud800" <= sign <= "\udfff" for sign in text) else text


def given_back(text: str) -> str:
    """The text that `kept` was given; an absolute path does not start with a quote."""
    return json.loads(text) if text.startswith('"') else text


def literal(text: str) -> str:
    """A text in an expression of Milvus, in quotes."""
    signs = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return f'"{"".join(signs.get(sign, sign) for sign in kept(text))}"'


def one_of(field: str, values: Iterable[str]) -> str:
    """The condition that a field has one of these values."""
    return f"{field} in [{', '.join(map(literal, values))}]"


class Column(Sequence[str]):
    """One field of the rows of a collection that were found."""

    def __init__(self, size: int, known: Mapping[int, Mapping[str, str]], field: str):
        self.size, self.known, self.field = size, known, field

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row: Any) -> Any:
        return self.known[row][self.field]


class Collection:
    """A collection that holds a gallery; an index over it, and what is known of each row that was found.

    A row that was never found has no fields here: a collection may hold more than this machine can.
    """

    vectors = None  # `Found` brings them

    def __init__(self, client: Any, name: str):
        self.client, self.name, self.root = client, name, name
        self.card = card_in(client, name)
        client.load_collection(name, timeout=ANSWERING)
        self.size = self.count()
        self.known: dict[int, dict[str, str]] = {}
        self.paths, self.identities, self.cameras, self.modalities = (
            Column(self.size, self.known, field) for field in TEXTS
        )

    def __len__(self) -> int:
        return self.size

    def count(self, condition: str = "") -> int:
        """The number of rows that fulfil a condition."""
        (answer,) = self._query(condition, ["count(*)"])
        return int(answer["count(*)"])

    def rows(self, condition: str) -> list[dict[str, Any]]:
        """The rows that fulfil a condition, in order, with their texts and vectors ([D] float32). Few, please."""
        answer = self._query(condition, ["row", "vector", *TEXTS])
        return [self._row(row) for row in sorted(answer, key=lambda row: row["row"])]

    def _query(self, condition: str, fields: list[str]) -> Sequence[Mapping[str, Any]]:
        return self.client.query(
            self.name, filter=condition, output_fields=fields, timeout=ANSWERING, consistency_level="Strong"
        )

    def _row(self, found: Mapping[str, Any]) -> dict[str, Any]:
        texts = {field: given_back(found[field]) for field in TEXTS}
        self.known[found["row"]] = texts
        return {"row": found["row"], "vector": np.array(found["vector"], dtype=np.float32), **texts}

    def rows_of(self, names: Iterable[str]) -> dict[str, list[int]]:
        """The rows whose path is one of these."""
        found: dict[str, list[int]] = {}
        for row in self.rows(one_of("path", sorted(names))):
            found.setdefault(row["path"], []).append(row["row"])
        return found

    def condition(self, modality: str | None, cameras: Sequence[str]) -> str:
        """Of rows of this modality and these cameras; "" for all. UserError where a camera, or all, has no row."""
        for camera in cameras:
            if not self.count(one_of("camera", [camera])):
                raise UserError(f"{self.name}: no image is of camera {camera!r}")
        parts = [one_of("modality", [modality])] if modality else []
        parts += [one_of("camera", cameras)] if cameras else []
        condition = " and ".join(parts)
        if not self.count(condition):
            raise UserError(f"{self.name}: there is no such image to search among")
        return condition

    def search(self, queries: np.ndarray, count: int, allowed: str | None = None) -> Found:
        """The first rows of each query, with their vectors, [Q, D] float32 -> [Q, count]. allowed: see `condition`.

        Cosines are computed here, as by `exact`, so that the two can be compared to the bit. Which of several rows is
        found that tie for the last place is Milvus's choice.
        """
        if count > MOST:
            raise UserError(f"{self.name}: Milvus finds {MOST} images for a query at most, not {count}")
        rows, scores = nothing(len(queries), count)[:2]
        vectors = np.zeros((len(queries), count, queries.shape[1]), dtype=np.float32)
        for start in range(0, len(queries), AT_ONCE):
            for number, hits in enumerate(self._hits(queries[start : start + AT_ONCE], count, allowed or ""), start):
                found = np.array([hit["vector"] for hit in hits], dtype=np.float32).reshape(len(hits), -1)
                cosines = (found.astype(np.float64) * queries[number]).sum(axis=1) if hits else []
                numbers = np.array([hit["row"] for hit in hits], dtype=np.int64)
                order = np.lexsort((numbers, -np.asarray(cosines)))
                rows[number, : len(hits)], scores[number, : len(hits)] = numbers[order], np.asarray(cosines)[order]
                vectors[number, : len(hits)] = found[order]
        return Found(rows, scores, vectors)

    def _hits(self, queries: np.ndarray, count: int, condition: str) -> list[list[dict[str, Any]]]:
        if not self.size:
            return [[] for _ in queries]
        answers = self.client.search(
            self.name,
            data=[np.asarray(query, dtype=np.float32).tolist() for query in queries],
            limit=count,
            filter=condition,
            output_fields=["row", "vector", *TEXTS],
            search_params={"metric_type": "IP"},
            timeout=ANSWERING,
            consistency_level="Strong",
        )
        return [[self._row({"row": hit.get("id"), **hit["entity"]}) for hit in hits] for hits in answers]


def open_collection(client: Any, name: str) -> Collection:
    """UserError where there is none of this name, or none that holds a gallery."""
    if not client.has_collection(require_name(name), timeout=ANSWERING):
        there = ", ".join(sorted(client.list_collections(timeout=ANSWERING))[:20]) or "none"
        raise UserError(f"there is no collection {name}; give it by tools.hand_over, or name one of: {there}")
    return Collection(client, name)


def require_name(name: str) -> str:
    """The name. UserError where no collection can have it."""
    if not re.fullmatch(r"[A-Za-z_]\w{0,254}", name, re.ASCII):
        raise UserError(f"{name!r} is no name of a collection: give letters, digits and underscores, no digit first")
    return name


def card_in(client: Any, name: str) -> dict[str, Any]:
    """The card of the model that made a collection's vectors. UserError where it has none."""
    said = client.describe_collection(name, timeout=ANSWERING)
    properties = said.get("properties")  # Milvus Lite keeps no description, and old versions of pymilvus tell no dict
    kept_there = properties.get(CARD_KEY) if isinstance(properties, Mapping) else None
    for text in (kept_there, said.get("description")):
        with suppress(ValueError, TypeError):
            card = json.loads(text)
            if not misfit(card, CARD):
                return card
    raise UserError(f"the collection {name} holds no gallery; name another one")

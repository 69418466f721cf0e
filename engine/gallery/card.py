"""A model's card: what it is, and how good it was. Every gallery and every export of the model holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from engine.checkpoint import Checkpoint
from utils.errors import UserError
from utils.results import ROW, read_rows
from utils.runs import RESULTS, versions
from utils.schema import TEXT, Shape, each, kind, maybe, table, whole
from utils.types import ResultRow

HASH = kind(
    "64 hexadecimal digits", lambda v: isinstance(v, str) and len(v) == 64 and set(v) <= set("0123456789abcdef")
)
CARD: Shape = {
    "model": HASH,
    "method": TEXT,
    "image_size": kind("two whole numbers", lambda v: isinstance(v, list) and [type(n) for n in v] == [int, int]),
    "dimension": whole(1),
    "dataset": TEXT,
    "protocol": TEXT,
    "scores": each(ROW),
    "versions": table(TEXT, maybe(TEXT)),
}


class Model(Protocol):
    """What a card asks of an `engine.embed.Embedder`."""

    hash: str
    size: tuple[int, int]
    dimension: int
    config: dict[str, Any]


def card_of(checkpoint: Checkpoint, embedder: Model) -> dict[str, Any]:
    """The card, plain values for a JSON file; `scores` and `protocol` are empty where nothing says how good it was.

    checkpoint: the one that the embedder was made from, with an origin.
    """
    assert checkpoint.origin is not None
    rows = scores(checkpoint)
    return {
        "model": embedder.hash,
        "method": str(embedder.config.get("prefix", "")),
        "image_size": list(embedder.size),
        "dimension": embedder.dimension,
        "dataset": checkpoint.origin.dataset,
        "identities": checkpoint.origin.num_ids,
        "trial": checkpoint.origin.trial,
        "seed": checkpoint.origin.seed,
        "protocol": rows[0]["protocol"] if rows else "",
        "scores": rows,
        "versions": versions(),
    }


def scores(checkpoint: Checkpoint) -> list[Mapping[str, Any]]:
    """Rows of results of exactly this model: of its test, if the run's folder holds one, else what training knew."""
    try:
        found = read_rows(checkpoint.folder / RESULTS) if checkpoint.folder else []
    except UserError:  # a card without them is still one
        found = []
    tested = [row._asdict() for row in found if (row.stage, row.epoch) == ("test", checkpoint.epoch)]
    known = checkpoint.states.get("progress", {}).get("rows", [])
    return tested or [
        {name: row[name] for name in ResultRow._fields} for row in known if row["epoch"] == checkpoint.epoch
    ]

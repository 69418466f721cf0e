"""Fills a collection in Milvus with the rows of a gallery folder, as far as it does not hold them."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.gallery.folder import Gallery
from engine.gallery.milvus import ANSWERING, CARD_KEY, LONGEST, TEXTS, Collection, kept, open_collection
from utils.errors import UserError, shown
from utils.extras import require

INDEXES = ("FLAT", "AUTOINDEX")
BATCH_BYTES, BATCH_ROWS = 16 * 2**20, 1000  # of one request; a server takes 64 MB
COMPARED = 32  # rows, evenly spread, that tell whether a collection holds this gallery


def hand_over(
    gallery: Gallery, client: Any, name: str, index: str, said: Callable[[int], object] = lambda count: None
) -> int:
    """Give a collection the rows that it does not hold; how many those were. It is made where there is none.

    said: called with the number of rows after each batch. Killed and called again, it continues: rows have their
    numbers, and those that may be there are written over. UserError for a collection of another model or of other
    images.
    """
    if not client.has_collection(name, timeout=ANSWERING):
        _make(client, name, gallery)
    collection = _opened(client, name, index)
    _require_same(collection, gallery)
    step = max(1, min(BATCH_ROWS, BATCH_BYTES // (4 * gallery.vectors.shape[1] + 1024)))
    start, safe = _begin(collection, len(gallery), step)
    said(start)
    for first in range(start, len(gallery), step):
        rows = _batch(gallery, first, min(first + step, len(gallery)))
        write = client.upsert if first < safe else client.insert
        write(name, rows, timeout=ANSWERING)
        said(len(rows))
    if (count := collection.count()) != len(gallery):
        raise UserError(f"the collection {name} holds {count} rows instead of {len(gallery)}; give the command again")
    return len(gallery) - len(collection)


def _make(client: Any, name: str, gallery: Gallery) -> None:
    kinds = require("pymilvus", "Milvus").DataType
    card = json.dumps({key: value for key, value in gallery.card.items() if key != "rows"}, sort_keys=True)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=card)
    schema.add_field("row", kinds.INT64, is_primary=True)
    schema.add_field("vector", kinds.FLOAT_VECTOR, dim=gallery.vectors.shape[1])
    for field in TEXTS:
        schema.add_field(field, kinds.VARCHAR, max_length=LONGEST)
    client.create_collection(name, schema=schema, properties={CARD_KEY: card}, timeout=ANSWERING)


def _opened(client: Any, name: str, index: str) -> Collection:
    """The collection, loaded; its index is made where a killed call did not come that far."""
    if not client.list_indexes(name):
        parameters = client.prepare_index_params()
        parameters.add_index("vector", index_type=index, metric_type="IP")
        client.create_index(name, parameters, timeout=ANSWERING)
    return open_collection(client, name)


def _require_same(collection: Collection, gallery: Gallery) -> None:
    """UserError unless the collection holds the first rows of this gallery, by this model."""
    mine, there = gallery.card["model"], collection.card["model"]
    if mine != there:
        raise UserError(
            f"the collection {collection.name} is of the model {there[:12]}, {shown(gallery.root)} of {mine[:12]}; "
            "give another --collection"
        )
    if len(collection) > len(gallery):
        raise UserError(
            f"the collection {collection.name} holds {len(collection)} rows, {shown(gallery.root)} {len(gallery)}: "
            "another gallery; give another --collection"
        )
    if not len(collection):
        return
    chosen = np.unique(np.linspace(0, len(collection) - 1, COMPARED).astype(int)).tolist()
    for row in collection.rows(f"row in {chosen}"):
        texts, vector = _texts(gallery, row["row"]), gallery.vectors[row["row"]]
        if any(row[field] != texts[field] for field in TEXTS) or not np.allclose(row["vector"], vector, atol=1e-6):
            raise UserError(
                f"the collection {collection.name} holds another gallery: its row {row['row']} is "
                f"{shown(row['path'])}; give another --collection"
            )


def _begin(collection: Collection, count: int, step: int) -> tuple[int, int]:
    """(first row to write, first row that no killed call can have written)."""
    there = len(collection)
    if there == count == collection.count(f"row < {count}"):
        return count, count

    def incomplete(batches: int) -> bool:
        return collection.count(f"row < {batches * step}") < batches * step

    whole = bisect_left(range(1, there // step + 1), True, key=incomplete)
    start = whole * step
    if there == start:
        return start, start
    return start, (start + step if collection.count(f"row < {start + step}") == there else count)


def _texts(gallery: Gallery, row: int) -> dict[str, str]:
    columns = (gallery.paths, gallery.identities, gallery.cameras, gallery.modalities)
    return {field: column[row] for field, column in zip(TEXTS, columns)}


def _batch(gallery: Gallery, first: int, stop: int) -> list[dict[str, Any]]:
    vectors = np.array(gallery.vectors[first:stop])
    rows = []
    for row in range(first, stop):
        texts = {field: kept(text) for field, text in _texts(gallery, row).items()}
        for field, text in texts.items():
            if len(text.encode()) > LONGEST:
                raise UserError(
                    f"{shown(gallery.root)}: the {field} of row {row} has more than {LONGEST} bytes, Milvus's limit"
                )
        rows.append({"row": row, "vector": vectors[row - first], **texts})
    return rows

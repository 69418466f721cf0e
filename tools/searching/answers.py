"""Query images and a gallery -> the gallery's images that are nearest to each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.gallery.folder import Gallery
from engine.gallery.milvus import Collection
from engine.gallery.search import CANDIDATES, Found, Index, reranked, without
from engine.gallery.sources import PARENT
from tools.searching.galleries import absent_modality, rows_of
from utils.errors import UserError


class Query(NamedTuple):
    """An image that is searched for."""

    path: str
    modality: str
    identity: str  # empty: not known
    own: np.ndarray  # rows of the gallery that are this very file, which no answer names


class Hit(NamedTuple):
    """An image that was found. An identity or a camera that is not known is an empty text."""

    rank: int
    row: int
    cosine: float
    distance: float  # 1 - cosine
    reranked: float | None  # distance after re-ranking; None: not re-ranked
    identity: str
    camera: str
    modality: str
    path: str
    right: bool | None  # whether it shows the query's identity; None: not known


class Answer(NamedTuple):
    query: Query
    hits: list[Hit]


def queries_of(
    gallery: Gallery | Collection, images: Sequence[Path], modality: str | None, identity: str | None
) -> list[Query]:
    """The images as queries; what the gallery knows of those that lie in it serves where nothing else is said.

    modality: of all; None: an image that does not lie there is of the modality of which there is none. identity: PARENT
    where the folder in which an image lies names it. UserError for an image whose modality nobody says.
    """
    names = [os.path.abspath(image) for image in images]
    absent = None if modality else absent_modality(gallery)
    rows = rows_of(gallery, {*names, *map(os.path.realpath, names)})
    queries = []
    for image, name in zip(images, names):
        own = sorted({*rows[name], *rows[os.path.realpath(name)]})
        kind = modality or next((gallery.modalities[row] for row in own), absent)
        if kind is None:
            raise UserError(f"{image}: say which sensor took it: --modality visible or --modality infrared")
        known = next((gallery.identities[row] for row in own), "")
        person = os.path.basename(os.path.dirname(name)) if identity == PARENT else known
        queries.append(Query(name, kind, person, np.array(own, dtype=np.int64)))
    return queries


def search(
    index: Index | Collection,
    queries: Sequence[Query],
    vectors: np.ndarray,
    top: int,
    allowed: np.ndarray | str | None,
    rerank: bool,
) -> Found:
    """The first images of each query, itself left out: `top` of them, or all candidates of re-ranking. vectors: [Q, D].

    allowed: rows that may be found, [N] bool, or a collection's condition.
    """
    count = max(top, CANDIDATES) if rerank else top
    most = max((len(query.own) for query in queries), default=0)
    return without(index.search(vectors, count + most, allowed), [query.own for query in queries], count)


def answers_of(
    gallery: Gallery | Collection, found: Found, queries: Sequence[Query], vectors: np.ndarray | None, top: int
) -> list[Answer]:
    """The first `top` hits of each query. vectors: [Q, D], the queries', where candidates are re-ranked; else None."""
    answers = []
    for number, query in enumerate(queries):
        rows, candidates = found.candidates(number, gallery.vectors)
        order, distances = np.arange(len(rows)), np.full(len(rows), np.nan)
        if vectors is not None:
            order[:CANDIDATES], distances[:CANDIDATES] = reranked(vectors[number], candidates[:CANDIDATES])
        hits = [
            hit_of(gallery, query, rank, int(rows[place]), float(found.scores[number, place]), float(distance))
            for rank, (place, distance) in enumerate(zip(order[:top], distances), start=1)
        ]
        answers.append(Answer(query, hits))
    return answers


def hit_of(gallery: Gallery | Collection, query: Query, rank: int, row: int, cosine: float, distance: float) -> Hit:
    """What is known of a row. distance: after re-ranking, not a number where there is none."""
    identity = gallery.identities[row]
    return Hit(
        rank=rank,
        row=row,
        cosine=cosine,
        distance=max(0.0, 1 - cosine),
        reranked=None if np.isnan(distance) else distance,
        identity=identity,
        camera=gallery.cameras[row],
        modality=gallery.modalities[row],
        path=gallery.paths[row],
        right=identity == query.identity if identity and query.identity else None,
    )

"""Query images and a gallery -> the gallery's images that are nearest to each."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.gallery.folder import Gallery
from engine.gallery.search import Found, Index, reranked, without
from engine.gallery.sources import PARENT
from utils.errors import UserError

CANDIDATES = 100  # so many of the nearest images are re-ranked among themselves
SHOWN = 20  # names in an error


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


def queries_of(gallery: Gallery, images: Sequence[Path], modality: str | None, identity: str | None) -> list[Query]:
    """The images as queries; what the gallery knows of those that lie in it serves where nothing else is said.

    modality: of all. identity: PARENT where the folder in which an image lies names it. UserError for an image whose
    modality nobody says.
    """
    names = [os.path.abspath(image) for image in images]
    wanted = {*names, *map(os.path.realpath, names)}
    rows = defaultdict(list)
    for row, path in enumerate(gallery.paths):
        if path in wanted:
            rows[path].append(row)
    queries = []
    for image, name in zip(images, names):
        own = sorted({*rows[name], *rows[os.path.realpath(name)]})
        kind = modality or next((gallery.modalities[row] for row in own), None)
        if kind is None:
            raise UserError(f"{image}: say which sensor took it: --modality visible or --modality infrared")
        known = next((gallery.identities[row] for row in own), "")
        person = os.path.basename(os.path.dirname(name)) if identity == PARENT else known
        queries.append(Query(name, kind, person, np.array(own, dtype=np.int64)))
    return queries


def allowed_rows(gallery: Gallery, modality: str | None, cameras: Sequence[str]) -> np.ndarray | None:
    """The rows of this modality and these cameras, [N] bool; None where that is no condition.

    UserError for a camera that the gallery does not have, and where no row is left.
    """
    known = sorted(set(gallery.cameras) - {""}, key=lambda name: (len(name), name))
    for camera in cameras:
        if camera not in known:
            there = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "") or "none that is known"
            raise UserError(f"{gallery.root}: no image is of camera {camera!r}; its cameras: {there}")
    kept = [set(cameras) or None, {modality} if modality else None]
    columns = [(column, values) for column, values in zip((gallery.cameras, gallery.modalities), kept) if values]
    allowed = np.ones(len(gallery), dtype=bool)
    for column, values in columns:
        allowed &= np.fromiter((value in values for value in column), bool, len(gallery))
    if not allowed.any():
        which = f" of {' of '.join(filter(None, (modality, cameras and 'these cameras')))}" if columns else ""
        raise UserError(f"{gallery.root}: there is no image{which} to search among")
    return allowed if columns else None


def search(
    index: Index, queries: Sequence[Query], vectors: np.ndarray, top: int, allowed: np.ndarray | None, rerank: bool
) -> Found:
    """The first images of each query, itself left out: `top` of them, or all candidates of re-ranking. vectors: [Q, D]."""
    count = max(top, CANDIDATES) if rerank else top
    most = max((len(query.own) for query in queries), default=0)
    return without(index.search(vectors, count + most, allowed), [query.own for query in queries], count)


def answers_of(
    gallery: Gallery, found: Found, queries: Sequence[Query], vectors: np.ndarray | None, top: int
) -> list[Answer]:
    """The first `top` hits of each query. vectors: [Q, D], of the queries, where their candidates are re-ranked; else None."""
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


def hit_of(gallery: Gallery, query: Query, rank: int, row: int, cosine: float, distance: float) -> Hit:
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

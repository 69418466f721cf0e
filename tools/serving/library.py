"""The galleries of a server and the search through one or several of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from engine.gallery.folder import Gallery
from engine.gallery.search import CANDIDATES, INDEXES, reranked
from tools.serving.asked import Browsed, Filters, Refusal, Wanted
from tools.serving.columns import column, ordered, unique
from utils.errors import shown

INFRARED, VISIBLE = "infrared", "visible"
OTHER = {INFRARED: VISIBLE, VISIBLE: INFRARED}


class Place(NamedTuple):
    """An image of a gallery, with what is known of it; an empty text is not known."""

    gallery: str
    row: int
    name: str
    identity: str
    camera: str
    modality: str
    there: bool  # whether its file is where it was when it was embedded


class Query(NamedTuple):
    vector: np.ndarray  # [D] float32 of unit length
    modality: str
    identity: str = ""
    camera: str = ""
    name: str = ""
    place: Place | None = None  # where it is an image of a gallery
    path: str = ""  # of its file then
    token: str | None = None  # where it was uploaded


class Hit(NamedTuple):
    """A found image. distance: 1 - cosine. reranked: its distance after re-ranking, 0..1."""

    rank: int
    place: Place
    distance: float
    right: bool | None  # whether it shows the query's identity; None where that is not known
    reranked: float | None = None
    rank_before: int | None = None


class Answer(NamedTuple):
    hits: list[Hit]
    reranked: list[Hit] | None
    candidates: int  # how many were re-ranked
    searched: int  # images that the filters let through
    same: int | None  # images of the query's identity among them; None where that is not known
    nearest: float | None  # the smallest distance of all, whatever the threshold


class Shelf:
    """A gallery and what the filters need of it. name: that of its folder, made unique."""

    def __init__(self, name: str, gallery: Gallery):
        self.name, self.gallery = name, gallery
        self.index = INDEXES["exact"](gallery)
        self.cameras, self.identities = column(gallery.cameras), column(gallery.identities)
        self.infrared = np.fromiter((value == INFRARED for value in gallery.modalities), bool, len(gallery))

    def place(self, row: int) -> Place:
        """What is known of an image. Refusal for a row that the gallery has not."""
        if not 0 <= row < len(self.gallery):
            raise Refusal(404, f"the gallery {self.name} has no row {row}; its rows are 0 to {len(self.gallery) - 1}")
        path = PurePath(self.gallery.paths[row])
        modality = INFRARED if self.infrared[row] else VISIBLE
        texts = (shown(self.gallery.identities[row]), shown(self.gallery.cameras[row]))
        return Place(self.name, row, shown("/".join(path.parts[-3:])), *texts, modality, is_there(path))

    def mask(self, modality: str, cameras: Sequence[str] = (), identity: str | None = None) -> np.ndarray:
        """Which images have the modality ("both" for any), one of the cameras, the identity: a new array, [N] bool."""
        mask = np.ones(len(self.gallery), dtype=bool) if modality == "both" else self.infrared == (modality == INFRARED)
        if cameras:
            mask &= self.cameras.chosen(cameras)
        if identity is not None:
            mask &= self.identities.chosen([identity])
        return mask

    def rows_of(self, path: str) -> list[int]:
        """The rows that show this file."""
        return [row for row, other in enumerate(self.gallery.paths) if other == path]

    def modalities(self) -> dict[str, int]:
        """Number of images of each modality."""
        count = int(self.infrared.sum())
        return {VISIBLE: len(self.gallery) - count, INFRARED: count}


class Library:
    """The galleries of one model, by name."""

    def __init__(self, galleries: Sequence[Gallery], card: dict[str, Any]):
        self.card = card
        self.shelves: dict[str, Shelf] = {}
        for gallery in galleries:
            name = unique(shown(gallery.root.resolve().name) or "gallery", self.shelves)
            self.shelves[name] = Shelf(name, gallery)

    def shelf(self, name: str | None) -> Shelf:
        """The gallery of this name, the first one for None. Refusal for a name that none has."""
        if name is not None and name not in self.shelves:
            raise Refusal(404, f"there is no gallery {name!r}; choose one of: {', '.join(self.shelves)}")
        return next(iter(self.shelves.values())) if name is None else self.shelves[name]

    def chosen(self, names: Sequence[str]) -> list[Shelf]:
        """The galleries of these names, all for none."""
        return [self.shelf(name) for name in dict.fromkeys(names)] or list(self.shelves.values())

    def cameras(self, shelves: Sequence[Shelf], modality: str, chosen: Sequence[str]) -> list[str]:
        """The cameras that took images of the modality, and those that are chosen, in the order of people."""
        found = set(chosen)
        for shelf in shelves:
            codes = np.unique(shelf.cameras.codes[shelf.mask(modality)])
            found |= {shelf.cameras.values[code] for code in codes.tolist()}
        return sorted(filter(None, found), key=ordered)

    def browse(self, asked: Browsed, each: int) -> tuple[Shelf, str, list[Place], int]:
        """A page of a gallery: the gallery, the modality (infrared first), `each` images, and how many fit in all."""
        shelf = self.shelf(asked.gallery)
        modality = asked.modality or (INFRARED if shelf.infrared.any() else VISIBLE)
        rows = np.flatnonzero(shelf.mask(modality, [asked.camera] if asked.camera else [], asked.identity))
        part = rows[(asked.page - 1) * each : asked.page * each]
        return shelf, modality, [shelf.place(int(row)) for row in part], len(rows)

    def query(self, wanted: Wanted) -> Query:
        """The image of a gallery that an address names. Refusal where it names none."""
        shelf = self.shelf(wanted.query_gallery)
        if wanted.query_row is None:
            raise Refusal(422, "no query: give query_row (and query_gallery), or upload an image")
        place = shelf.place(wanted.query_row)
        vector = np.array(shelf.gallery.vectors[place.row])
        path = shelf.gallery.paths[place.row]
        return Query(vector, place.modality, place.identity, place.camera, place.name, place, path)

    def search(self, query: Query, filters: Filters) -> Answer:
        """The images nearest to the query; its own file is never among them, whichever gallery names it."""
        modality = OTHER[query.modality] if filters.modality == "other" else filters.modality
        shelves, masks = self.chosen(filters.gallery), []
        for shelf in shelves:
            mask = shelf.mask(modality, filters.camera)
            if query.path:
                mask[shelf.rows_of(query.path)] = False
            masks.append(mask)
        count = max(filters.top, CANDIDATES) if filters.rerank else filters.top
        found, distances, vectors = nearest_of(shelves, masks, query.vector, count)
        hits = [
            Hit(rank, place, distance, same_identity(query, place))
            for rank, (place, distance) in enumerate(zip(found, distances.tolist()), start=1)
        ]
        return Answer(
            cut(hits, filters),
            cut(reorder(hits, query.vector, vectors), filters) if filters.rerank else None,
            min(len(hits), CANDIDATES),
            int(sum(mask.sum() for mask in masks)),
            right_images(query, shelves, masks),
            hits[0].distance if hits else None,
        )


def nearest_of(
    shelves: Sequence[Shelf], masks: Sequence[np.ndarray], vector: np.ndarray, count: int
) -> tuple[list[Place], np.ndarray, np.ndarray]:
    """The first images of all galleries: k places, [k] distances, [k, D] vectors. vector: [D]; masks: [N] bool each."""
    owners, rows, scores, vectors = [], [], [], []
    for number, (shelf, mask) in enumerate(zip(shelves, masks)):
        found = shelf.index.search(vector[None], count, mask)
        own_rows, own_vectors = found.candidates(0, shelf.gallery.vectors)
        owners.append(np.full(len(own_rows), number))
        rows.append(own_rows)
        scores.append(found.scores[0][: len(own_rows)])
        vectors.append(own_vectors)
    distances = 1 - np.concatenate(scores)
    order = np.argsort(distances, kind="stable")[:count]
    together = zip(np.concatenate(owners)[order].tolist(), np.concatenate(rows)[order].tolist())
    places = [shelves[owner].place(row) for owner, row in together]
    return places, np.maximum(distances[order], 0), np.concatenate(vectors)[order]


def reorder(hits: Sequence[Hit], vector: np.ndarray, vectors: np.ndarray) -> list[Hit]:
    """The first CANDIDATES re-ranked among themselves, then the others. vector: [D]; vectors: [k, D], the hits'."""
    order, distances = reranked(vector, vectors[:CANDIDATES])
    moved = [
        hits[old]._replace(rank=rank, reranked=float(distance), rank_before=hits[old].rank)
        for rank, (old, distance) in enumerate(zip(order.tolist(), distances), start=1)
    ]
    return [*moved, *(hit._replace(rank_before=hit.rank) for hit in hits[CANDIDATES:])]


def cut(hits: Sequence[Hit], filters: Filters) -> list[Hit]:
    """The hits within the threshold, at most as many as are to be shown; ranks stay."""
    within = [hit for hit in hits if filters.threshold is None or hit.distance <= filters.threshold]
    return within[: filters.top]


def same_identity(query: Query, place: Place) -> bool | None:
    return query.identity == place.identity if query.identity and place.identity else None


def right_images(query: Query, shelves: Sequence[Shelf], masks: Sequence[np.ndarray]) -> int | None:
    """How many of the searched images show the query's identity; None where that is not known. masks: [N] bool."""
    if not query.identity:
        return None
    return int(sum((mask & shelf.identities.chosen([query.identity])).sum() for shelf, mask in zip(shelves, masks)))


def is_there(path: PurePath) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:
        return False

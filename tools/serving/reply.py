"""What the API answers, as the types that /openapi.json describes."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from tools.serving.library import Answer, Hit, Library, Place, Query


class ImageReply(BaseModel):
    """An image of a gallery; null stands for what is not known."""

    gallery: str
    row: int
    name: str = Field(description="the last parts of its path")
    identity: str | None
    camera: str | None
    modality: Literal["visible", "infrared"]
    image: str = Field(description="address of a small JPEG")
    there: bool = Field(description="whether its file still exists")


class HitReply(ImageReply):
    rank: int
    distance: float = Field(description="1 - cosine, 0 to 2")
    same_identity: bool | None = Field(description="as the query; null where one of both is not known")
    reranked_distance: float | None = Field(None, description="0 to 1, among the re-ranked candidates")


class QueryReply(BaseModel):
    modality: Literal["visible", "infrared"]
    name: str
    identity: str | None
    camera: str | None
    gallery: str | None
    row: int | None
    page: str = Field(description="address of the same result as a page")


class SearchReply(BaseModel):
    query: QueryReply
    searched: int = Field(description="number of images that the filters let through")
    same_identity: int | None = Field(description="how many of these show the query's identity")
    results: list[HitReply] = Field(description="nearest first")
    reranked: list[HitReply] | None = Field(description="the same candidates by k-reciprocal re-ranking, if asked for")
    candidates: int = Field(description="how many of the nearest images were re-ranked")


class GalleryReply(BaseModel):
    name: str
    images: dict[str, int] = Field(description="number of images of each modality")
    identities: int = Field(description="number of known identities")
    cameras: list[str]


class GalleriesReply(BaseModel):
    card: dict = Field(
        description="of the model: method, data set, protocol, scores; its hash is that of the galleries"
    )
    galleries: list[GalleryReply]


class ErrorReply(BaseModel):
    error: str = Field(description="what is wrong, and the way out")


def image_address(place: Place) -> str:
    return f"/image/{quote(place.gallery, safe='')}/{place.row}"


def search_reply(query: Query, answer: Answer, page: str) -> SearchReply:
    place = query.place
    return SearchReply(
        query=QueryReply(
            modality=query.modality,
            name=query.name,
            identity=query.identity or None,
            camera=query.camera or None,
            gallery=place.gallery if place else None,
            row=place.row if place else None,
            page=page,
        ),
        searched=answer.searched,
        same_identity=answer.same,
        results=[hit_reply(hit) for hit in answer.hits],
        reranked=None if answer.reranked is None else [hit_reply(hit) for hit in answer.reranked],
        candidates=answer.candidates if answer.reranked is not None else 0,
    )


def hit_reply(hit: Hit) -> HitReply:
    known = {**hit.place._asdict(), "identity": hit.place.identity or None, "camera": hit.place.camera or None}
    return HitReply(
        **known,
        image=image_address(hit.place),
        rank=hit.rank,
        distance=round(hit.distance, 6),
        same_identity=hit.right,
        reranked_distance=None if hit.reranked is None else round(hit.reranked, 6),
    )


def galleries_reply(library: Library) -> GalleriesReply:
    return GalleriesReply(
        card=library.card,
        galleries=[
            GalleryReply(
                name=shelf.name,
                images=shelf.modalities(),
                identities=sum(map(bool, shelf.identities.values)),
                cameras=[camera for camera in shelf.cameras.values if camera],
            )
            for shelf in library.shelves.values()
        ],
    )

"""What pages and API share: the model and the galleries behind bounded threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from starlette.requests import Request
from torch import Tensor

from data.images.decode import BYTE_LIMIT, read_image, resized
from engine.gallery.folder import Gallery
from tools.serving.asked import Given, Refusal, Wanted, checked
from tools.serving.library import Answer, Library, Place, Query
from tools.serving.uploads import FORMATS, Upload, Uploads, decoded, read_form, tile
from utils.errors import UserError
from utils.files import require_regular

Result = TypeVar("Result")
WAITING = 200  # requests for the model; more are refused
BODIES = 16  # uploads of more than a few bytes that are held in memory at a time


class Model(Protocol):
    """An `engine.embed.Embedder`."""

    size: tuple[int, int]
    card: dict[str, Any]

    def __call__(self, images: Tensor, modality: str) -> Tensor:
        """[B, 3, H, W] uint8 -> [B, D] float32 of unit length."""


class Service:
    """limit: bytes of an uploaded image. The model and the search work on one request at a time: they use all cores."""

    def __init__(self, embedder: Model, galleries: Sequence[Gallery], limit: int):
        self.embedder, self.limit = embedder, limit
        self.library = Library(galleries, embedder.card)
        self.uploads = Uploads()
        self.busy, self.painters = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
        self.waiting = 0
        self.bodies = asyncio.Semaphore(BODIES)

    async def alone(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work`, which runs when no other does. Refusal where too many wait."""
        if self.waiting >= WAITING:
            raise Refusal(503, "too many searches wait; try again in a few seconds")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.busy, work, *arguments)
        finally:
            self.waiting -= 1

    async def receive(self, request: Request) -> tuple[Given, Upload]:
        """The image that a form sends, embedded, and the other values of the form and of the address."""
        async with AsyncExitStack() as held:
            form = await read_form(request, self.limit, partial(held.enter_async_context, self.bodies))
            values = {name: request.query_params.getlist(name) for name in request.query_params}
            given = checked(Given, {**values, **form.values})
            return given, await self.alone(self.embed, form.image, form.name, given.query_modality)

    def embed(self, content: bytes, name: str, modality: str) -> Upload:
        image = decoded(content, name)
        embedder = self.embedder
        vectors = embedder(resized(image, embedder.size, embedder.interpolation)[None], modality)
        return Upload(np.asarray(vectors[0]), modality, name, tile(image))

    async def answer(self, wanted: Wanted) -> tuple[Query, Answer]:
        """The query that an address names, and what is found. Refusal where it names none, or one that is forgotten."""
        if wanted.upload is None:
            query = self.library.query(wanted)
        else:
            query = as_query(self.uploads.get(wanted.upload), wanted.upload)
        return query, await self.alone(self.library.search, query, wanted)

    async def tile_of(self, place: Place) -> bytes | None:
        """A gallery's image as a small JPEG; None where it is gone or cannot be read."""
        path = self.library.shelf(place.gallery).gallery.paths[place.row]
        return await asyncio.get_running_loop().run_in_executor(self.painters, small_image, path)

    def close(self) -> None:
        """Let no work begin any more."""
        for executor in (self.busy, self.painters):
            executor.shutdown(wait=False, cancel_futures=True)


def as_query(upload: Upload, token: str | None = None) -> Query:
    return Query(upload.vector, upload.modality, name=upload.name, token=token)


def small_image(path: str) -> bytes | None:
    """A file as a small JPEG; None where it is gone or cannot be read."""
    try:
        require_regular(Path(path), BYTE_LIMIT)
        return tile(read_image(path, path, "", FORMATS))
    except UserError:
        return None

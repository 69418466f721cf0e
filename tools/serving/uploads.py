"""Images that people send: bounded, decoded safely, and kept in memory only, as a vector and a small image."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import PurePath
from threading import Lock
from time import monotonic
from typing import NamedTuple

import numpy as np
from PIL import Image
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from data.images.decode import PIXEL_LIMIT, read_image
from tools.serving.asked import Refusal
from utils.errors import UserError, reason, shown

FORM_BYTES = 2**16  # of a form beside its image
LEAST_SIDE = 8  # pixels; what is smaller shows nobody
DROPPED = 8  # times the limit: so much is read and dropped, so that a browser, which reads no answer before, shows it
TILE = (320, 320)  # pixels, at most
KEPT = 200  # uploads
SECONDS = 60  # in which an upload arrives
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")


class Form(NamedTuple):
    values: dict[str, list[str]]
    image: bytes
    name: str


class Upload(NamedTuple):
    vector: np.ndarray  # [D] float32 of unit length
    modality: str
    name: str
    tile: bytes  # a small JPEG


class InMemory(MultiPartParser):
    """Starlette's parser, which would write larger files to the disk."""

    spool_max_size = max_file_size = 0  # bytes in memory, 0 for any; the name depends on the version


async def read_form(request: Request, limit: int, room: Callable[[], Awaitable[object]]) -> Form:
    """The one image of a form, and its other values. Refusal for anything else and for more than `limit` bytes.

    room: awaited before more than FORM_BYTES are held, so that those who send little, or nothing yet, take none.
    """
    body = await read_body(request, limit + FORM_BYTES, limit, room)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(415, "send a form (multipart/form-data) with a field named image")
    try:
        form = await InMemory(request.headers, once(body), max_files=1, max_fields=100).parse()
    except (MultiPartException, FormParserError) as error:  # the second from starlette before 1.0
        raise Refusal(400, f"the form is damaged ({reason(error)})") from None
    values: dict[str, list[str]] = {}
    image = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            image = value if name == "image" else image
        else:
            values.setdefault(name, []).append(value)
    content = await image.read() if image is not None else b""
    await form.close()
    if not content:
        raise Refusal(400, "no image was sent; choose a file first")
    if len(content) > limit:
        raise too_large(limit)
    return Form(values, content, shown(PurePath(image.filename or "").name)[:200].strip() or "image")


async def read_body(request: Request, most: int, limit: int, room: Callable[[], Awaitable[object]]) -> bytes:
    """A request's body. Refusal above `most` bytes, which are never held; limit: what the message says."""
    given = request.headers.get("content-length", "")
    if given.isdecimal() and int(given) > DROPPED * most:
        raise too_large(limit)
    body, read = bytearray(), 0
    async for chunk in arriving(request):
        if read <= FORM_BYTES < read + len(chunk):
            await room()
        read += len(chunk)
        if read > DROPPED * most:
            break
        if read <= most:
            body += chunk
        else:
            body.clear()
    if read > most:
        raise too_large(limit)
    return bytes(body)


async def arriving(request: Request) -> AsyncIterator[bytes]:
    """The parts of a request's body. Refusal where its sender takes more than SECONDS in all."""
    parts, left = aiter(request.stream()), float(SECONDS)
    while True:
        began = monotonic()
        try:
            part = await asyncio.wait_for(anext(parts), left)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:  # another class than the builtin one in Python 3.10
            raise Refusal(408, f"the image did not arrive within {SECONDS} seconds; make it smaller") from None
        left -= monotonic() - began
        yield part


async def once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def too_large(limit: int) -> Refusal:
    return Refusal(413, f"the image has more than {limit / 2**20:g} MB, the most that is taken; make it smaller")


def decoded(content: bytes, name: str) -> Image.Image:
    """The pixels of an image that was sent, RGB. Refusal for what is no image, too small or too large."""
    try:
        image = read_image(io.BytesIO(content), name, "send another image", FORMATS)
    except UserError as error:
        status = 413 if f"{PIXEL_LIMIT / 1e6:.0f} million pixels" in str(error) else 422
        raise Refusal(status, str(error)) from None
    if min(image.size) < LEAST_SIDE:
        raise Refusal(422, f"{name}: {image.width} x {image.height} pixels are too few; send an image of a person")
    return image


def tile(image: Image.Image) -> bytes:
    """The image as a small JPEG without anything else that its file may hold."""
    small = image.convert("RGB")
    small.thumbnail(TILE)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=88)
    return stream.getvalue()


class Uploads:
    """The last KEPT uploads by tokens that nobody can guess; older ones are forgotten."""

    def __init__(self, kept: int = KEPT):
        self.kept = kept
        self.known: OrderedDict[str, Upload] = OrderedDict()
        self.lock = Lock()

    def add(self, upload: Upload) -> str:
        token = secrets.token_urlsafe(16)
        with self.lock:
            self.known[token] = upload
            while len(self.known) > self.kept:
                self.known.popitem(last=False)
        return token

    def get(self, token: str) -> Upload:
        """Refusal where it is forgotten."""
        with self.lock:
            if token not in self.known:
                raise Refusal(
                    410,
                    f"this uploaded image is no longer in memory (the last {self.kept} are, until the server ends, and "
                    "none is ever written to disk); send it again",
                )
            self.known.move_to_end(token)
            return self.known[token]

"""The pages of the server; tools/serving/api.py has what programs ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine.gallery.folder import Gallery
from tools.serving import views
from tools.serving.api import api, documented, replies
from tools.serving.asked import Browsed, Refusal, Wanted, misfit
from tools.serving.guard import Guard, is_api
from tools.serving.service import Model, Service

UPLOAD_BYTES = 16 * 2**20
FRESH, BRIEFLY, NEVER = ({"cache-control": value} for value in ("no-cache", "private, max-age=300", "no-store"))
pages = APIRouter(include_in_schema=False)


def build_app(
    embedder: Model, galleries: Sequence[Gallery], limit: int = UPLOAD_BYTES, names: Iterable[str] = ()
) -> FastAPI:
    """The server of a model and its galleries. limit: bytes of an upload; names: by which it may be asked."""
    service = Service(embedder, galleries, limit)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="Person search", version="1", docs_url=None, redoc_url=None, lifespan=life)
    app.state.service = service
    app.include_router(pages)
    app.include_router(api)
    app.mount("/static", StaticFiles(directory=views.STATIC))
    app.add_middleware(Guard, names=names)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, misunderstood)
    app.add_exception_handler(HTTPException, not_found)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, failed)
    return app


@pages.get("/")
async def home(request: Request, asked: Annotated[Browsed, Query()]) -> Response:
    return page(views.home(request.app.state.service, asked))


@pages.get("/search")
async def result(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
    service: Service = request.app.state.service
    query, answer = await service.answer(wanted)
    return page(views.result(service, wanted, query, answer), headers=NEVER if wanted.upload else FRESH)


@pages.post("/search")
async def upload(request: Request) -> Response:
    """Takes an image and leads to the address of its result, so that going back sends nothing twice."""
    service: Service = request.app.state.service
    given, received = await service.receive(request)
    return RedirectResponse(given.wanted(service.uploads.add(received)).address("/search"), 303)


@pages.get("/image/{gallery}/{row}")
async def image(request: Request, gallery: str, row: int) -> Response:
    service: Service = request.app.state.service
    content = await service.tile_of(service.library.shelf(gallery).place(row))
    if content is None:
        return Response(views.gone(), 404, FRESH, "image/svg+xml")
    return Response(content, 200, BRIEFLY, "image/jpeg")


@pages.get("/upload/{token}")
async def uploaded(request: Request, token: str) -> Response:
    return Response(request.app.state.service.uploads.get(token).tile, 200, NEVER, "image/jpeg")


@pages.get("/model")
async def model(request: Request) -> Response:
    return page(views.model(request.app.state.service))


@pages.get("/api")
async def documentation(request: Request) -> Response:
    schema = request.app.openapi()
    return page(views.documentation(request.app.state.service, documented(schema), replies(schema)))


def page(html: str, status: int = 200, headers: dict[str, str] = FRESH) -> Response:
    return HTMLResponse(html, status, headers)


async def refused(request: Request, refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response:
    """The message as JSON to programs, as a page to people. headers: that the answer has as well."""
    headers = {**NEVER, **({"retry-after": "5"} if refusal.status == 503 else {}), **(headers or {})}
    if is_api(request.url.path):
        return JSONResponse({"error": refusal.message}, refusal.status, headers)
    return page(views.message(request.app.state.service, refusal.message), refusal.status, headers)


async def misunderstood(request: Request, error: RequestValidationError) -> Response:
    return await refused(request, Refusal(422, misfit(error.errors())))


async def not_found(request: Request, error: HTTPException) -> Response:
    said = {404: "there is no such page", 405: "this address does not take such a request; /api lists what does"}
    refusal = Refusal(error.status_code, said.get(error.status_code, str(error.detail)))
    return await refused(request, refusal, error.headers)


async def left(request: Request, error: ClientDisconnect) -> Response:
    """Nobody reads the answer to one who left in the middle of an upload."""
    return Response(status_code=400)


async def failed(request: Request, error: Exception) -> Response:
    """The server prints what went wrong."""
    return await refused(request, Refusal(500, "the program failed at this; the terminal that it runs in says why"))

"""What programs ask of the server, and the description of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tools.serving.asked import Given, Wanted
from tools.serving.reply import ErrorReply, GalleriesReply, SearchReply, galleries_reply, search_reply
from tools.serving.service import Service, as_query

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorReply, "description": meaning}
    for code, meaning in ((404, "No such gallery or row"), (422, "A parameter does not fit"), (503, "Too many wait"))
}
REFUSED: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorReply, "description": meaning}
    for code, meaning in ((400, "No image was sent"), (413, "Too many bytes or pixels"), (422, "No readable image"))
}
api = APIRouter(prefix="/api")


def form_schema() -> dict[str, Any]:
    """How the form of an image is described, which the server reads by itself."""
    fields = Given.model_json_schema()["properties"]
    image = {"type": "string", "format": "binary", "description": "the file of the image"}
    schema = {"type": "object", "required": ["image"], "properties": {"image": image, **fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@api.get("/galleries", summary="The model and the galleries")
async def galleries(request: Request) -> GalleriesReply:
    return galleries_reply(request.app.state.service.library)


@api.get("/search", summary="Search with an image of a gallery", responses=ERRORS)
async def search(request: Request, wanted: Annotated[Wanted, Query()]) -> SearchReply:
    query, answer = await request.app.state.service.answer(wanted)
    return search_reply(query, answer, wanted.address("/search"))


@api.post(
    "/search",
    summary="Search with an image that is sent",
    description="The parameters may be fields of the form or of the address. The image is never written to disk.",
    responses={**ERRORS, **REFUSED},
    openapi_extra=form_schema(),
)
async def search_by_image(request: Request) -> SearchReply:
    service: Service = request.app.state.service
    given, received = await service.receive(request)
    wanted = given.wanted(service.uploads.add(received))
    query = as_query(received, wanted.upload)
    return search_reply(query, await service.alone(service.library.search, query, wanted), wanted.address("/search"))


def documented(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page of the API shows of an OpenAPI schema: each operation with its parameters and its reply."""
    found = []
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parameters = [
                (each["name"], each["schema"], each.get("description")) for each in operation.get("parameters", [])
            ]
            for body in operation.get("requestBody", {}).get("content", {}).values():
                parameters += [
                    (name, each, each.get("description")) for name, each in body["schema"]["properties"].items()
                ]
            reply = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            found.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation["summary"],
                    "description": operation.get("description", ""),
                    "parameters": [
                        {"name": name, "type": type_of(each), "default": each.get("default"), "description": said}
                        for name, each, said in parameters
                    ],
                    "reply": reply,
                    "errors": {
                        code: each["description"] for code, each in operation["responses"].items() if code != "200"
                    },
                }
            )
    return found


def replies(schema: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The fields of each object that a reply holds."""
    shown = {name: each for name, each in schema["components"]["schemas"].items() if name.endswith("Reply")}
    return {
        name: [
            {"name": field, "type": type_of(each), "description": each.get("description", "")}
            for field, each in whole["properties"].items()
        ]
        for name, whole in shown.items()
    }


def type_of(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words: "integer, 1 to 200"."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(each) for each in schema["anyOf"]))
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if schema.get("format") == "binary":
        return "file"
    limits = [schema[name] for name in ("minimum", "maximum") if name in schema]
    return schema.get("type", "any") + (f", {limits[0]:g} to {limits[1]:g}" if len(limits) == 2 else "")

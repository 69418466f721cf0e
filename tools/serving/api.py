"""What programs ask of the server, and the description of it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from tools.serving.asked import LARGEST_ROW, Given, Wanted
from tools.serving.reply import ErrorReply, GalleriesReply, SearchReply, galleries_reply, search_reply
from tools.serving.service import Service, as_query


def answers(meanings: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """What the description says of the statuses of an operation's errors."""
    return {code: {"model": ErrorReply, "description": meaning} for code, meaning in meanings.items()}


ERRORS = {
    404: "No such gallery or row",
    410: "The uploaded image is no longer in memory",
    422: "A parameter does not fit",
    503: "Too many wait",
}
REFUSED = {
    400: "No image was sent",
    403: "Another site sends it",
    404: "No such gallery",
    408: "It came too slowly",
    413: "Too many bytes or pixels",
    415: "No form was sent",
    422: "No readable image, or a parameter does not fit",
    503: "Too many wait",
}
api = APIRouter(prefix="/api")


def form_schema() -> dict[str, Any]:
    """How the form of an image is described, which the server reads by itself."""
    fields = Given.model_json_schema()["properties"]
    image = {"type": "string", "format": "binary", "description": "the file of the image; it has to be there"}
    schema = {"type": "object", "required": ["image"], "properties": {"image": image, **fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@api.get("/galleries", summary="The model and the galleries")
async def galleries(request: Request) -> GalleriesReply:
    return galleries_reply(request.app.state.service.library)


@api.get("/search", summary="Search with an image of a gallery", responses=answers(ERRORS))
async def search(request: Request, wanted: Annotated[Wanted, Query()]) -> SearchReply:
    query, answer = await request.app.state.service.answer(wanted)
    return search_reply(query, answer, wanted.address("/search"))


@api.post(
    "/search",
    summary="Search with an image that is sent",
    description="The parameters may be fields of the form or of the address. The image is never written to disk.",
    responses=answers(REFUSED),
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
                        {"name": name, "type": type_of(given(each)), "default": default_of(each), "description": said}
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


def given(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter without null, which an address cannot hold: a parameter is left out."""
    if "anyOf" not in schema:
        return schema
    return {**schema, "anyOf": [each for each in schema["anyOf"] if each.get("type") != "null"]}


def default_of(schema: dict[str, Any]) -> str:
    """A parameter's default as an address holds it, empty where there is none."""
    default = schema.get("default")
    return "" if default in (None, []) else json.dumps(default).strip('"')


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
    least, most = schema.get("minimum"), schema.get("maximum")
    limits = (
        "" if least is None else f", {least:g} to {most:g}" if most and most < LARGEST_ROW else f", {least:g} or more"
    )
    return schema.get("type", "any") + limits

"""What the address of a page asks for, checked, and the address of what is asked for."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MOST_SHOWN, LARGEST_DISTANCE, LARGEST_ROW = 200, 2.0, 2**40
Side = Literal["visible", "infrared"]


class Refusal(Exception):
    """A request that cannot be answered: the status of the answer, and one line that says why and what to do."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class Asked(BaseModel):
    """Values of an address; one that is left empty, as a form sends it, is as good as none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def drop_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        lists = {
            name: [each for each in value if each != ""] for name, value in values.items() if isinstance(value, list)
        }
        return {name: value for name, value in {**values, **lists}.items() if value not in ("", None, [])}

    def address(self, path: str, **changes: Any) -> str:
        """`path` with these values, some of them changed, without those that are the default."""
        given = self.model_copy(update=changes).model_dump(exclude_defaults=True)
        plain = {name: int(value) if isinstance(value, bool) else value for name, value in given.items()}
        return f"{path}?{urlencode(plain, doseq=True)}" if plain else path


class Browsed(Asked):
    """A part of a gallery that is looked through for a query."""

    gallery: str | None = Field(None, description="name of the gallery")
    modality: Literal["visible", "infrared", "both"] | None = Field(None, description="of the images")
    camera: str | None = Field(None, description="of the images")
    identity: str | None = Field(None, description="of the images")
    page: int = Field(1, ge=1, le=LARGEST_ROW, description="which page")


class Filters(Asked):
    """Where a query is searched for, and what of the result is shown."""

    gallery: list[str] = Field([], description="names of the galleries that are searched; none: all of them")
    modality: Literal["other", "visible", "infrared", "both"] = Field(
        "other", description="of the images that are found; other: the one that the query has not"
    )
    camera: list[str] = Field([], description="of the images that are found; none: any")
    top: int = Field(20, ge=1, le=MOST_SHOWN, description="how many images are shown")
    threshold: float | None = Field(
        None, ge=0, le=LARGEST_DISTANCE, description="the largest distance (1 - cosine) of what is shown"
    )
    rerank: bool = Field(False, description="show the k-reciprocal re-ranking of the first candidates as well")


class Wanted(Filters):
    """A search with a query that is here already: an image of a gallery, or one that was uploaded before."""

    query_gallery: str | None = Field(None, description="name of the gallery that holds the query; none: the first one")
    query_row: int | None = Field(None, ge=0, le=LARGEST_ROW, description="the query's row in its gallery")
    upload: str | None = Field(None, max_length=100, description="the token of an uploaded query")

    def filters(self) -> Filters:
        """Without the query."""
        return Filters(**self.model_dump(include=set(Filters.model_fields)))


class Given(Filters):
    """What a form says beside the image that it sends."""

    query_modality: Side = Field("infrared", description="of the image that is sent")

    def wanted(self, token: str) -> Wanted:
        """The same search, with the image as one that was uploaded before."""
        return Wanted(upload=token, **self.model_dump(include=set(Filters.model_fields)))


def checked(kind: type[Asked], values: dict[str, Any]) -> Any:
    """The values of a form as a `kind`. Refusal naming the first that does not fit."""
    several = {name for name, field in kind.model_fields.items() if field.annotation == list[str]}
    try:
        return kind(**{name: given if name in several else given[-1] for name, given in values.items()})
    except ValidationError as error:
        raise Refusal(422, misfit(error.errors())) from None


def misfit(errors: list[Any]) -> str:
    """The first of pydantic's errors as a line."""
    first = errors[0]
    name, given = ".".join(str(part) for part in first["loc"][-1:]), first.get("input")
    if first["type"] == "extra_forbidden":
        return f"{name}: there is no such parameter; /api lists them"
    return f"{name} = {str(given)[:60]!r}: {first['msg'][:1].lower()}{first['msg'][1:]}"

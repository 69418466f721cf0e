"""The fields of a table file and of its rows: what each must look like."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from utils.errors import UserError
from utils.yml import quoted

SEEDS = 2**63  # none is as large


class Form(NamedTuple):
    """What a field of a table file must look like."""

    fits: Callable[[Any], bool]
    words: str


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value)) and not _repeated(value)


def is_text(value: Any) -> bool:
    """Whether it is a text that a file can hold: YAML can write halves of characters, which none can."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and _encodes(value)


def _encodes(value: str) -> bool:
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False


def _is_name(value: Any) -> bool:
    """Whether it can be a file's name without its suffix."""
    return is_text(value) and len(value) < 200 and not set(value) & set("/\\") and not value.startswith(".")


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < SEEDS


TEXT = Form(is_text, "a text")
TEXTS = Form(_list_of(is_text), "a list of texts, each once")
BASES = Form(
    lambda value: _is_name(value) or _list_of(_is_name)(value),
    "the name of a table file in the same folder, without .yml, or a list of them",
)
NUMBERS = Form(_list_of(_is_natural), "a list of whole numbers such as [8, 9, 10], each once")
MAPPING = Form(lambda value: isinstance(value, dict), "`name: value` pairs")
MAPPINGS = Form(
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value), "a list of rows"
)
TABLE_FIELDS = {
    "base": BASES, "title": TEXT, "note": TEXT, "cfg": TEXT, "keys": MAPPING, "seeds": NUMBERS, "splits": NUMBERS,
    "protocols": TEXTS, "metrics": TEXTS, "rows": MAPPINGS, "pictures": TEXT,  # the word of files that people have
}  # fmt: skip
ROW_FIELDS = {"name": TEXT, "keys": MAPPING, "tests": TEXT, "ranking": TEXT, "published": MAPPING, "source": TEXT}
NEEDED = ("title", "cfg", "seeds", "protocols", "metrics", "rows")


def require_fields(where: str, given: Mapping[str, Any], forms: Mapping[str, Form]) -> None:
    """UserError for an unknown field and for one that is not of its form."""
    for name, value in given.items():
        if name not in forms:
            nearest = difflib.get_close_matches(str(name), forms, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(forms)}"
            raise UserError(f"{where}: unknown field {quoted(name)}; {hint}")
        if not forms[name].fits(value):
            raise UserError(f"{where}: {name} = {quoted(value)} must be {forms[name].words}")


def _repeated(values: Sequence[Any]) -> bool:
    return any(value in values[:position] for position, value in enumerate(values))

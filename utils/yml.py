"""YAML that users write: one reader for files and for single values, and how messages quote what it found."""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError
from utils.files import read_text

LARGEST = 2**20  # bytes; a file of this project has a few thousand
# What PyYAML raises beside its own errors: numbers that are too long or impossible dates, and nesting without end.
BROKEN = (yaml.YAMLError, ValueError, OverflowError, RecursionError, MemoryError)
QUOTE = reprlib.Repr()
QUOTE.maxstring = QUOTE.maxother = QUOTE.maxlong = 80
QUOTE.maxlist = QUOTE.maxtuple = QUOTE.maxdict = 8
QUOTE.maxlevel = 2


class Repeated(yaml.YAMLError):
    """A key that occurs twice in one mapping, of which YAML would silently keep the last."""

    def __init__(self, key: str, line: int):
        super().__init__(key)
        self.key, self.line = key, line


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor):
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise Repeated(key.value, key.start_mark.line + 1)
            seen.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key))
        return node


def read_yml(path: Path, holds: str, hint: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds, {} for an empty file.

    holds: what its lines should be, such as "`key: value` lines"; hint: the way out where the file cannot be read.
    Raises UserError where it cannot be read, is no YAML, or holds something else or a key twice.
    """
    text = read_text(path, hint, LARGEST)
    try:
        content = parse(text)
    except Repeated as error:
        raise UserError(f"{path}: {quoted(error.key)} occurs a second time in line {error.line}; keep one") from None
    except BROKEN as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{path}: not valid YAML" + (f" in line {mark.line + 1}" if mark else "")) from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: must hold {holds}")
    return content or {}


def parse(text: str) -> Any:
    """What a YAML text means. Raises one of BROKEN where it means nothing, Repeated if a key occurs twice."""
    return yaml.load(text, Loader=_Loader)


def quoted(value: Any) -> str:
    """A value as a message quotes it: a long one is cut."""
    try:
        return QUOTE.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def fault_of_text(text: str) -> str | None:
    """Why no file and no terminal can hold a text; None for a sound one."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        return "holds a control character"
    try:
        text.encode("utf-8")
        os.fsencode(text)
    except UnicodeEncodeError:
        return "holds characters that files here cannot have in their names; PYTHONUTF8=1 makes Python use UTF-8"
    return None


def fault_of_name(text: str, longest: int = 100) -> str | None:
    """Why a text cannot be a part of a file's name; None where it can."""
    if set(text) & set("/\\") or ".." in text:
        return "is a part of a folder's name, so it cannot hold /, \\ or .."
    if len(text.encode("utf-8", errors="surrogateescape")) > longest:
        return f"is longer than {longest} bytes"
    return fault_of_text(text)

"""What makes two runs the same run: configuration, seed, data and precision, and the code that computes."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.defaults import NOTHING, affecting
from utils.errors import UserError
from utils.files import read_text

START = "main.py"
# What only talks to people, files and other processes: no number that a run gives depends on it.
TALKING = (
    "cli",
    "errors",
    "files",
    "interrupts",
    "locks",
    "logging",
    "processes",
    "results",
    "runs",
    "schema",
    "terminal",
    "yml",
)
TALK = {f"utils/{name}.py" for name in TALKING}
# Keys that name no other run. The precision that fp16 and amp_dtype come to is a part of its own.
UNNAMED = affecting(NOTHING) | {"fp16", "amp_dtype"}


def identity(config: Mapping[str, Any], seed: int, data: str, precision: str, code: str) -> str:
    """`<16 hex digits of what is run>-<8 of the code>`: runs that differ in the code alone share the first part.

    data: the fingerprint of the images. precision: what the steps compute in, on the machine that runs it. code: what
    `code_hash` gives.
    """
    settings = {key: value for key, value in config.items() if key not in UNNAMED}
    content = json.dumps([settings, seed, data, precision], sort_keys=True)
    return f"{hashlib.sha256(content.encode()).hexdigest()[:16]}-{code[:8]}"


def of_any_code(name: str) -> str:
    """A pattern for the identities of the same run by whatever code."""
    return f"{name.partition('-')[0]}-*"


def identity_of_test(name: str, model: str) -> str:
    """The identity of a test whose model another code trained: it is neither code's own."""
    code, trained = name.partition("-")[2], model.partition("-")[2]
    return name if trained == code else f"{name}.{trained}"


def code_hash(home: Path) -> str:
    """SHA-256, in hex, of what the modules compute that main.py imports, comments and docstrings aside.

    home: the checkout. Raises UserError naming a module that is no Python.
    """
    shapes = {place: _shape(tree) for place, tree in used_modules(home).items() if place not in TALK}
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def used_modules(home: Path) -> dict[str, ast.Module]:
    """The syntax trees, by path, of main.py and all modules of the checkout that it imports, directly or not."""
    trees: dict[str, ast.Module] = {}
    waiting = [START]
    while waiting:
        place = waiting.pop()
        if place not in trees:
            trees[place] = _parse(home / place)
            waiting += [found for name in _imported(trees[place], place) for found in _files(home, name)]
    return trees


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(read_text(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not valid Python (line {getattr(error, 'lineno', None)})") from None


def _imported(tree: ast.Module, place: str) -> Iterator[str]:
    """Dotted names of whatever a module imports, wherever it does; a name may be a module's or one within it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = Path(place).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files(home: Path, name: str) -> Iterator[str]:
    """Paths of the modules that importing a dotted name runs, its packages' and its own, where they lie in `home`."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        module = Path(*parts[:count])
        for place in (module / "__init__.py", module.with_name(f"{module.name}.py")):
            if (home / place).is_file():
                yield place.as_posix()


def _shape(value: Any) -> Any:
    """A syntax tree as lists and texts, equal for all versions of Python and for what computes the same."""
    if isinstance(value, list):
        return [_shape(item) for item in value if not _says_only(item)]
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = [[name, _shape(field)] for name, field in ast.iter_fields(value) if field not in (None, [])]
    return [type(value).__name__, *fields]


def _says_only(node: Any) -> bool:
    """Whether a statement is a text by itself: a docstring, or a comment written as one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

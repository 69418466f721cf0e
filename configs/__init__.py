"""From yml files and command-line pairs to one checked, frozen configuration."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from configs.check import cautions, check
from configs.defaults import KEYS, Key, get_defaults
from utils.errors import UserError
from utils.files import expanded
from utils.logging import logger
from utils.yml import BROKEN, fault_of_text, parse, quoted, read_yml

__all__ = ["cautions", "configuration", "given_keys", "load_config", "pairs"]

EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "whole numbers such as (384, 192)",
}
NAMES = "names such as cosine, mser"
COMMAND_LINE = "command line"


def load_config(
    path: str | Path | None = None, opts: Sequence[str] = (), run: tuple[str, Mapping[str, Any]] | None = None
) -> CfgNode:
    """Defaults, overridden by a run's configuration, by a yml file, by KEY VALUE pairs; checked and frozen.

    path: a yml file, or None. opts: ["lr", "1e-3", "num_epoch=2", ...]; values may be written as YAML or as Python.
    run: the name of a run and the keys that it was started with, of which those that no longer exist are ignored with
    a warning. Raises UserError that names the file and key.
    """
    return configuration(given_keys(path, opts), run)


def configuration(given: Mapping[str, Any], run: tuple[str, Mapping[str, Any]] | None = None) -> CfgNode:
    """load_config of what `given_keys` found."""
    cfg = get_defaults()
    if run is not None:
        where, config = run
        left_out = [str(name) for name in config if name not in KEYS]
        if left_out:
            logger.warning(f"{where}: keys that no longer exist are ignored: {', '.join(left_out)}")
        cfg.update(_typed({name: value for name, value in config.items() if name in KEYS}, where))
    cfg.update(given)
    check(cfg)
    cfg.freeze()
    return cfg


def given_keys(path: str | Path | None, opts: Sequence[str]) -> dict[str, Any]:
    """What a yml file and KEY VALUE pairs say, in the keys' types; the pairs override. UserError as of load_config."""
    found: dict[str, Any] = {}
    if path is not None:
        content = read_yml(expanded(path), "`key: value` lines", "give an existing yml file with --cfg")
        if not content:
            logger.warning(f"{path}: holds no key, so it changes nothing")
        found = _typed(content, str(path))
    return {**found, **_typed(dict(pairs(opts)), COMMAND_LINE)}


def pairs(opts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The (key, value) of KEY VALUE and KEY=VALUE. Raises UserError for a key without a value."""
    rest = iter(opts)
    for name in rest:
        name, equals, value = name.partition("=")
        if not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise UserError(f"overrides come in pairs, KEY VALUE: {name!r} has no value") from None
        yield name, value


def _typed(values: Mapping[Any, Any], where: str) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if name not in KEYS:
            nearest = difflib.get_close_matches(str(name)[:100].lower(), KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else "docs/configuration.md lists every key"
            raise UserError(f"{where}: unknown key {quoted(name)}; {hint}")
        key = KEYS[name]
        try:
            found[name] = coerce(key, value)
        except (TypeError, SyntaxError, *BROKEN):
            kind = NAMES if key.of is str else EXPECTED[key.kind]
            or_switch = ", true or false" if key.switches else ""
            raise UserError(f"{where}: {name} = {quoted(value)} must be {kind}{or_switch}") from None
        if isinstance(found[name], str):
            fault = fault_of_text(found[name])
            if fault:
                raise UserError(f"{where}: {name} = {quoted(found[name])} {fault}")
            if key.is_path:
                found[name] = str(expanded(found[name])) if found[name] else found[name]
    return found


def coerce(key: Key, value: Any) -> Any:
    """The value in the key's own type, from a YAML value or from text in YAML or Python notation.

    Raises TypeError, SyntaxError or one of utils.yml.BROKEN if the value does not mean one of that type.
    """
    if key.kind is str:
        return _text(key, value)
    if isinstance(value, str):
        value = None if value.strip() == "None" else _parse(value)
    if value is None and key.default is None:
        return None
    if key.of is str:
        return _names(value)
    if key.kind is tuple:
        return tuple(_whole(item) for item in (value if isinstance(value, (list, tuple)) else [value]))
    if key.kind is int:
        return _whole(value)
    if key.kind is float and (key.switches or not isinstance(value, bool)):
        return float(value)
    if key.kind is bool and isinstance(value, bool):
        return value
    raise TypeError(value)


def _text(key: Key, value: Any) -> str | None:
    if isinstance(value, (dict, list, tuple)):
        raise TypeError(value)
    if value is None or value is False or value in ("", "None", "null", "~"):
        return key.default if key.default in (None, "") else "" if value == "" else "none"
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    """Of a list, or of a text with commas."""
    items = value.split(",") if isinstance(value, str) else [] if value is None else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item.strip() for item in items):
        raise TypeError(value)
    return tuple(item.strip() for item in items)


def _parse(text: str) -> Any:
    if text.lstrip().startswith("("):
        return ast.literal_eval(text.strip())
    return parse(text)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value

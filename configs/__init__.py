"""From yml files and command-line pairs to one checked, frozen configuration."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from configs.check import cautions, check
from configs.defaults import KEYS, Key, get_defaults
from utils.errors import UserError

__all__ = ["cautions", "load_config"]

EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "whole numbers such as (384, 192)",
}


def load_config(path: str | None = None, opts: Sequence[str] = ()) -> CfgNode:
    """Defaults, overridden by a yml file, overridden by KEY VALUE pairs; checked and frozen.

    path: a yml file, or None for the defaults alone. opts: ["lr", "1e-3", "num_epoch", "2", ...]; values may be
    written as YAML or as Python. Raises UserError that names the file and key.
    """
    cfg = get_defaults()
    if path is not None:
        _override(cfg, _read_yml(path), path)
    if len(opts) % 2:
        raise UserError(f"overrides come in pairs, KEY VALUE: {opts[-1]!r} has no value")
    _override(cfg, dict(zip(opts[::2], opts[1::2])), "command line")
    check(cfg)
    cfg.freeze()
    return cfg


def _read_yml(path: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give an existing yml file with --cfg") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" in line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise UserError(f"{path}: not valid YAML{where}") from None
    if not isinstance(content or {}, dict):
        raise UserError(f"{path}: must hold `key: value` lines")
    return content or {}


def _override(cfg: CfgNode, values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        if name not in KEYS:
            nearest = difflib.get_close_matches(str(name).lower(), KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else "docs/configuration.md lists every key"
            raise UserError(f"{where}: unknown key {name!r}; {hint}")
        try:
            cfg[name] = coerce(KEYS[name], value)
        except (ValueError, TypeError, SyntaxError, OverflowError, yaml.YAMLError):
            raise UserError(f"{where}: {name} = {value!r} must be {EXPECTED[KEYS[name].kind]}") from None


def coerce(key: Key, value: Any) -> Any:
    """The value in the key's own type, from a YAML value or from text in YAML or Python notation.

    Raises ValueError, TypeError, SyntaxError, OverflowError or YAMLError if the value does not mean one of that type.
    """
    if key.kind is str:
        return _text(key, value)
    if isinstance(value, str):
        value = None if value.strip() == "None" else _parse(value)
    if value is None and key.default is None:
        return None
    if key.kind is tuple:
        return tuple(_whole(item) for item in (value if isinstance(value, (list, tuple)) else [value]))
    if key.kind is int:
        return _whole(value)
    if key.kind is float and not isinstance(value, bool):
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


def _parse(text: str) -> Any:
    if text.lstrip().startswith("("):
        return ast.literal_eval(text.strip())
    return yaml.safe_load(text)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value

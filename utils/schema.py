"""What content of a file must look like. A shape is a `Kind`, or a dict of the shapes that keys must have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

MOST = 10**9  # no number that counts something comes near it
TEXT_LIMIT = 10_000  # characters; no text that is a value comes near it


class Kind(NamedTuple):
    """look(value, its name) says what of the value is wrong, in words; None where nothing is."""

    look: Callable[[Any, str], str | None]
    optional: bool = False  # whether a dict may do without the key


Shape: TypeAlias = "Kind | dict[str, Shape]"


def misfit(value: Any, shape: Shape, name: str = "") -> str | None:
    """What of a value does not have the shape: "rows[3].r1 is 'x', not a number from 0 to 100"; None where all has.

    Keys that a dict's shape does not name are ignored. name: of the value itself.
    """
    if isinstance(shape, Kind):
        return shape.look(value, name)
    if not isinstance(value, dict):
        return _wrong(value, name, "a dict")
    for key, inner in shape.items():
        inside = f"{name}.{key}" if name else key
        if key in value:
            found = misfit(value[key], inner, inside)
        else:
            found = None if isinstance(inner, Kind) and inner.optional else f"{inside} is missing"
        if found:
            return found
    return None


def kind(what: str, fits: Callable[[Any], bool]) -> Kind:
    """A kind that a function decides. what: its name in a message, such as "a text"."""
    return Kind(lambda value, name: None if fits(value) else _wrong(value, name, what))


def real(low: float = float("-inf"), high: float = float("inf")) -> Kind:
    """A finite number from low to high, whole or not."""
    inside = f" from {low:g} to {high:g}" if low > float("-inf") else ""
    return kind(
        f"a finite number{inside}", lambda v: type(v) in (int, float) and low <= v <= high and abs(v) < float("inf")
    )


def whole(low: int, high: int = MOST) -> Kind:
    """A whole number from low to high."""
    return kind(f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def choice(*values: Any) -> Kind:
    """One of these plain values, of the same type."""
    what = " or ".join(map(repr, values))
    return kind(what, lambda v: any(type(v) is type(value) and v == value for value in values))


def maybe(shape: Shape) -> Kind:
    """The shape, or None."""
    return Kind(lambda value, name: None if value is None else misfit(value, shape, name))


def optional(shape: Shape) -> Kind:
    """The shape, for a key that a dict may do without."""
    return Kind(lambda value, name: misfit(value, shape, name), optional=True)


def each(shape: Shape) -> Kind:
    """A list, or a tuple, whose entries all have the shape."""
    entries = kind("a list", lambda v: isinstance(v, (list, tuple)))
    return both(entries, Kind(lambda value, name: _entries(value, repeat(shape), name)))


def table(keys: Kind, shape: Shape) -> Kind:
    """A dict of keys of one kind, whose values all have the shape."""

    def look(value: dict, name: str) -> str | None:
        in_keys = (misfit(key, keys, f"a key of {name}") for key in value)
        return _first(in_keys) or _first(misfit(v, shape, f"{name}[{key!r}]") for key, v in value.items())

    return both(kind("a dict", lambda v: isinstance(v, dict)), Kind(look))


def parts(*shapes: Shape) -> Kind:
    """A tuple of as many entries, each of its own shape."""
    right = kind(f"a tuple of {len(shapes)}", lambda v: isinstance(v, tuple) and len(v) == len(shapes))
    return both(right, Kind(lambda value, name: _entries(value, shapes, name)))


def both(first: Shape, second: Shape) -> Kind:
    """What has two shapes. The second one is looked at only where the first fits."""
    return Kind(lambda value, name: misfit(value, first, name) or misfit(value, second, name))


TEXT = kind("a text", lambda v: isinstance(v, str) and len(v) <= TEXT_LIMIT)


def _entries(value: Iterable, shapes: Iterable[Shape], name: str) -> str | None:
    return _first(misfit(entry, shape, f"{name}[{i}]") for i, (entry, shape) in enumerate(zip(value, shapes)))


def _first(found: Iterable[str | None]) -> str | None:
    return next(filter(None, found), None)


def _wrong(value: Any, name: str, what: str) -> str:
    plain = value is None or type(value) in (bool, float, str) or type(value) is int and abs(value) <= 2**64
    shown = repr(value) if plain else f"a {type(value).__name__}"
    return f"{name or 'it'} is {shown if len(shown) <= 40 else shown[:40] + '...'}, not {what}"

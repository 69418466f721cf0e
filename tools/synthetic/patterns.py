"""Textures of garments: where the second material of a two-material cloth shows."""

from typing import NamedTuple

import numpy as np

TILE_ROWS, TILE_COLUMNS = 96, 128  # a tile is wrapped around a body part: rows run down, columns once around
MARKS = ("disc", "square", "triangle", "cross", "ring", "bar")


class Pattern(NamedTuple):
    """Geometry of a cloth; lengths in body heights, so that 0.1 is about 11 pixels in a 128-pixel image."""

    kind: str  # key of KINDS
    period: float  # repeat length, or size of a single mark
    angle: float  # direction, radians; 0 gives horizontal stripes
    duty: float  # share of a period taken by the second material
    shift: float  # 0..1, phase along the period and place of single marks
    mark: str  # one of MARKS, used by "logo" only


def _stripes(p: Pattern, u, v):
    return ((u * np.sin(p.angle) + v * np.cos(p.angle)) / p.period + p.shift) % 1 < p.duty


def _tartan(p: Pattern, u, v):
    return _stripes(p._replace(angle=0.0), u, v) | _stripes(p._replace(angle=np.pi / 2), u, v)


def _chess(p: Pattern, u, v):
    turned = np.cos(p.angle) * u + np.sin(p.angle) * v, np.cos(p.angle) * v - np.sin(p.angle) * u
    return ((np.floor(turned[0] / p.period + p.shift) + np.floor(turned[1] / p.period)) % 2) == 0


def _dots(p: Pattern, u, v):
    row = np.floor(v / p.period + p.shift)
    x = (u / p.period + 0.5 * (row % 2)) % 1 - 0.5
    y = (v / p.period + p.shift) % 1 - 0.5
    return np.hypot(x, y) < 0.22 + 0.25 * p.duty


def _zigzag(p: Pattern, u, v):
    wave = np.abs((u / (1.6 * p.period)) % 1 - 0.5) * 1.6 * p.period
    return ((v + wave) / p.period + p.shift) % 1 < p.duty


def _blotches(p: Pattern, u, v):
    k = 2 * np.pi / (1.7 * p.period)
    phase = 2 * np.pi * p.shift
    field = np.sin(k * u + phase) + np.sin(k * (0.4 * u + v) + 3 * phase) + np.sin(k * (0.9 * v - 0.5 * u) + 7 * phase)
    return field > 1.2 - 2.4 * p.duty


def _band(p: Pattern, u, v):
    return np.abs(v - 0.06 - 0.16 * p.shift) < 0.45 * p.period


def _half(p: Pattern, u, v):
    return v + np.tan(p.angle) * u * (np.abs(u) < 0.16) > 0.08 + 0.16 * p.shift


def _sides(p: Pattern, u, v):
    return np.abs(np.abs(u) - u.max() / 2) < 0.4 * p.period


def _centre(p: Pattern, u, v):
    return np.abs(u) < 0.45 * p.period


def _logo(p: Pattern, u, v):
    half = 0.035 + 0.45 * p.period
    # The same mark sits on chest and back, so that it is not lost when a person turns round.
    x = np.where(np.abs(u) > u.max() / 2, np.abs(u) - u.max(), u) / half
    y = (v - 0.08 - half * (0.6 + 0.6 * p.shift)) / half
    inside = np.maximum(np.abs(x), np.abs(y)) < 1
    return {
        "disc": np.hypot(x, y) < 1,
        "square": inside,
        "triangle": inside & (np.abs(x) < (1 + y) / 2),
        "cross": inside & (np.minimum(np.abs(x), np.abs(y)) < 0.33),
        "ring": np.abs(np.hypot(x, y) - 0.72) < 0.28,
        "bar": inside & (np.abs(y) < 0.4),
    }[p.mark]


def _plain(p: Pattern, u, v):
    return np.zeros(np.broadcast(u, v).shape, bool)


KINDS = {
    "plain": _plain,
    "stripes": _stripes,
    "tartan": _tartan,
    "chess": _chess,
    "dots": _dots,
    "zigzag": _zigzag,
    "blotches": _blotches,
    "band": _band,
    "half": _half,
    "sides": _sides,
    "centre": _centre,
    "logo": _logo,
}


def sample_pattern(rng: np.random.Generator, kinds: dict[str, float]) -> Pattern:
    """A pattern whose kind is drawn with the given weights."""
    weights = np.array(list(kinds.values()))
    kind = list(kinds)[rng.choice(len(weights), p=weights / weights.sum())]
    return Pattern(
        kind=kind,
        period=float(rng.uniform(0.065, 0.16)),
        angle=float(rng.choice([0.0, 0.0, np.pi / 2, np.pi / 4, -np.pi / 4])),
        duty=float(rng.uniform(0.38, 0.62)),
        shift=float(rng.random()),
        mark=str(rng.choice(MARKS)),
    )


def cloth(pattern: Pattern, first: int, second: int, radius: float, length: float) -> np.ndarray:
    """Tile [TILE_ROWS, TILE_COLUMNS] uint8 of material indices: the cloth around a tube of this radius and length.

    Column 0 is the middle of the front; columns run once around.
    """
    around = (np.arange(TILE_COLUMNS) + 0.5) / TILE_COLUMNS
    u = np.where(around < 0.5, around, around - 1) * 2 * np.pi * radius
    v = (np.arange(TILE_ROWS) + 0.5) / TILE_ROWS * length
    mask = KINDS[pattern.kind](pattern, *np.broadcast_arrays(u[None, :], v[:, None]))
    return np.where(mask, second, first).astype(np.uint8)


def front_columns(half_angle: float, centre: float = 0.0) -> np.ndarray:
    """[TILE_COLUMNS] bool: columns within half_angle (radians) of the direction `centre` (0 = front, pi = back)."""
    angle = (np.arange(TILE_COLUMNS) + 0.5) / TILE_COLUMNS * 2 * np.pi - centre
    return np.cos(angle) > np.cos(half_angle)

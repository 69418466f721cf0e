"""What many images share, as numbers: a million texts in four megabytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from utils.errors import shown


class Column(NamedTuple):
    """Texts of N images, most of which many share."""

    values: list[str]  # the distinct ones, in the order of people
    codes: np.ndarray  # [N] int32, places in `values`

    def chosen(self, wanted: Iterable[str]) -> np.ndarray:
        """Which images have one of the wanted texts, [N] bool."""
        wanted = set(wanted)
        return np.array([value in wanted for value in self.values], dtype=bool)[self.codes]


def column(texts: Iterable[str]) -> Column:
    """The texts of N images as codes."""
    codes: dict[str, int] = {}
    numbers = np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int32)
    order = sorted(codes, key=ordered)
    place = np.empty(len(codes), dtype=np.int32)
    place[[codes[text] for text in order]] = np.arange(len(codes), dtype=np.int32)
    return Column([shown(text) for text in order], place[numbers])


def ordered(text: str) -> tuple[int, str]:
    """A sort key: 2 before 10."""
    return len(text), text


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, numbered where it is taken."""
    taken, number = set(taken), 2
    found = name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found

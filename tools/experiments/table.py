"""A table file, read: which runs a table is made of, and what it shows of them (docs/tables.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Column(NamedTuple):
    """What one column of numbers shows."""

    protocol: str
    ranking: str  # one of the table's rankers
    metric: str  # a metric of ResultRow


class TableRow(NamedTuple):
    """One row: a training, or another test of a row's model."""

    name: str
    keys: Mapping[str, Any]  # changed against the table's, in their own types
    tests: str | None  # the earlier row whose trained model this one tests; None: it trains its own
    rankings: tuple[str, ...]  # what it shows, of the table's rankers
    published: Mapping[Column, float]  # figures in percent
    source: str  # of the published figures; "" without any


class Table(NamedTuple):
    """One table file."""

    path: Path
    title: str
    note: str  # "" for none
    cfg: str  # the yml file that every run starts from
    keys: Mapping[str, Any]  # changed against that file in every run
    seeds: tuple[int, ...]
    splits: tuple[int, ...]  # of a data set that has several, else empty
    protocols: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[TableRow, ...]
    figure_row: str  # the row whose first run the report's figures are of
    rankers: tuple[str, ...]  # of every final test

    @property
    def name(self) -> str:
        """The file's name without its suffix, and the name of the folder of its results."""
        return self.path.stem

    @property
    def columns(self) -> tuple[Column, ...]:
        """Protocol by protocol, every ranking of each."""
        return tuple(Column(p, r, m) for p in self.protocols for r in self.rankers for m in self.metrics)

    @property
    def source(self) -> str:
        """Where the published figures are from; "" without any."""
        return "; ".join(dict.fromkeys(row.source for row in self.rows if row.source))


def options(keys: Mapping[str, Any]) -> list[str]:
    """Keys as the KEY VALUE pairs of a command line."""
    return [word for key, value in keys.items() for word in (str(key), _text_of(value))]


def _text_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)

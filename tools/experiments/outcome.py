"""What came out of a table: numbers and the runs that they are from. Pure; `collect` reads them, others write them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tools.experiments.table import Table


class Cell(NamedTuple):
    """One number of a table: a metric of a protocol under a ranking, in percent."""

    protocol: str  # "sysu/all/1-shot", "regdb/v2i", ...
    ranking: str  # a name in RANKERS
    metric: str  # "r1" | "mAP" | "mINP" ...
    values: tuple[float, ...]  # one per finished run (seed or split), in the order of the row's runs
    published: float | None  # in percent; None: no published value is known

    @property
    def mean(self) -> float | None:
        """None where no run is finished."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation, over n - 1; None below two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the published figure; None where one of them is missing."""
        return None if self.mean is None or self.published is None else self.mean - self.published


class RunState(NamedTuple):
    """One run of a row."""

    label: str  # "seed 8", "split 3"
    state: str  # "finished" | "failed" | "missing"
    folder: Path | None  # holds config.yml, log.txt, results.jsonl, run.json; None where the run never began
    message: str  # why it failed or what it waits for; "" where it is finished


class OutcomeRow(NamedTuple):
    """One row of a table. Rows that test the same model under the same keys have the same runs."""

    name: str  # "baseline", "+WG", ...
    changes: Mapping[str, Any]  # the keys that the row changes against the table's own
    runs: tuple[RunState, ...]
    cells: tuple[Cell, ...]  # of the table's columns, in order; a row of one ranking has no cell under the other

    def cell(self, protocol: str, ranking: str, metric: str) -> Cell | None:
        """The row's number in a column; None where the row has none there."""
        return next((cell for cell in self.cells if cell[:3] == (protocol, ranking, metric)), None)

    @property
    def finished(self) -> int:
        """How many of the runs are finished."""
        return sum(run.state == "finished" for run in self.runs)


class Outcome(NamedTuple):
    """A table and what came out of it."""

    table: Table
    rows: tuple[OutcomeRow, ...]

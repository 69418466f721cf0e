"""results.jsonl and the table that people read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_text, write_text
from utils.schema import Shape, choice, kind, maybe, misfit, real, whole
from utils.types import ResultRow

NAME = kind("a short text", lambda v: isinstance(v, str) and 0 < len(v) <= 200)
PERCENT = real(0, 100.001)  # sums of floats may end above 100
ROW: Shape = {
    "stage": choice("initial", "train", "test", "averaged"),
    "epoch": maybe(whole(0)),
    "protocol": NAME,
    "split": maybe(whole(0)),
    "selected_on": maybe(choice("test", "val", "last")),
    "ranking": NAME,
    **dict.fromkeys(("r1", "r5", "r10", "r20", "mAP", "mINP"), PERCENT),
}
SHOWN = ("r1", "r5", "r10", "r20", "mAP", "mINP")


def write_rows(path: Path, rows: Iterable[ResultRow], notes: Iterable[Mapping[str, Any]] = repeat({})) -> None:
    """Replace results.jsonl: one JSON object per row. notes: what a row's object says beside it."""
    write_text(path, "".join(json.dumps({**row._asdict(), **note}) + "\n" for row, note in zip(rows, notes)))


def read_rows(path: Path) -> list[ResultRow]:
    """The rows of a results.jsonl, whatever else its lines say; UserError naming the first line that is no row."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{path}: line {number} is not a result row (not JSON)") from None
        if wrong := misfit(entry, ROW):
            raise UserError(f"{path}: line {number} is not a result row ({wrong})")
        rows.append(ResultRow(**{name: entry[name] for name in ResultRow._fields}))
    return rows


def format_table(rows: Sequence[ResultRow]) -> str:
    """Rows of one stage as text, in percent: for each ranking a block with a line per protocol, 80 columns at most."""
    width = max(len(name) for row in rows for name in (row.protocol, row.ranking))
    blocks = []
    for ranking in dict.fromkeys(row.ranking for row in rows):
        lines = [f"{ranking:{width}}" + "".join(f"{name:>8}" for name in SHOWN)]
        for row in rows:
            if row.ranking == ranking:
                lines.append(f"{row.protocol:{width}}" + "".join(f"{getattr(row, name):8.2f}" for name in SHOWN))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)

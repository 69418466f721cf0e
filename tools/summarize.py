"""Show what a run achieved: rank-1 of chance, of the untrained model and of the tested one, side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from engine.retrieval.rankers import PLAIN, label_of
from utils.cli import Parser, exit_code
from utils.errors import UserError
from utils.files import expanded, read_text
from utils.results import read_rows
from utils.runs import CONFIG, RECORD, RESULTS, read_record
from utils.types import ResultRow


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(prog="python -m tools.summarize", description=__doc__)
    parser.add_argument("folder", type=expanded, help="Read this run folder.")
    parser.add_argument("--newest", action="store_true", help="Take the newest training below FOLDER.")
    args = parser.parse_args(argv)
    folder = newest_run(args.folder) if args.newest else args.folder
    print(format_summary(read_record(folder)["data"]["chance_r1"], read_rows(folder / RESULTS)))
    print(f"run folder: {folder}")


def newest_run(folder: Path) -> Path:
    """The run folder below `folder` of the training that was started last; tests of trained models are no trainings."""
    records = [path for path in folder.glob(f"**/{RECORD}") if path.is_file()]
    newest = sorted(records, key=lambda path: path.stat().st_mtime, reverse=True)
    for record in newest:
        if not is_test(record.parent):
            return record.parent
    if newest:
        raise UserError(f"{folder}: holds tests only, no training; give one of them, such as {newest[0].parent}")
    raise UserError(f"{folder}: holds no run folder (one with {RECORD})")


def is_test(folder: Path) -> bool:
    """Whether the run tested a trained model, as its configuration says."""
    try:
        return "test_only: true" in read_text(folder / CONFIG).splitlines()
    except UserError:
        return False


def format_summary(chance: Mapping[str, float], rows: Sequence[ResultRow]) -> str:
    """A line per protocol; "-" where a run has no such row."""
    found = {(row.stage, row.protocol, row.ranking): f"{row.r1:.2f}" for row in rows}
    tested = dict.fromkeys(row.ranking for row in rows if row.stage == "test")
    columns = {"untrained": ("initial", PLAIN), "trained": ("test", PLAIN)}
    columns |= {f"trained, {label_of(name)}": ("test", name) for name in tested if name != PLAIN}
    widths = {name: max(15, len(name) + 2) for name in columns}
    lines = [f"{'rank-1, %':20}{'chance':>10}" + "".join(f"{name:>{widths[name]}}" for name in columns)]
    for protocol, value in chance.items():
        cells = (found.get((stage, protocol, ranking), "-") for stage, ranking in columns.values())
        lines.append(
            f"{protocol:20}{value:>10.2f}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths.values()))
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

"""Where runs lie, and how far each is: `RESULTS/runs/<identity>/<dataset>/<run folder>/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from configs import configuration
from configs.defaults import KEYS
from data.sets import DATASETS
from engine.build import rankings
from engine.retrieval.rankers import DEFAULT
from utils.errors import UserError
from utils.locks import lock
from utils.results import read_rows
from utils.runs import BEST, CONFIG, LAST, RECORD, RESULTS, read_record
from utils.types import ResultRow
from utils.yml import read_yml

LOCK, OUTPUT = "lock", "output.txt"


class Progress(NamedTuple):
    """How far a run is."""

    state: str  # "finished" | "interrupted": resumes from its last checkpoint | "absent": starts afresh
    folder: Path | None  # the run folder; None before there is one
    fault: str = ""  # which file could not be read, so that the run is done again or its test repeated


def home_of(results: Path, identity: str) -> Path:
    """The output folder of one run."""
    return results / "runs" / identity


def progress(home: Path, with_model: bool = False) -> Progress:
    """How far the run in `home` is. with_model: only one whose checkpoint is there counts as finished.

    Runs that were killed before their first checkpoint leave folders behind that nothing can be done with.
    """
    folders = run_folders(home)
    for folder in folders:
        if final_rows(folder) and (not with_model or has_model(folder)):
            return Progress("finished", folder)
    faults = [fault(folder) for folder in folders]
    first = next(filter(None, faults), "")
    for folder in folders:
        if (folder / LAST).is_file() and not _said(partial(read_record, folder)):
            return Progress("interrupted", folder, first)
    return Progress("absent", folders[0] if folders else None, first)


def fault(folder: Path) -> str:
    """Which of a run folder's files cannot be read, and why; "" where all can."""
    rows = folder / RESULTS
    return _said(partial(read_record, folder)) or (_said(partial(read_rows, rows)) if rows.exists() else "")


def _said(work: Callable[[], object]) -> str:
    try:
        work()
    except UserError as error:
        return str(error)
    return ""


def run_folders(home: Path) -> list[Path]:
    """The newest first."""
    records = [path for path in home.glob(f"*/*/{RECORD}") if path.is_file()]
    return [record.parent for record in sorted(records, key=lambda path: path.stat().st_mtime_ns, reverse=True)]


def final_rows(folder: Path) -> list[ResultRow]:
    """The rows of the final test, all protocols under all rankings; none where the run did not come that far.

    They are the last thing that a run writes, all at once: where some are missing, somebody changed the file.
    """
    try:
        rows = [row for row in read_rows(folder / RESULTS) if row.stage == "test"]
    except UserError:
        return []
    dataset = DATASETS.get(folder.parent.name)
    wanted = {(name, ranking) for name in (dataset.protocols if dataset else ()) for ranking in asked_rankings(folder)}
    return rows if wanted and wanted <= {(row.protocol, row.ranking) for row in rows} else []


def asked_rankings(folder: Path) -> Sequence[str]:
    """The rankers of a run's final test, as its configuration says; the usual ones where it cannot be read."""
    path = folder / CONFIG
    try:
        found = read_yml(path, "`key: value` lines", "it belongs to the run")
        return rankings(configuration({}, (str(path), {key: found[key] for key in KEYS if key in found})))
    except UserError:
        return DEFAULT


def has_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (BEST, LAST))


def take(home: Path) -> IO[str] | None:
    """The lock on a run's output folder, which is made; None where another process holds it.

    Where the file system has no locks, which is said once, nobody is taken to hold it.

    It is held until the file is closed here and in every process that inherited it: that of a run whose runner was
    killed is still held by the run.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / LOCK).open("a")
    except OSError as error:
        raise UserError(f"{home}: cannot be written ({error.strerror}); set --results") from None
    if lock(file) is False:
        file.close()
        return None
    return file


def last_line(home: Path) -> str:
    """What a run that failed said last; "" where it said nothing."""
    return last_said(home / OUTPUT)


def last_said(path: Path, mark: str = "") -> str:
    """The last line of a program's output that is not empty, or what follows `mark` in the last with it; else ""."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    said = [line for line in (line.rsplit("\r", 1)[-1].strip() for line in lines) if line]
    marked = [line.partition(mark)[2] for line in said if mark and mark in line]
    return (marked or said or [""])[-1].removeprefix("error: ")

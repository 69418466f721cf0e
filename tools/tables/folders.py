"""Where runs lie, and how far each is: `RESULTS/runs/<identity>/<dataset>/<run folder>/`."""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

from tools.tables.table import RANKINGS
from utils.errors import UserError
from utils.results import read_rows
from utils.runs import BEST, LAST, RECORD, RESULTS
from utils.types import ResultRow

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK, OUTPUT = "lock", "output.txt"


class Progress(NamedTuple):
    """How far a run is."""

    state: str  # "finished" | "interrupted": goes on from its last checkpoint | "absent": starts afresh
    folder: Path | None  # the run folder; None where there is none yet


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
    for folder in folders:
        if (folder / LAST).is_file():
            return Progress("interrupted", folder)
    return Progress("absent", folders[0] if folders else None)


def run_folders(home: Path) -> list[Path]:
    """The newest first."""
    records = sorted(home.glob(f"*/*/{RECORD}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [record.parent for record in records]


def final_rows(folder: Path) -> list[ResultRow]:
    """The rows of the final test under both rankings; none where the run did not come that far.

    They are the last thing that a run writes, all at once.
    """
    try:
        rows = [row for row in read_rows(folder / RESULTS) if row.stage == "test"]
    except UserError:
        return []
    return rows if {row.ranking for row in rows} >= set(RANKINGS) else []


def has_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (BEST, LAST))


def take(home: Path) -> IO[str] | None:
    """The lock on a run's output folder, which is made; None where another process holds it.

    It is held until the file is closed here and in every process that inherited it: that of a run whose runner was
    killed is still held by the run.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / LOCK).open("a")
    except OSError as error:
        raise UserError(f"{home}: cannot be written ({error.strerror}); set --results") from None
    if fcntl is None:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def last_line(home: Path) -> str:
    """What a run that failed said last; "" where it said nothing."""
    try:
        lines = (home / OUTPUT).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.rsplit("\r", 1)[-1].strip() for line in lines]
    return next((line.removeprefix("error: ") for line in reversed(said) if line), "")

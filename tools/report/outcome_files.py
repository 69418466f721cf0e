"""The files of a table's outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.experiments.outcome import Outcome
from tools.report.captioned_figure import CaptionedFigure
from tools.report.csv_table import spreadsheet
from tools.report.html.page import report_page
from tools.report.latex import latex
from tools.report.markdown import main_table, markdown
from tools.report.wording import remarks, troubles
from utils.errors import UserError
from utils.files import write_text

REPORT = "report.html"


def write_outcome(
    outcome: Outcome, folder: Path, draw: Callable[[], Mapping[str, Sequence[CaptionedFigure]]]
) -> list[Path]:
    """Write a table's files into `folder`; their paths. UserError where they cannot be written.

    draw: makes the report's figures, which takes longer than the rest: a report whose table is the same is left alone.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); set --results") from None
    texts = {
        "table.md": markdown(outcome, folder),
        "table.tex": latex(outcome),
        "table.csv": spreadsheet(outcome, folder),
    }
    report = folder / REPORT
    current = report.is_file() and all(_holds(folder / name, text) for name, text in texts.items())
    for name, text in texts.items():
        write_text(folder / name, text)
    if not current:
        report.unlink(missing_ok=True)  # one that is interrupted here shall not be taken for that of the new table
        write_text(report, report_page(outcome, draw()))
    return [*(folder / name for name in texts), report]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def preview(outcome: Outcome) -> str:
    """The table for a terminal, and what is not finished."""
    lines = [*main_table(outcome, linked=False), "", *remarks(outcome, marked=False)]
    return "\n".join([*lines, *(f"not finished: {line}" for line in troubles(outcome.rows))])

"""The words and numbers of a table that its Markdown, LaTeX and HTML have in common."""

from __future__ import annotations

from collections.abc import Sequence

from tools.tables.outcome import Cell, OutcomeRow
from tools.tables.table import RANKINGS, Table, options

METRICS = {"r1": "rank-1", "r5": "rank-5", "r10": "rank-10", "r20": "rank-20", "mAP": "mAP", "mINP": "mINP"}
RANKING_NAMES = {"cosine": "cosine", "mser": "MSER†"}
NOT_PUBLISHED = "not published here"
NUMBERS = (
    "In percent; ± is the sample standard deviation over the runs of a row. "
    "In brackets: ours less the published figure."
)
DAGGER = (
    "† MSER uses the other queries: it re-ranks with all of them at hand (transductive), so its numbers are not under "
    "the conditions of the cosine ones beside them."
)


def headings(table: Table) -> list[tuple[str, str]]:
    """(ranking, metric) of each number of a line: a table's line shows one protocol."""
    return [(ranking, metric) for ranking in RANKINGS for metric in table.metrics]


def heading(ranking: str, metric: str) -> str:
    return f"{RANKING_NAMES[ranking]} {METRICS[metric]}"


def line_cells(table: Table, row: OutcomeRow, protocol: str) -> list[Cell | None]:
    """What a row shows of a protocol, in the order of `headings`; None where it shows nothing."""
    return [row.cell(protocol, ranking, metric) for ranking, metric in headings(table)]


def number(cell: Cell | None) -> str:
    """55.35 ± 1.20; a dash where there is no finished run, nothing where the row shows nothing."""
    if cell is None:
        return ""
    if cell.mean is None:
        return "–"
    return f"{cell.mean:.2f}" + ("" if cell.std is None else f" ± {cell.std:.2f}")


def published(cell: Cell | None) -> str:
    """89.51 (−2.19): the published figure, and how ours differs from it."""
    if cell is None:
        return ""
    if cell.published is None:
        return NOT_PUBLISHED
    return f"{cell.published:.2f}" + ("" if cell.difference is None else f" ({signed(cell.difference)})")


def signed(value: float) -> str:
    """+1.20, −2.19, 0.00."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def runs(row: OutcomeRow) -> str:
    """3 of 3: the finished ones."""
    return f"{row.finished} of {len(row.runs)}"


def changes(row: OutcomeRow) -> str:
    """vimc_wg false, loss_cmr false: the keys that a row changes."""
    return ", ".join(" ".join(options({key: value})) for key, value in row.changes.items())


def troubles(rows: Sequence[OutcomeRow]) -> list[str]:
    """What kept which runs from finishing, a line for each row and reason."""
    lines = []
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for run in row.runs:
            if run.state != "finished":
                said = f"failed: {run.message}" if run.state == "failed" else run.message
                reasons.setdefault(said, []).append(run.label)
        lines += [f"{row.name}, {' and '.join(labels)}: {said}" for said, labels in reasons.items()]
    return lines

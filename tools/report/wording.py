"""The words and numbers of a table that its Markdown, LaTeX and HTML have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.retrieval.rankers import label_of, uses_queries
from tools.experiments.outcome import Cell, Outcome, OutcomeRow
from tools.experiments.table import Column, Table, options

METRICS = {"r1": "rank-1", "r5": "rank-5", "r10": "rank-10", "r20": "rank-20", "mAP": "mAP", "mINP": "mINP"}
NONE = "–"  # in a cell that has no number
ONE_RUN = (
    "Rows with one run show no spread: a small difference between two rows may be noise of the seed. "
    "Several seeds for each row show how large that noise is."
)


def remarks(outcome: Outcome, marked: bool = True) -> list[str]:
    """What has to be known beside the numbers, only as far as it applies. marked: the best values are set in bold."""
    cells = [cell for row in outcome.rows for cell in row.cells]
    source = outcome.table.source
    protocols = outcome.table.protocols
    percent = f"In percent, {protocols[0]}." if len(protocols) == 1 else "In percent."
    if marked and leaders(outcome):
        percent += " Bold: the best of a column" + (", for each protocol." if len(protocols) > 1 else ".")
    if any(cell.std is not None for cell in cells):
        percent += " ± is the sample standard deviation over the runs of a row."
    if any(cell.difference is not None for cell in cells):
        percent += " In brackets: ours minus published."
    lines = [percent]
    if len(outcome.rows) > 1 and any(len(cell.values) == 1 for cell in cells):
        lines.append(ONE_RUN)
    if any(cell.published is not None for cell in cells):
        lines.append(f"Published values: {source}. A dash in place of one: none is known.")
    else:
        lines.append("No published values are known for this table.")
    return [*lines, *others_used(outcome.table.rankers)]


def others_used(rankers: Sequence[str]) -> list[str]:
    """What the † says, where a ranker has it."""
    names = [label_of(name) for name in rankers if uses_queries(name)]
    if not names:
        return []
    uses, ranks, whose = ("uses", "it re-ranks", "its") if len(names) == 1 else ("use", "they re-rank", "their")
    others = " and ".join(label_of(name) for name in rankers if not uses_queries(name))
    beside = f"the {others} numbers beside them" if others else "those of a ranking of each query alone"
    return [
        f"† {' and '.join(names)} {uses} the other queries: {ranks} with all of them at hand (transductive), so "
        f"{whose} numbers are not comparable with {beside}."
    ]


def ranking_name(name: str) -> str:
    """As a table's heading has it: a † where the ranker uses the other queries."""
    return label_of(name) + "†" * uses_queries(name)


def headings(table: Table) -> list[tuple[str, str]]:
    """(ranking, metric) of each number of a line: a table's line shows one protocol."""
    return [(ranking, metric) for ranking in table.rankers for metric in table.metrics]


def heading(ranking: str, metric: str) -> str:
    return f"{ranking_name(ranking)} {METRICS[metric]}"


def line_cells(table: Table, row: OutcomeRow, protocol: str) -> list[Cell | None]:
    """What a row shows of a protocol, in the order of `headings`; None where it shows nothing."""
    return [row.cell(protocol, ranking, metric) for ranking, metric in headings(table)]


def number(cell: Cell | None) -> str:
    """55.35 ± 1.20; a dash where there is no finished run, nothing where the row shows nothing."""
    if cell is None:
        return ""
    if cell.mean is None:
        return NONE
    return f"{cell.mean:.2f}" + ("" if cell.std is None else f" ± {cell.std:.2f}")


def published(cell: Cell | None) -> str:
    """89.51 (−2.19): the published number, and how ours differs from it; a dash where none is known."""
    if cell is None:
        return ""
    if cell.published is None:
        return NONE
    return f"{cell.published:.2f}" + ("" if cell.difference is None else f" ({signed(cell.difference)})")


def compared(outcome: Outcome, protocol: str | None = None) -> set[tuple[str, str]]:
    """(ranking, metric) of the columns that have a published figure in some row; of one protocol, or of all."""
    return {
        (cell.ranking, cell.metric)
        for row in outcome.rows
        for cell in row.cells
        if cell.published is not None and protocol in (None, cell.protocol)
    }


def leaders(outcome: Outcome) -> dict[Column, str]:
    """The best mean of each column as it is shown, 55.35; none where all rows show the same."""
    shown: dict[Column, list[float]] = {}
    for row in outcome.rows:
        for cell in row.cells:
            if cell.mean is not None:
                shown.setdefault(Column(*cell[:3]), []).append(cell.mean)
    return {column: f"{max(means):.2f}" for column, means in shown.items() if len({f"{m:.2f}" for m in means}) > 1}


def leads(cell: Cell | None, best: Mapping[Column, str]) -> bool:
    """Whether a cell shows the best mean of its column. best: as `leaders` says."""
    return cell is not None and cell.mean is not None and best.get(Column(*cell[:3])) == f"{cell.mean:.2f}"


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

"""A table's outcome as LaTeX, for the package booktabs. Pure."""

from __future__ import annotations

import re

from tools.tables.outcome import Outcome
from tools.tables.table import RANKINGS
from tools.tables.wording import (
    DAGGER,
    METRICS,
    NOT_PUBLISHED,
    NUMBERS,
    RANKING_NAMES,
    line_cells,
    number,
    published,
    runs,
    troubles,
)

SHORT = "n.p."  # in the cells; the note says what it means
ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "−": "$-$", "–": "--", "†": r"$^\dagger$",
}  # fmt: skip
SPECIAL = re.compile("|".join(map(re.escape, ESCAPES)))


def latex(outcome: Outcome) -> str:
    """A `table` environment with a line per row and protocol; \\usepackage{booktabs} and [T1]{fontenc} are needed."""
    table = outcome.table
    pairs = 2 * len(table.metrics)
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\begin{{tabular}}{{lll{'rr' * pairs}}}",
        r"\toprule",
        *_head(outcome),
        r"\midrule",
        *_body(outcome),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {escape(note)}" for note in _notes(outcome)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return SPECIAL.sub(lambda found: ESCAPES[found[0]], " ".join(text.split()))


def _head(outcome: Outcome) -> list[str]:
    metrics = outcome.table.metrics
    width = 2 * len(metrics)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape(RANKING_NAMES[ranking])}}}" for ranking in RANKINGS]
    rules = "".join(rf"\cmidrule(lr){{{4 + width * i}-{3 + width * (i + 1)}}}" for i in range(len(RANKINGS)))
    names = [name for _ in RANKINGS for metric in metrics for name in (escape(METRICS[metric]), "published")]
    return [_line(["", "", "", *groups]), rules, _line(["row", "protocol", "runs", *names])]


def _body(outcome: Outcome) -> list[str]:
    lines = []
    for row in outcome.rows:
        for protocol in outcome.table.protocols:
            texts = []
            for cell in line_cells(outcome.table, row, protocol):
                texts += [number(cell), published(cell).replace(NOT_PUBLISHED, SHORT)]
            lines.append(_line(map(escape, [row.name, protocol, runs(row), *texts])))
    return lines


def _notes(outcome: Outcome) -> list[str]:
    source = f"Published figures: {outcome.table.source}." if outcome.table.source else ""
    notes = [outcome.table.note, NUMBERS, f"{SHORT}: {NOT_PUBLISHED}.", source, DAGGER]
    return [note for note in (*notes, *(f"Not finished: {line}." for line in troubles(outcome.rows))) if note]


def _line(texts) -> str:
    return " & ".join(texts) + r" \\"

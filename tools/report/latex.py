"""A table's outcome as LaTeX, for the package booktabs. Pure."""

from __future__ import annotations

import re

from tools.experiments.outcome import Outcome
from tools.report.wording import (
    METRICS,
    compared,
    headings,
    leaders,
    leads,
    line_cells,
    number,
    published,
    ranking_name,
    remarks,
    runs,
    troubles,
)

ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "−": "$-$", "–": "--", "†": r"$^\dagger$",
}  # fmt: skip
SPECIAL = re.compile("|".join(map(re.escape, ESCAPES)))


def latex(outcome: Outcome) -> str:
    """A `table` environment with a line per row and protocol; \\usepackage{booktabs} and [T1]{fontenc} are needed."""
    table = outcome.table
    numbers = len(headings(table)) + len(compared(outcome))
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\begin{{tabular}}{{lll{'r' * numbers}}}",
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
    known, groups, rules, names = compared(outcome), [], "", []
    for ranking in outcome.table.rankers:
        start = 4 + len(names)
        for metric in outcome.table.metrics:
            names += [escape(METRICS[metric]), *(["published"] if (ranking, metric) in known else [])]
        width = 4 + len(names) - start
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(ranking_name(ranking))}}}")
        rules += rf"\cmidrule(lr){{{start}-{start + width - 1}}}"
    return [_line(["", "", "", *groups]), rules, _line(["row", "protocol", "runs", *names])]


def _body(outcome: Outcome) -> list[str]:
    best, known, lines = leaders(outcome), compared(outcome), []
    for row in outcome.rows:
        for protocol in outcome.table.protocols:
            texts = []
            for pair, cell in zip(headings(outcome.table), line_cells(outcome.table, row, protocol)):
                ours = escape(number(cell))
                ours = rf"\textbf{{{ours}}}" if leads(cell, best) else ours
                texts += [ours, escape(published(cell))] if pair in known else [ours]
            lines.append(_line([*map(escape, [row.name, protocol, runs(row)]), *texts]))
    return lines


def _notes(outcome: Outcome) -> list[str]:
    notes = [outcome.table.note, *remarks(outcome)]
    return [note for note in (*notes, *(f"Not finished: {line}." for line in troubles(outcome.rows))) if note]


def _line(texts) -> str:
    return " & ".join(texts) + r" \\"

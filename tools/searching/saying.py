"""Answers as text for a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tools.searching.answers import CANDIDATES, Answer, Hit, Query
from utils.errors import shown

HEADINGS = ("rank", "cosine", "distance", "re-ranked", "match", "identity", "camera", "modality", "path")
MATCH = {True: "right", False: "wrong", None: "-"}
NUMBERS = HEADINGS[:4]  # stand on the right of their columns


def name(text: str) -> str:
    """A name in one line that every terminal can print; a dash for none."""
    return shown(text) or "-"


def as_text(answer: Answer) -> str:
    """A heading and a table of one query's hits."""
    query, hits = answer
    again = any(hit.reranked is not None for hit in hits)
    rows = [cells(hit) for hit in hits]
    kept = [place for place, title in enumerate(HEADINGS) if again or title != "re-ranked"]
    table = [[row[place] for place in kept] for row in (HEADINGS, *rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [
        "  ".join(
            cell.rjust(width) if title in NUMBERS else cell.ljust(width)
            for title, cell, width in zip(table[0], row, widths)
        ).rstrip()
        for row in table
    ]
    return "\n".join([heading(query, again), *lines])


def heading(query: Query, reranked: bool) -> str:
    """What was searched for, and how."""
    who = f", identity {shown(query.identity)}" if query.identity else ""
    left_out = ", itself left out" if len(query.own) else ""
    how = f", k-reciprocal re-ranking of the first {CANDIDATES}" if reranked else ""
    return f"{shown(query.path)} ({query.modality}{who}{left_out}{how})"


def cells(hit: Hit) -> tuple[str, ...]:
    """A row of the table, in the order of HEADINGS."""
    return (
        str(hit.rank),
        f"{hit.cosine:.4f}",
        f"{hit.distance:.4f}",
        "-" if hit.reranked is None else f"{hit.reranked:.4f}",
        MATCH[hit.right],
        name(hit.identity),
        name(hit.camera),
        hit.modality,
        shown(hit.path),
    )


def as_share(index: str, share: float, count: int) -> str:
    """share: of the `count` nearest images of each query, what the index found."""
    return f"the index {index} found {100 * share:.1f} % of the {count} images that exact search finds"


def as_json(about: dict[str, Any], answers: Iterable[Answer]) -> str:
    """One object: what `about` says, and `queries`. Bytes of a path that are no UTF-8 are escaped as surrogates."""
    queries = [
        {
            "path": query.path,
            "modality": query.modality,
            "identity": query.identity,
            "left_out": query.own.tolist(),
            "hits": [hit._asdict() for hit in hits],
        }
        for query, hits in answers
    ]
    return json.dumps({**about, "queries": queries}, indent=1)

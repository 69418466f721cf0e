"""Which data set lies in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from data.sets import DATASETS
from data.sets.common import says_shut
from data.sets.value import DataSet
from utils.errors import UserError, pick, shown


@says_shut
def recognised(root: Path, name: str | None) -> DataSet:
    """The data set of this name, or the one of whose marks most lie in `root`. UserError where none or several do."""
    if not root.is_dir():
        raise UserError(f"{shown(root)}: no such folder; give the folder of a data set")
    if name is not None:
        return pick(DATASETS, name, "--dataset")
    found = likely(root)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{shown(root)}: may be {' or '.join(own.name for own in found)}; say which with --dataset")
    known = "; ".join(f"{own.name} ({', '.join(own.marks)})" for own in DATASETS.values() if own.marks)
    inside = [child for child in sorted(root.iterdir()) if child.is_dir() and likely(child)]
    hint = f"did you mean {shown(inside[0])}?" if inside else "say which it is with --dataset"
    raise UserError(f"{shown(root)}: looks like no known data set, {known}; {hint}")


def likely(root: Path) -> list[DataSet]:
    """The data sets of whose marks most lie in the folder, at least one; more than one where they tie."""
    there = set(os.listdir(root))
    scores = {name: len(there.intersection(own.marks)) for name, own in DATASETS.items()}
    best = max(scores.values())
    return [DATASETS[name] for name, score in scores.items() if score == best] if best else []

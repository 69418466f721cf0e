"""Features of a file -> rows of results under every setting of a protocol, with what they cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data.sets.value import DataSet, Listing
from engine.evaluator import result_rows
from engine.retrieval.rankers import DEFAULT, RANKERS, Rank
from tools.judging.features import FeatureFile
from utils.errors import UserError
from utils.resources import peak_memory_gb
from utils.results import format_table, write_rows
from utils.types import Exclusion, Features, Modality, ResultRow, Setting, Stage


class Outcome(NamedTuple):
    """One ranking under every setting."""

    rows: list[ResultRow]
    seconds: float
    peak_memory_gb: float | None  # so far; None: not known


def listing(file: FeatureFile) -> Listing:
    """What the file says about its images."""
    labels = {modality: (side.pids.tolist(), side.cameras.tolist()) for modality, side in file.features.items()}
    pids, cameras = ({modality: own[i] for modality, own in labels.items()} for i in range(2))
    return Listing(str(file.path), pids, cameras, file.names)


def require_galleries(file: FeatureFile, settings: Iterable[Setting]) -> None:
    for setting in settings:
        if not all(len(trial.gallery) for trial in setting.trials):
            raise UserError(f"{file.path}: visible_embeddings has no image for the gallery of {setting.protocol}")


def rankings(names: Sequence[str] | None, dataset: DataSet, spectra: int) -> Sequence[str]:
    """The rankings that the command names, or the default for this number of spectra."""
    chosen = names or [name for name in DEFAULT if not RANKERS[name].spectra or spectra > 1 and dataset.mser]
    for name in chosen:
        if RANKERS[name].spectra and spectra == 1:
            label = RANKERS[name].label
            warn(f"visible_embeddings has the original spectrum only, so {name} is not the published {label}")
    return chosen


def outcome(
    features: Mapping[Modality, Features],
    settings: Sequence[Setting],
    excluded: Exclusion,
    name: str,
    rank: Rank,
    memory_gb: float,
    split: int | None,
) -> Outcome:
    """One ranking under every setting, timed. The features are on the device to compute on."""
    start = time.perf_counter()
    rows = result_rows(features, settings, excluded, {name: rank}, memory_gb, split, Stage("test", None))
    seconds, peak = time.perf_counter() - start, peak_memory_gb(features[Modality.VISIBLE].embeddings.device)
    return Outcome(rows, round(seconds, 3), None if peak is None else round(peak, 3))


def report(outcomes: Sequence[Outcome], out: Path | None) -> None:
    """Print the table, seconds and memory; write the rows, a protocol's rankings one after another, as in training."""
    rows = [row for protocol in zip(*(outcome.rows for outcome in outcomes)) for row in protocol]
    print(f"in percent:\n{format_table(rows)}")
    for outcome in outcomes:
        print(f"{outcome.rows[0].ranking}: {outcome.seconds:.2f} s")
    peak = outcomes[-1].peak_memory_gb
    print("peak memory: not known on this system" if peak is None else f"peak memory: {peak:.2f} GB")
    if out is not None:
        costs = {outcome.rows[0].ranking: outcome._asdict() for outcome in outcomes}
        write_rows(out, rows, [{key: costs[row.ranking][key] for key in ("seconds", "peak_memory_gb")} for row in rows])
        print(f"rows: {out}")


def warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)

"""Evaluate embeddings that any code extracted, under a data set's official protocol.

python -m tools.evaluate FEATURES.npz --protocol sysu --perm SYSU-MM01/exp/rand_perm_cam.mat --out rows.jsonl

docs/features_format.md lists the arrays of FEATURES.npz.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data.sets import DATASETS
from data.sets.value import DataSet, Foreign, Listing, require_split
from engine.evaluator import result_rows
from engine.retrieval.rankers import DEFAULT, RANKERS, Rank, rankers, require_rankers
from tools.features import FeatureFile, read_features
from utils.cli import Parser, exit_code, natural, positive, require_place
from utils.device import pick_device, with_float64
from utils.errors import UserError
from utils.files import expanded
from utils.resources import peak_memory_gb
from utils.results import format_table, write_rows
from utils.types import Exclusion, Features, Modality, ResultRow, Setting, Stage


class Outcome(NamedTuple):
    """One ranking under every setting."""

    rows: list[ResultRow]
    seconds: float
    peak_memory_gb: float | None  # so far; None: not known


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    dataset, foreign = protocols()[args.protocol]
    require_rankers("--rank", args.rank or [])
    rankers(args.rank or [], dataset.mser)
    require_meaning(args, dataset, foreign)
    require_place(args.out)
    device = pick_device(args.device)
    file = read_features(args.features, foreign.named)
    settings, warnings = foreign.settings(listing(file), args.perm)
    for line in warnings:
        warn(line)
    require_galleries(file, settings)
    chosen = rankings(args.rank, dataset, spectra=len(file.features[Modality.VISIBLE].embeddings))
    made = rankers(chosen, dataset.mser)
    device = with_float64(device)  # which the metrics need
    features = {modality: Features(*(tensor.to(device) for tensor in side)) for modality, side in file.features.items()}
    outcomes = {
        name: outcome(features, settings, dataset.excluded, name, rank, args.memory_gb, args.split)
        for name, rank in made.items()
    }
    report(list(outcomes.values()), args.out)


def protocols() -> dict[str, tuple[DataSet, Foreign]]:
    """What --protocol may be: every data set's own, and those of other code for it."""
    return {name: (dataset, own) for dataset in DATASETS.values() for name, own in dataset.foreign.items()}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    known = protocols()
    drawn = [f"{name}: {own.trials.partition(',')[0]}" for name, (_, own) in known.items() if own.trials]
    split = [f"{name}: {own.splits[0]} to {own.splits[-1]}" for name, (own, _) in known.items() if own.splits]
    parser = Parser(prog="python -m tools.evaluate", description=__doc__)
    parser.add_argument(
        "features", type=expanded, metavar="FEATURES.npz", help="Read the embeddings and their labels from this file."
    )
    parser.add_argument(
        "--protocol", choices=sorted(known), required=True, help="Evaluate under this protocol of a data set."
    )
    parser.add_argument(
        "--perm",
        type=expanded,
        metavar="FILE",
        help="Take the trials from this file (required with " + "; ".join(drawn) + ").",
    )
    parser.add_argument(
        "--rank",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help=f"Rank by {', '.join(RANKERS)}, separated by commas (default: cosine, and mser of four spectra).",
    )
    parser.add_argument(
        "--out",
        type=expanded,
        metavar="FILE",
        help="Write the rows to this file, one JSON object per line (default: print only).",
    )
    parser.add_argument("--device", help="Rank on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    parser.add_argument(
        "--memory-gb",
        type=positive,
        default=1.0,
        metavar="GB",
        help="Use at most so much memory for ranking, beside the embeddings (default: 1).",
    )
    parser.add_argument(
        "--split",
        type=natural,
        metavar="N",
        help="Name this split in the rows (" + "; ".join(split) + "; default: none).",
    )
    return parser.parse_args(argv)


def require_meaning(args: argparse.Namespace, dataset: DataSet, foreign: Foreign) -> None:
    """UserError for an argument that the data set needs and that is lacking, or that it has no use for."""
    said, trials = f"--protocol {args.protocol}", foreign.trials
    if args.split is not None:
        if not dataset.splits:
            raise UserError(f"--split is not used with {said}, which has one split")
        require_split(dataset, args.split, f"--split = {args.split}")
    if args.perm is not None and not trials:
        raise UserError(f"--perm is not used with {said}, whose trials come from no file")
    if args.perm is None and trials:
        raise UserError(f"{said} needs --perm FILE: {trials}")


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


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

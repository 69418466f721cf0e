"""Evaluate embeddings that any code extracted, under a data set's official protocol.

python -m tools.evaluate FEATURES.npz --protocol sysu --perm SYSU-MM01/exp/rand_perm_cam.mat --out rows.jsonl

docs/features_format.md lists the arrays of FEATURES.npz.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from data.sets import DATASETS
from data.sets.value import DataSet, Foreign, require_split
from engine.retrieval.rankers import RANKERS, rankers, require_rankers
from tools.judging.features import read_features
from tools.judging.judged import listing, outcome, rankings, report, require_galleries, warn
from utils.cli import Parser, exit_code, natural, positive, require_place
from utils.device import pick_device, with_float64
from utils.errors import UserError
from utils.files import expanded
from utils.types import Features, Modality


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
    features = "Read the embeddings and their labels from this file."
    parser.add_argument("features", type=expanded, metavar="FEATURES.npz", help=features)
    protocol = "Evaluate under this protocol of a data set."
    parser.add_argument("--protocol", choices=sorted(known), required=True, help=protocol)
    trials = f"Take the trials from this file (required with {'; '.join(drawn)})."
    parser.add_argument("--perm", type=expanded, metavar="FILE", help=trials)
    names = f"Rank by {', '.join(RANKERS)}, separated by commas (default: cosine, and mser of four spectra)."
    parser.add_argument("--rank", type=lambda text: text.split(","), metavar="NAMES", help=names)
    out = "Write the rows to this file, one JSON object per line (default: print only)."
    parser.add_argument("--out", type=expanded, metavar="FILE", help=out)
    parser.add_argument("--device", help="Rank on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    memory = "Use at most so much memory for ranking, in GB, beside the embeddings (default: 1)."
    parser.add_argument("--memory-gb", type=positive, default=1.0, metavar="GB", help=memory)
    number = f"Name this split in the rows ({'; '.join(split)}; default: none)."
    parser.add_argument("--split", type=natural, metavar="N", help=number)
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


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

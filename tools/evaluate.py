"""Evaluate embeddings that any code extracted, under a data set's official protocol.

python -m tools.evaluate FEATURES.npz --protocol sysu --perm SYSU-MM01/exp/rand_perm_cam.mat --out rows.jsonl

docs/features_format.md lists the arrays of FEATURES.npz.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data.build import DATASETS
from data.sets import regdb, sysu
from data.sets.common import differences
from engine.evaluator import result_rows
from engine.retrieval.rankers import DEFAULT, RANKERS, Rank, rankers
from tools.features import NAMES, SIDES, FeatureFile, read_features
from utils.cli import Parser, exit_code, natural, positive
from utils.device import named_device, with_float64
from utils.errors import UserError, pick
from utils.files import expanded
from utils.resources import peak_memory_gb
from utils.results import format_table, write_rows
from utils.types import Exclusion, Features, Modality, Record, ResultRow, Setting, Stage

SPLITS = 10
PICTURE = re.compile(r"(?:.*[/\\])?cam([0-9]+)[/\\]([0-9]{4})[/\\]([0-9]{4})(?:\.\w+)?", re.DOTALL)


class Outcome(NamedTuple):
    """One ranking under every setting."""

    rows: list[ResultRow]
    seconds: float
    peak_memory_gb: float | None  # so far; None: not known


class Rules(NamedTuple):
    """What a data set asks of the arguments and of the file."""

    check: Callable[[argparse.Namespace], None]  # UserError for an argument that is lacking or not used
    settings: Callable[[FeatureFile, argparse.Namespace], list[Setting]]
    named: bool  # whether pictures need their names


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    dataset, rules = DATASETS[args.protocol], RULES[args.protocol]
    require_rankings(args.rank)
    rules.check(args)
    require_place(args.out)
    device = named_device(args.device)
    file = read_features(args.features, rules.named)
    settings = rules.settings(file, args)
    require_galleries(file, settings)
    chosen = rankings(args.rank, spectra=len(file.features[Modality.VISIBLE].embeddings))
    made = rankers(chosen, dataset.MSER)
    device = with_float64(device)  # which the metrics need
    features = {modality: Features(*(tensor.to(device) for tensor in side)) for modality, side in file.features.items()}
    outcomes = {
        name: outcome(features, settings, dataset.excluded, name, rank, args.memory_gb, args.split)
        for name, rank in made.items()
    }
    report(list(outcomes.values()), args.out)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m tools.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "features", type=expanded, metavar="FEATURES.npz", help="Read the embeddings and their labels from this file."
    )
    parser.add_argument(
        "--protocol", choices=sorted(DATASETS), required=True, help="Evaluate under the protocol of this data set."
    )
    parser.add_argument(
        "--perm",
        type=expanded,
        metavar="FILE",
        help="Take the trials from this file (sysu: required, exp/rand_perm_cam.mat of the data set).",
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
        help=f"Name this split, 1 to {SPLITS}, in the rows (regdb; default: none).",
    )
    return parser.parse_args(argv)


def require_rankings(names: Sequence[str] | None) -> None:
    """UserError for an unknown ranking and for one that is asked for twice."""
    for position, name in enumerate(names or []):
        pick(RANKERS, name, "--rank")
        if name in names[:position]:
            raise UserError(
                f"--rank = {','.join(names)!r} repeats {name}; choose each of {', '.join(sorted(RANKERS))} once"
            )


def require_place(out: Path | None) -> None:
    """UserError, before anything is computed, where no file can be."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; give a file")
    if out.exists() and not out.is_file():
        raise UserError(f"--out {out}: is a pipe or a device; give a file")


def require_galleries(file: FeatureFile, settings: Iterable[Setting]) -> None:
    for setting in settings:
        if not all(len(trial.gallery) for trial in setting.trials):
            raise UserError(f"{file.path}: visible_embeddings has no picture for the gallery of {setting.protocol}")


def rankings(names: Sequence[str] | None, spectra: int) -> Sequence[str]:
    """Those asked for, or the default for so many spectra."""
    chosen = names or [name for name in DEFAULT if spectra > 1 or not RANKERS[name].spectra]
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
    """Print the table and what it took; write the rows, a protocol's rankings one after another, as in training."""
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


def check_sysu(args: argparse.Namespace) -> None:
    if args.split is not None:
        raise UserError("--split is not used with --protocol sysu, which has one split")
    if args.perm is None:
        raise UserError(
            "--protocol sysu needs --perm FILE: exp/rand_perm_cam.mat of the data set, which its authors publish in "
            "their repository wuancong/SYSU-MM01 under evaluation/data_split/"
        )


def check_regdb(args: argparse.Namespace) -> None:
    if args.perm is not None:
        raise UserError("--perm is not used with --protocol regdb, whose galleries are not drawn")
    if args.split is not None and not 1 <= args.split <= SPLITS:
        raise UserError(f"--split = {args.split}: must lie in 1..{SPLITS}")


def sysu_settings(file: FeatureFile, args: argparse.Namespace) -> list[Setting]:
    """The official trials; what differs from the published test set is a warning."""
    permutations = sysu.read_permutations(args.perm)
    for modality, cameras in ((Modality.VISIBLE, sysu.VISIBLE_CAMERAS), (Modality.INFRARED, sysu.INFRARED_CAMERAS)):
        require_cameras(file, modality, cameras)
    queries = len(file.features[Modality.INFRARED].pids)
    settings = sysu.protocol_settings("sysu", sysu_records(file), queries, permutations)
    found = sysu.evaluation_counts(queries, settings)
    for line in differences("SYSU-MM01", {what: sysu.PUBLISHED[what] for what in found}, found):
        warn(line)
    return settings


def require_cameras(file: FeatureFile, modality: Modality, cameras: Sequence[int]) -> None:
    for row, camera in enumerate(file.features[modality].cameras.tolist()):
        if camera not in cameras:
            expected = ", ".join(map(str, cameras))
            raise UserError(f"{file.path}: {SIDES[modality]}_cameras, row {row}: {camera}; expected one of {expected}")


def sysu_records(file: FeatureFile) -> list[Record]:
    """The visible pictures by their names; UserError for a name that is none, is wrong, or comes twice."""
    _, pids, cameras = file.features[Modality.VISIBLE]
    rows: dict[str, int] = {}
    records = []
    for row, (name, pid, camera) in enumerate(zip(file.names, pids.tolist(), cameras.tolist())):
        record = sysu_record(file, row, name)
        if (record.pid, record.camera) != (pid, camera):
            raise UserError(
                f"{file.path}: {NAMES}, row {row}: {name!r}, but visible_cameras says {camera} and visible_pids {pid}; "
                "pids must be the data set's own identity numbers, not training labels"
            )
        if record.path in rows:
            raise UserError(
                f"{file.path}: {NAMES}, row {row}: {name!r} is the picture of row {rows[record.path]} again"
            )
        rows[record.path] = row
        records.append(record)
    return records


def sysu_record(file: FeatureFile, row: int, name: str) -> Record:
    found = PICTURE.fullmatch(name)
    if not found:
        raise UserError(
            f"{file.path}: {NAMES}, row {row}: {name!r}; expected cam{{c}}/{{identity:04d}}/{{number:04d}}, "
            "such as cam1/0006/0001"
        )
    camera, identity, number = map(int, found.groups())
    return Record(f"cam{camera}/{identity:04d}/{number:04d}", identity, camera, Modality.VISIBLE)


def regdb_settings(file: FeatureFile, args: argparse.Namespace) -> list[Setting]:
    return regdb.protocol_settings("regdb", *(len(file.features[modality].pids) for modality in SIDES))


RULES = {
    "sysu": Rules(check_sysu, sysu_settings, named=True),
    "regdb": Rules(check_regdb, regdb_settings, named=False),
}

if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

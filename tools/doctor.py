"""Look at a data set: what is there, what is missing or damaged, and what to do.

python -m tools.doctor datasets/SYSU-MM01

SYSU-MM01, RegDB, LLCM and own images (docs/own_images.md) are told apart by what lies in the folder. All images are
opened, unless --quick says otherwise. The exit code is 0 where all is well, 1 where training or its scores would not be
what one thinks, and 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from configs.command import DEFAULT_SEED
from data.images.workers import asked_workers
from data.sets import DATASETS
from tools.checkup.checks import Finding, checked, image_paths, read_all_splits
from tools.checkup.examine import examine_all
from tools.checkup.recognise import recognised
from tools.checkup.showing import table
from utils.cli import Parser, exit_code, natural
from utils.files import expanded


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.doctor", description=__doc__)
    parser.add_argument("root", type=expanded, metavar="ROOT", help="Look at the data set in this folder.")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"Take it for this one of {', '.join(DATASETS)} (default: what it looks like).",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        default=DEFAULT_SEED,
        help="Look at what a training with this seed tests on, where own images have no test (default: %(default)s).",
    )
    parser.add_argument("--quick", action="store_true", help="Look at lists and names alone, and open no image.")
    parser.add_argument(
        "--workers",
        type=natural,
        metavar="N",
        help="Open images with this number of processes (default: one for each core, 8 at most).",
    )
    return parser.parse_args(argv)


def look(args: argparse.Namespace) -> list[Finding]:
    """Print what is found, and return it."""
    reading = read_all_splits(recognised(args.root, args.dataset), args.root, args.seed)
    images = None if args.quick else examine_all(image_paths(reading), asked_workers(args.workers))
    findings = checked(reading, images)
    print(table(reading, images, findings))
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 something is to be put right, 2 bad arguments, 130 interrupted."""
    findings: list[Finding] = []
    code = exit_code(lambda: findings.extend(look(parse(argv))))
    return code or int(any(finding.serious for finding in findings))


if __name__ == "__main__":
    sys.exit(main())

"""Draws the figures of a run as PNG files for screen and paper (docs/report.md).

python -m tools.visualize RUN --what ranked_lists
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from engine.retrieval.rankers import PLAIN, RANKERS
from tools.report.captioned_figure import write_png
from tools.report.gallery import DRAWINGS, RANKED, draw
from tools.report.opened_run import Choice, Material
from utils.cli import Parser, exit_code
from utils.device import pick_device
from utils.logging import log_to_terminal, logger

FIGURES = "figures"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    log_to_terminal()
    names = list(DRAWINGS) if args.what == "all" else [args.what]
    material = Material(args.run, pick_device(args.device), choice(args, names), args.opts)
    folder = args.out or args.run / FIGURES
    drawings = draw(material, names) if args.what == "all" else DRAWINGS[args.what](material)
    for drawn in drawings:
        path = folder / f"{drawn.name}.png"
        write_png(path, drawn.figure.png)
        logger.info(f"written: {path}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.visualize", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="Draw the figures of this run folder.")
    parser.add_argument("--what", choices=[*DRAWINGS, "all"], default="all", help="Draw these figures (default: all).")
    parser.add_argument(
        "--ranking", choices=list(RANKERS), help="Show only this ranking (default: those of the run's final test)."
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="Show this protocol's first trial (default: the protocol evaluated during training).",
    )
    parser.add_argument(
        "--queries",
        type=int,
        choices=range(1, 6),
        default=1,
        help="Number of best, of median and of worst queries (default: 1).",
    )
    parser.add_argument(
        "--small", action="store_true", help="Write files of about 100 kB, for web pages (default: 150 dots per inch)."
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"Write to this folder (default: RUN/{FIGURES}).")
    parser.add_argument(
        "--device",
        "--gpu",
        help="Compute on cpu, cuda, cuda:N (or N alone) or mps (default: cuda where there is a GPU).",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="Override keys of the run's config.yml, such as: data_root FOLDER.",
    )
    return parser.parse_intermixed_args(argv)


def choice(args: argparse.Namespace, names: Sequence[str]) -> Choice:
    """What of the run the arguments choose. If no figure shows a ranking, the plain one serves, without spectra."""
    rankings = (args.ranking,) if args.ranking else None if RANKED & set(names) else (PLAIN,)
    return Choice(rankings, args.protocol, args.queries, args.small)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

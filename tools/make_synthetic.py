"""Make synthetic images of pedestrians, stored as SYSU-MM01, RegDB or LLCM are published, or as own images are.

    python -m tools.make_synthetic demo/data --train-ids 64 --test-ids 40 --images 4

The same arguments give the same bytes, whatever the number of workers. Colour does not carry over to the infrared
images; build, cut, pattern and belongings do.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tools.synthetic.layouts import LAYOUTS
from tools.synthetic.making import RECORD, already_made, unfinished
from tools.synthetic.request import LIKE, check, make_plan, words
from tools.synthetic.writing import write
from utils.cli import Parser, exit_code
from utils.interrupts import ended_as_by_ctrl_c


def build_parser() -> argparse.ArgumentParser:
    """Options without a value stay None, so that one that does not belong to the layout is noticed."""
    parser = Parser(prog="python -m tools.make_synthetic", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="Create this folder.")
    layout = f"Store the images as this data set does (default: {LIKE})."
    parser.add_argument("--layout", choices=tuple(LAYOUTS), default=LIKE, help=layout)
    for split, kind in (("train", "training"), ("val", "validation"), ("test", "test")):
        identities = f"Number of {kind} identities ({_defaults(split + '_ids')})."
        parser.add_argument(f"--{split}-ids", type=int, metavar="N", help=identities)
    identities = f"Number of identities, half of them for training ({_defaults('ids')})."
    parser.add_argument("--ids", type=int, metavar="N", help=identities)
    images = f"Number of images per identity and camera ({_defaults('images')})."
    parser.add_argument("--images", type=int, metavar="N", help=images)
    cameras = f"Use these cameras ({_defaults('cameras')})."
    parser.add_argument("--cameras", type=int, nargs="+", metavar="C", help=cameras)
    like = "Take identities, cameras and counts from DIR/{rand_perm_cam,train_id,test_id}.mat (sysu)."
    parser.add_argument("--like-sysu", type=Path, metavar="DIR", help=like)
    size = "Make images of this height and width, in pixels (default: 192 96)."
    parser.add_argument("--size", type=int, nargs=2, default=[192, 96], metavar=("H", "W"), help=size)
    parser.add_argument("--seed", type=int, default=0, help="Seed all random numbers with it (default: 0).")
    workers = "Number of processes (default: one per core, fewer for small sets)."
    parser.add_argument("--workers", type=int, metavar="N", help=workers)
    return parser


def _defaults(key: str) -> str:
    """The layouts that have an option, with its default: "default: sysu 4, regdb 10"."""
    given = {name: layout.options[key] for name, layout in LAYOUTS.items() if key in layout.options}
    said = (f"{name} {words(own) if isinstance(own, list) else own}" for name, own in given.items())
    return f"default: {', '.join(said)}"


def run(argv: list[str] | None) -> str:
    """Do it all; returns the line to print."""
    args = build_parser().parse_args(argv)
    chosen, out = check(args), Path(os.path.realpath(args.out))
    summary = already_made(out, chosen)
    if summary is not None:
        return f"{args.out}: already made with these arguments, left as it is: {summary}"
    plan, start = make_plan(args, chosen), time.monotonic()
    try:
        with unfinished(out, chosen) as part:
            write(part, plan, args.seed, tuple(args.size), args.workers)
            (part / RECORD).write_text(json.dumps({**chosen, "summary": plan.summary}, indent=1) + "\n")
    except KeyboardInterrupt:
        print(f"{args.out}: the same command resumes it; finished images are kept beside it", file=sys.stderr)
        raise
    return f"{args.out}: {plan.summary}; {time.monotonic() - start:.0f} s"


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done or nothing to do, 2 bad input, 130 interrupted."""
    return exit_code(lambda: print(run(argv)))


if __name__ == "__main__":
    sys.exit(ended_as_by_ctrl_c(main))  # so that the processes that draw end as well

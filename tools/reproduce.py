"""Run the trainings of a table, and write the table as Markdown, LaTeX, CSV and one HTML page.

python -m tools.reproduce configs/tables/main_sysu.yml --device cuda data_root /data/SYSU-MM01

A finished run is not run again, and an interrupted one is resumed (docs/tables.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from tools.experiments.collect import collect
from tools.experiments.commands import shell_lines, unfinished
from tools.experiments.launch import Launcher
from tools.experiments.older import with_older
from tools.experiments.outcome import Outcome
from tools.experiments.plan import Surroundings, make_plan
from tools.experiments.reading import read_table
from tools.experiments.run_id import code_hash
from tools.experiments.submit import Submitter
from tools.experiments.surroundings import data_fingerprints, precision_of, slots_of
from tools.experiments.table_options import build_parser, cluster_of
from tools.report.gallery import figures_of
from tools.report.outcome_files import preview, write_outcome
from utils.cli import exit_code
from utils.interrupts import ended_as_by_ctrl_c
from utils.logging import stop_logging, warn_on_terminal

T = TypeVar("T")
HOME = Path(__file__).resolve().parent.parent


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    return build_parser(__doc__).parse_intermixed_args(argv)


def reproduce(args: argparse.Namespace) -> Mapping[str, str]:
    """Do it all; why runs failed, by identity."""
    cluster = cluster_of(args)
    slots = slots_of(args.device, args.jobs, elsewhere=args.print or cluster is not None)
    around = Surroundings(data_fingerprints(), precision_of(slots[0]), code_hash(HOME))
    plan, notes = with_older(make_plan(read_table(args.table), args.opts, around), args.results, args.any_code)
    todo = unfinished(plan.jobs, args.results)
    if args.print:
        lines = ["in the folder of main.py", *notes]
        print("\n".join([*(f"# {line}" for line in lines), *shell_lines(todo, args.results, slots[0])]))
        return {}
    failures: Mapping[str, str] = {}
    done = len(plan.jobs) - len(todo)
    say(f"{plan.table.path}: {done} of {len(plan.jobs)} runs are finished" + ("" if todo else ", nothing to do"))
    for line in notes:
        say(line)
    if todo and cluster is not None:
        submitter = Submitter(cluster, args.results, slots[0], len(plan.jobs), say, HOME, around.code)
        failures = submitter.run(todo, start=not args.collect, wait=not (args.no_wait or args.collect))
    elif todo and not args.collect:
        failures = Launcher(args.results, slots, len(plan.jobs), say).run(todo)
    finish(collect(plan, args.results, failures), args.results, slots[0])
    return failures


def finish(outcome: Outcome, results: Path, slot: str) -> None:
    """Write the files, print the table and where it is."""
    paths = write_outcome(outcome, results / outcome.table.name, partial(figures_of, outcome, slot))
    say("\n".join([preview(outcome), *map(str, paths)]))


say = partial(print, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all is finished, 1 runs failed, 2 bad input, 130 interrupted."""
    failures: dict[str, str] = {}
    warn_on_terminal()
    try:
        code = exit_code(lambda: failures.update(_resumable(partial(reproduce, parse(argv)))))
    finally:
        stop_logging()
    return code or int(bool(failures))


def _resumable(work: Callable[[], T]) -> T:
    try:
        return work()
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(str(error) or "run the same command again to resume") from None


if __name__ == "__main__":
    sys.exit(ended_as_by_ctrl_c(main))

"""Run the trainings of a table, and write the table as Markdown, LaTeX, CSV and one HTML page.

python -m tools.reproduce configs/tables/main_sysu.yml --device cuda data_root /data/SYSU-MM01

A finished run is not run again, and an interrupted one is resumed (docs/tables.md).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from tools.experiments.clusters import CLUSTERS, OPTION, Local, Slurm, read_parameters
from tools.experiments.collect import collect
from tools.experiments.commands import shell_lines, unfinished
from tools.experiments.launch import Launcher
from tools.experiments.older import describe_older, older_runs, taking_older
from tools.experiments.outcome import Outcome
from tools.experiments.plan import Plan, Surroundings, make_plan
from tools.experiments.reading import read_table
from tools.experiments.run_id import code_hash
from tools.experiments.submit import Submitter
from tools.experiments.surroundings import data_fingerprints, precision_of, slots_of
from tools.report.gallery import pictures_of
from tools.report.outcome_files import preview, write_outcome
from utils.cli import Parser, exit_code, natural
from utils.errors import UserError
from utils.files import expanded
from utils.logging import stop_logging, warn_on_terminal

T = TypeVar("T")
HOME = Path(__file__).resolve().parent.parent


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.reproduce", description=__doc__)
    table = "Make the table that this file describes, such as one of configs/tables."
    parser.add_argument("table", type=expanded, metavar="TABLE.yml", help=table)
    device = "Run on cpu or mps, or on the GPUs from cuda:N (or N alone) on (default: from the first GPU on)."
    parser.add_argument("--device", "--gpu", help=device)
    jobs = "Number of trainings at a time, each on a GPU of its own (default: 1)."
    parser.add_argument("--jobs", type=natural, default=1, metavar="N", help=jobs)
    listed = "Print the commands of the runs that are left, and start nothing."
    parser.add_argument("--print", action="store_true", help=listed)
    collected = "Write the table of the runs that are finished, and start nothing."
    parser.add_argument("--collect", action="store_true", help=collected)
    slurm = (
        'Give the runs to a SLURM cluster, with these of its parameters, such as "partition=gpu time=12:00:00"; '
        '"local" does the same with processes of this machine.'
    )
    parser.add_argument(OPTION, metavar='"KEY=VALUE ..."', help=slurm)
    later = "With --slurm, return once the runs are submitted; a later call collects."
    parser.add_argument("--no-wait", action="store_true", help=later)
    parser.add_argument("--any-code", action="store_true", help="Take finished runs of other code as they are.")
    results = "Keep runs and tables in this folder (default: results)."
    parser.add_argument("--results", type=expanded, default=Path("results"), metavar="DIR", help=results)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys in every run.")
    return parser.parse_intermixed_args(argv)


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


def cluster_of(args: argparse.Namespace) -> Slurm | Local | None:
    """The cluster of --slurm; None without. UserError for what does not go together, or cannot be had here."""
    if args.slurm is None:
        if args.no_wait:
            raise UserError(f"--no-wait belongs to {OPTION}")
        return None
    if args.print or args.jobs != 1:
        raise UserError(f"{OPTION}: leave {'--print' if args.print else '--jobs'} out; the cluster starts the runs")
    name, parameters = read_parameters(args.slurm)
    cluster = CLUSTERS[name](parameters)
    cluster.require()
    return cluster


def with_older(plan: Plan, results: Path, taken: bool) -> tuple[Plan, list[str]]:
    """The plan, with the finished runs of other code in it where they are `taken`, and what to say about them."""
    older = older_runs(unfinished(plan.jobs, results), results)
    return (taking_older(plan, older) if taken else plan), ([describe_older(older, taken)] if older else [])


def finish(outcome: Outcome, results: Path, slot: str) -> None:
    """Write the files, print the table and where it is."""
    paths = write_outcome(outcome, results / outcome.table.name, partial(pictures_of, outcome, slot))
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


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    sys.exit(main())

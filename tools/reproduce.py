"""Run the trainings of a table, and write the table as Markdown, LaTeX, CSV and one HTML page.

python -m tools.reproduce configs/tables/main_sysu.yml --gpu 0 data_root /data/SYSU-MM01

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

import torch
from yacs.config import CfgNode

from data.build import build_benchmark, data_root, describe
from engine.optim import precision
from tools.experiments.collect import collect
from tools.experiments.commands import shell_lines, unfinished
from tools.experiments.launch import Launcher
from tools.experiments.older import describe_older, older_runs, taking_older
from tools.experiments.outcome import Outcome
from tools.experiments.plan import Plan, Surroundings, make_plan
from tools.experiments.reading import read_table
from tools.experiments.run_id import code_hash
from tools.report.outcome_files import preview, write_outcome
from tools.report.pictures import Picture
from tools.visualize import run_pictures
from utils.cli import Parser, exit_code, natural
from utils.device import pick_device
from utils.errors import UserError
from utils.files import expanded
from utils.logging import logger, stop_logging, warn_on_terminal

T = TypeVar("T")
HOME = Path(__file__).resolve().parent.parent


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m tools.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "table",
        type=expanded,
        metavar="TABLE.yml",
        help="Make the table that this file describes, such as one of configs/tables.",
    )
    parser.add_argument("--gpu", default="0", help="Start at the GPU of this number, or use cpu or mps (default: 0).")
    parser.add_argument(
        "--jobs",
        type=natural,
        default=1,
        metavar="N",
        help="Run so many trainings at a time, each on a GPU of its own (default: 1).",
    )
    parser.add_argument(
        "--print", action="store_true", help="Print the commands of the runs that are left, and start nothing."
    )
    parser.add_argument(
        "--collect", action="store_true", help="Write the table of the runs that are finished, and start nothing."
    )
    parser.add_argument("--any-code", action="store_true", help="Take finished runs of other code as they are.")
    parser.add_argument(
        "--results",
        type=expanded,
        default=Path("results"),
        metavar="DIR",
        help="Keep runs and tables in this folder (default: results).",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys in every run.")
    return parser.parse_intermixed_args(argv)


def reproduce(args: argparse.Namespace) -> Mapping[str, str]:
    """Do it all; why runs failed, by identity."""
    slots = slots_of(args.gpu, args.jobs, elsewhere=args.print)
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
    if todo and not args.collect:
        failures = Launcher(args.results, slots, len(plan.jobs), say).run(todo)
    finish(collect(plan, args.results, failures), args.results, slots[0])
    return failures


def with_older(plan: Plan, results: Path, taken: bool) -> tuple[Plan, list[str]]:
    """The plan, with the finished runs of other code in it where they are `taken`, and what to say about them."""
    older = older_runs(unfinished(plan.jobs, results), results)
    return (taking_older(plan, older) if taken else plan), ([describe_older(older, taken)] if older else [])


def finish(outcome: Outcome, results: Path, gpu: str) -> None:
    """Write the files, print the table and where it is."""
    paths = write_outcome(outcome, results / outcome.table.name, partial(pictures_of, outcome, gpu))
    say("\n".join([preview(outcome), *map(str, paths)]))


def pictures_of(outcome: Outcome, gpu: str) -> dict[str, list[Picture]]:
    """Pictures of the first finished run of the row that the table names for them; none before there is one."""
    (row,) = (row for row in outcome.rows if row.name == outcome.table.pictures)
    finished = [run for run in row.runs if run.state == "finished"]
    return {f"{row.name}, {run.label}": run_pictures(run.folder, pick_device(gpu)) for run in finished[:1]}


def slots_of(gpu: str, jobs: int, elsewhere: bool) -> list[str]:
    """What each of the runs at a time is told as --gpu. elsewhere: the GPUs are those of another machine."""
    if jobs < 1:
        raise UserError("--jobs 0: give 1 or more")
    if gpu in ("cpu", "mps"):
        return [gpu] * jobs
    if not gpu.isdecimal():
        raise UserError(f"--gpu {gpu}: give the number of the first GPU, cpu, or mps")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count and int(gpu) + jobs > count and not elsewhere:
        raise UserError(f"--gpu {gpu} --jobs {jobs}: there are {count} GPUs, numbered from 0")
    return [str(int(gpu) + number) for number in range(jobs)]


def data_fingerprints() -> Callable[[CfgNode, int], str]:
    """The fingerprint of a configuration's pictures, each data set and split read once."""
    known: dict[tuple, str] = {}

    def fingerprint(cfg: CfgNode, seed: int) -> str:
        key = (cfg.dataset, data_root(cfg), cfg.trial, cfg.select == "val" and seed)
        if key not in known:
            known[key] = describe(cfg, build_benchmark(cfg, seed), {})["fingerprint"]
        return known[key]

    return fingerprint


def precision_of(slot: str) -> Callable[[CfgNode], str]:
    """What the runs of a configuration compute in. slot: what their --gpu is told; "auto" where that is not here."""
    gpu = slot != "cpu"
    here = not gpu or torch.cuda.is_available() and int(slot) < torch.cuda.device_count()
    device = torch.device("cuda", int(slot)) if gpu else torch.device("cpu")

    def name(cfg: CfgNode) -> str:
        if not here and cfg.fp16 and cfg.amp_dtype == "auto":
            logger.warning(
                f"--gpu {slot}: no such GPU is here, so what amp_dtype auto means is not known; runs of another machine are "
                "found if amp_dtype is given, bf16 or fp16"
            )
            return "auto"
        return str(precision(cfg.fp16, cfg.amp_dtype, device) or torch.float32).removeprefix("torch.")

    return name


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
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command again to resume") from None


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    sys.exit(main())

"""Measure how long ranking takes, and how much memory it holds, beside the way it is usually written.

python -m benchmarks.retrieval SPLIT --quick, where SPLIT holds rand_perm_cam.mat and test_id.mat of SYSU-MM01.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.agreement import check
from benchmarks.features import SPREAD, regdb_like, sysu_like
from benchmarks.ranking_costs import Cost, alone, fast_cost, on_device, one_trial, plain_cost, rank, tensor_cost, timed
from engine.retrieval.rankers import RANKERS
from utils.cli import Parser, exit_code

PARTS = ("agreement", "protocols", "forms", "growth", "together")
REGDB_IDENTITIES = 206
GROWTH = (5, 10, 20, 50)  # thousand gallery images, with a tenth as many queries
PLAIN_GROWTH = 5


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {graphics()}")
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}; width {args.width}\n"
    )
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if "agreement" in args.parts:
        print(alone(check, args.split, args.width), end="\n\n", flush=True)
    if "protocols" in args.parts:
        print_protocols(args, devices)
    if "forms" in args.parts:
        print_forms(args)
    if "growth" in args.parts:
        print_growth(args, devices)
    if "together" in args.parts:
        print_together(args, devices[-1])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("split", type=Path, help="Read rand_perm_cam.mat and test_id.mat (or .txt) in this folder.")
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=PARTS, help="Run these parts of the benchmark (default: all)."
    )
    parser.add_argument(
        "--quick", action="store_true", help="Time one plain trial of each setting, and extrapolate the rest."
    )
    parser.add_argument("--no-plain", action="store_true", help="Time the fast way alone.")
    parser.add_argument("--width", type=int, default=2048, help="Numbers in an embedding (default: %(default)s).")
    parser.add_argument(
        "--identities",
        type=int,
        default=REGDB_IDENTITIES,
        help="Identities of the RegDB-like part (default: %(default)s).",
    )
    parser.add_argument(
        "--growth",
        type=int,
        nargs="*",
        default=GROWTH,
        help="Sizes of the galleries, in thousands of images (default: %(default)s).",
    )
    parser.add_argument("--runs", type=int, default=3, help="Print the median of RUNS runs (default: %(default)s).")
    return parser.parse_args(argv)


def graphics() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


# ---------------------------------------------------------------------------------------------------------------- costs


def print_protocols(args: argparse.Namespace, devices: Iterable[str]) -> None:
    print("| features | protocol | ranking | plain s | plain GB | " + columns(devices))
    print("|---|---|---|---|---|" + "---|---|---|" * len(devices))
    sysu = [f"sysu/{mode}/{shots}-shot" for mode in ("all", "indoor") for shots in (1, 10)]
    for name, spread in SPREAD.items():
        for make, protocols in (
            (partial(sysu_like, args.split, spread, args.width), sysu),
            (partial(regdb_like, args.identities, spread, args.width), ["regdb/i2v", "regdb/v2i"]),
        ):
            for ranking in ("cosine", "mser"):
                total = Cost(0, None)
                for protocol in protocols:
                    slowly = None if args.no_plain else alone(plain_cost, make, ranking, protocol, args.quick)
                    total = total._replace(seconds=total.seconds + (slowly.seconds if slowly else 0))
                    fast = [alone(fast_cost, make, ranking, [protocol], device, args.runs) for device in devices]
                    print_row([name, protocol, ranking], slowly, fast)
                if len(protocols) > 2:
                    total = None if args.no_plain else total._replace(extrapolated=args.quick)
                    fast = [alone(fast_cost, make, ranking, protocols, device, args.runs) for device in devices]
                    print_row([name, f"{len(protocols)} settings at once", ranking], total, fast)
    print()


def print_forms(args: argparse.Namespace) -> None:
    """The compiled loops against the tensor operations that other devices use, both on the CPU."""
    print(
        "| features | protocol | ranking | tensor operations s | compiled loops s | ratio |\n|---|---|---|---|---|---|"
    )
    protocol = "sysu/indoor/10-shot"
    for ranking in ("cosine", "mser"):
        arguments = partial(sysu_like, args.split, SPREAD["clean"], args.width), ranking, [protocol], "cpu", 1
        slowly, fast = alone(tensor_cost, *arguments), alone(fast_cost, *arguments)
        ratio = slowly.seconds / fast.seconds
        print(f"| clean | {protocol} | {ranking} | {seconds(slowly)} | {seconds(fast)} | {ratio:.1f} |", flush=True)
    print()


def print_together(args: argparse.Namespace, device: str) -> None:
    """Every setting of both data sets at once, in this one process, on a GPU where there is one.

    The memory shown is that beside the features.
    """
    makers = (partial(sysu_like, args.split), partial(regdb_like, args.identities))
    rank(regdb_like(3, 1.0, 16), "mser", ["regdb/i2v", "regdb/v2i"], device)  # starts the device
    print(f"| features | settings at once | ranking | {device} s | {device} GB |\n|---|---|---|---|---|")
    for (name, spread), make in product(SPREAD.items(), makers):
        data = on_device(make(spread, args.width), device)
        protocols = [setting.protocol for setting in data.settings]
        for ranking in RANKERS:
            cost = timed(data, ranking, protocols, device, args.runs)
            print(f"| {name} | {', '.join(protocols)} | {ranking} | {seconds(cost)} | {memory(cost)} |", flush=True)
    print()


def print_growth(args: argparse.Namespace, devices: Iterable[str]) -> None:
    print("| gallery | queries | ranking | plain s | plain GB | " + columns(devices))
    print("|---|---|---|---|---|" + "---|---|---|" * len(devices))
    for thousands in args.growth:
        make = partial(one_trial, 1000 * thousands, 100 * thousands, args.width)
        for ranking in ("cosine", "k_reciprocal"):
            feasible = thousands <= PLAIN_GROWTH and ranking == "cosine" and not args.no_plain
            slowly = alone(plain_cost, make, ranking, "growth", True) if feasible else None
            fast = [alone(fast_cost, make, ranking, ["growth"], device, args.runs) for device in devices]
            print_row([f"{1000 * thousands:,}", f"{100 * thousands:,}", ranking], slowly, fast)


# ---------------------------------------------------------------------------------------------------------------- table


def columns(devices: Iterable[str]) -> str:
    return " | ".join(f"{device} s | {device} GB | ratio" for device in devices) + " |"


def print_row(labels: Sequence[str], slowly: Cost | None, fast: Iterable[Cost]) -> None:
    cells = [*labels, *(("-", "-") if slowly is None else (seconds(slowly), memory(slowly)))]
    for cost in fast:
        ratio = "-" if slowly is None else f"{slowly.seconds / cost.seconds:.0f}"
        cells += [seconds(cost), memory(cost), ratio]
    print("| " + " | ".join(cells) + " |", flush=True)


def seconds(cost: Cost) -> str:
    return f"{'~' if cost.extrapolated else ''}{cost.seconds:.3g}"


def memory(cost: Cost) -> str:
    return "-" if cost.peak_gb is None else f"{cost.peak_gb:.2f}"


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

"""Measure how long ranking takes, and how much memory it holds, beside the way it is usually written.

python -m benchmarks.retrieval SPLIT --quick, where SPLIT holds rand_perm_cam.mat and test_id.mat of SYSU-MM01.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import plain
from benchmarks.features import SPREAD, Data, draw, regdb_like, sysu_like
from data.sets import regdb
from engine.retrieval import cpu_ranking as kernels
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.metrics import ranking_metrics
from engine.retrieval.mser import mser_distance
from engine.retrieval.rankers import RANKERS
from tests import reference as slow
from utils.cli import Parser, exit_code
from utils.resources import peak_memory_gb
from utils.types import Modality, Record, Setting, Trial

Result = TypeVar("Result")
PARTS = ("agreement", "protocols", "forms", "growth", "together")
REGDB_IDENTITIES = 206
GROWTH = (5, 10, 20, 50)  # thousand gallery images, with a tenth as many queries
PLAIN_GROWTH = 5
GAP = 1e-6  # between squared distances, below which float32 may take another neighbour


class Cost(NamedTuple):
    seconds: float
    peak_gb: float | None
    extrapolated: bool = False


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
    parser = Parser(
        prog="python -m benchmarks.retrieval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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


# ----------------------------------------------------------------------------------------------------------- agreement


def check(split: Path, width: int) -> str:
    """The fast way against the definition on a part, and against float64 on a whole trial."""
    data = sysu_like(split, SPREAD["weak"], width)
    query, gallery = sides(data, data.settings[0], slice(None, None, 60), slice(None, None, 150))
    fast, exact = mser_distance(query, gallery, 10, 4, 0.3, True), slow.mser(query, gallery, 10, 4, 0.3, True)
    labels = [data.features[m].pids[step] for m, step in ((1, slice(None, None, 60)), (0, slice(None, None, 150)))]
    out = np.zeros(fast.shape, dtype=bool)
    found, expected = ranking_metrics(fast, *labels, out), slow.metrics(fast.numpy(), *map(np.asarray, labels), out)
    lines = [
        f"a part, against tests/reference.py: MSER distances differ by {np.abs(fast.numpy() - exact).max():.1e}, "
        f"metrics of the same distances by {max(abs(found[name] - expected[name]) for name in found):.1e}"
    ]
    for name, spread in SPREAD.items():
        data = sysu_like(split, spread, width)
        setting = data.settings[0]
        query, gallery = sides(data, setting, setting.trials[0].query, setting.trials[0].gallery)
        fast = mser_distance(query, gallery, *data.mser).numpy()
        double = (query.astype(np.float64), gallery.astype(np.float64))
        difference = np.abs(fast - plain.mser(*double, *data.mser))
        close = boundaries(*double, *data.mser[:2])
        lines.append(
            f"{name}, one whole trial of {setting.protocol}, against float64: {close} of {query.shape[1] + 4 * gallery.shape[1]} "
            f"images have a gap below {GAP:.0e} at k1 or k2; MSER distances differ by {difference.max():.1e} at most, "
            f"{(difference > 1e-5).sum()} of {difference.size} by more than 1e-5"
        )
    return "\n".join(lines)


def sides(data: Data, setting: Setting, query, gallery) -> tuple[np.ndarray, np.ndarray]:
    """Normalised embeddings of the chosen infrared queries and visible gallery images."""
    chosen = ((data.features[Modality.INFRARED], query), (data.features[Modality.VISIBLE], gallery))
    return tuple(F.normalize(features.embeddings[:, rows], dim=2).numpy() for features, rows in chosen)


def boundaries(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int) -> int:
    """Images whose last neighbour at k1 + 1 or k2, among the queries, is no nearer than the next one by GAP."""
    near = np.sort(plain.squared(np.concatenate([*query, *gallery]), query[0]), axis=1)

    def unsure(rows: np.ndarray, k: int) -> np.ndarray:
        return rows[:, k] - rows[:, k - 1] < GAP if k < rows.shape[1] else np.zeros(len(rows), dtype=bool)

    expanded, own = unsure(near, k2), unsure(near[: query.shape[1]], k1 + 1)
    return int(expanded[len(own) :].sum() + (expanded[: len(own)] | own).sum())


# --------------------------------------------------------------------------------------------------------------- costs


def print_protocols(args: argparse.Namespace, devices: Iterable[str]) -> None:
    print("| features | protocol | ranking | plain s | plain GB | " + columns(devices))
    print("|---|---|---|---|---|" + "---|---|---|" * len(devices))
    for name, spread in SPREAD.items():
        for make, protocols in (
            (partial(sysu_like, args.split, spread, args.width), [f"sysu/{m}/{s}-shot" for m in ("all", "indoor") for s in (1, 10)]),
            (partial(regdb_like, args.identities, spread, args.width), ["regdb/i2v", "regdb/v2i"]),
        ):  # fmt: skip
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


def tensor_cost(*arguments) -> Cost:
    """`fast_cost` without the compiled loops."""
    with mock.patch.object(kernels, "on_cpu", lambda tensor: False):
        return fast_cost(*arguments)


def print_together(args: argparse.Namespace, device: str) -> None:
    """Every setting of both data sets at once, on a GPU where there is one, in this one process; memory beside the features."""
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


def timed(data: Data, ranking: str, protocols: Sequence[str], device: str, runs: int) -> Cost:
    """Median seconds, and on a GPU the most memory beside what was there before."""
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = [shortly(lambda: rank(data, ranking, protocols, device)) for _ in range(runs)]
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else None
    return Cost(statistics.median(times), peak and peak / 2**30)


def shortly(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def on_device(data: Data, device: str) -> Data:
    moved = {modality: type(side)(*(part.to(device) for part in side)) for modality, side in data.features.items()}
    return data._replace(features=moved)


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


def one_trial(gallery: int, queries: int, width: int) -> Data:
    """One trial of the given size, ten infrared images of each identity, the original spectrum only."""
    visible, infrared = (
        [Record("", number % (queries // 10), camera, modality) for number in range(count)]
        for count, camera, modality in ((gallery, 1, Modality.VISIBLE), (queries, 2, Modality.INFRARED))
    )
    features = draw(visible, infrared, SPREAD["clean"], width, spectra=1)
    setting = Setting("growth", Modality.INFRARED, [Trial(np.arange(queries), np.arange(gallery))])
    return Data(features, [setting], regdb.excluded, regdb.MSER)


def fast_cost(make: Callable[[], Data], ranking: str, protocols: Sequence[str], device: str, runs: int) -> Cost:
    """Median seconds of our evaluation, and the process's peak memory."""
    rank(regdb_like(3, 1.0, 16), ranking, ["regdb/i2v", "regdb/v2i"], device)  # compiles
    data = on_device(make(), device)
    times = [shortly(lambda: rank(data, ranking, protocols, device)) for _ in range(runs)]
    return Cost(statistics.median(times), peak_memory_gb(torch.device(device)))


def rank(data: Data, ranking: str, protocols: Sequence[str], device: str) -> None:
    data = on_device(data, device)
    settings = [setting for setting in data.settings if setting.protocol in protocols]
    evaluate_settings(data.features, settings, data.excluded, RANKERS[ranking].make(data.mser), 1.0)
    if device == "cuda":
        torch.cuda.synchronize()


def plain_cost(make: Callable[[], Data], ranking: str, protocol: str, quick: bool) -> Cost:
    """Seconds of the plain way, on the CPU; quick: of one trial, times the number of trials."""
    data = make()
    setting = next(setting for setting in data.settings if setting.protocol == protocol)
    trials = setting.trials[:1] if quick else setting.trials
    start = time.perf_counter()
    for trial in trials:
        plain_trial(data, ranking, setting, trial)
    seconds = time.perf_counter() - start
    factor = len(setting.trials) / len(trials)
    return Cost(seconds * factor, peak_memory_gb(torch.device("cpu")), extrapolated=factor > 1)


def plain_trial(data: Data, ranking: str, setting: Setting, trial: Trial) -> dict[str, float]:
    first, second = setting.query_modality, Modality(1 - setting.query_modality)
    parts = ((data.features[first], trial.query), (data.features[second], trial.gallery))
    query, gallery = (F.normalize(features.embeddings[:, rows], dim=2).numpy() for features, rows in parts)
    labels = [part[rows] for features, rows in parts for part in features[1:]]
    dist = plain.cosine(query, gallery) if ranking == "cosine" else plain.mser(query, gallery, *data.mser)
    return plain.metrics(dist, labels[0].numpy(), labels[2].numpy(), data.excluded(*labels).numpy())


def alone(work: Callable[..., Result], *arguments) -> Result:
    """work(*arguments) in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


# --------------------------------------------------------------------------------------------------------------- table


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

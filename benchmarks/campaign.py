"""Kills runs and damages files, and says what became of them, as Markdown (docs/reliability.md).

python -m benchmarks.campaign --kills 100 --mutations 500 --seed 1

Takes about half an hour on two CPU cores. The runs are tiny: resnet18, 32 x 32 pixels, two epochs. Linux only: it
forks.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from benchmarks.faults.kills import Scene, Tally, campaign, scenes
from benchmarks.faults.targets import RUN, TARGETS, Target, make_home
from benchmarks.faults.verdicts import Verdict, damaged, undamaged
from benchmarks.faults.world import World, make_world
from utils.cli import Parser, exit_code, natural

HOME = "home"  # files say where they lie, so the damaged copies lie where the whole one was made
COLUMNS = ("refused", "right", "other", "defect")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 where everything held, 1 where something did not."""
    faults: list[str] = []
    return exit_code(lambda: faults.extend(work(parse(argv)))) or int(bool(faults))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.campaign", description=__doc__)
    parser.add_argument("--kills", type=natural, default=100, metavar="N", help="SIGKILLs to send (default: 100).")
    parser.add_argument("--mutations", type=natural, default=500, metavar="N", help="Files to damage (default: 500).")
    parser.add_argument("--seed", type=natural, default=1, help="Draw moments and damages with this seed (default: 1).")
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="Take only scenes and files whose names hold this text (default: all).",
    )
    parser.add_argument("--without", default=None, metavar="TEXT", help="Leave out those whose names hold this text.")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace, name: str) -> bool:
    return args.only in name and (args.without is None or args.without not in name)


def work(args: argparse.Namespace) -> list[str]:
    """All of it; what did not hold."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # a child that is forked cannot use threads that its parent started
    with tempfile.TemporaryDirectory(prefix="campaign") as folder:
        world = make_world(Path(folder))
        clean = world.top / "clean"
        make_home(world, world.top / HOME)
        (world.top / HOME).rename(clean)
        faults = [] if not args.kills else kill(world, clean, args)
        return faults + ([] if not args.mutations else mutate(world, clean, args))


def kill(world: World, clean: Path, args: argparse.Namespace) -> list[str]:
    chosen = [scene for scene in scenes(clean / RUN) if asked(args, scene.name)]
    print("\n| killed | SIGKILLs | runs | as if undisturbed |\n|---|--:|--:|--:|", flush=True)
    tallies: list[Tally] = []
    for scene, count in zip(chosen, shares(args.kills, [scene.share for scene in chosen])):
        dice = random.Random(f"{args.seed} {scene.name}")
        if count:
            tallies.append(killed_scene(world, scene, count, dice))
    totals = [sum(getattr(tally, name) for tally in tallies) for name in ("kills", "runs", "exact")]
    print(f"| all | {' | '.join(map(str, totals))} |", flush=True)
    return say_faults(fault for tally in tallies for fault in tally.faults)


def killed_scene(world: World, scene: Scene, count: int, dice: random.Random) -> Tally:
    home = world.top / "kills"
    tally = campaign(world, home, scene, count, dice)
    shutil.rmtree(home)
    print(f"| {tally.name} | {tally.kills} | {tally.runs} | {tally.exact} |", flush=True)
    return tally


def mutate(world: World, clean: Path, args: argparse.Namespace) -> list[str]:
    chosen = [target for target in TARGETS if asked(args, target.name)]
    print("\n| file | damaged | refused in one line | right result | other valid content | defects |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    total: Counter[str] = Counter()
    faults: list[str] = []
    for target, count in zip(chosen, shares(args.mutations, [1.0] * len(chosen))):
        found = (
            mutated_target(world, clean, target, count, random.Random(f"{args.seed} {target.name}")) if count else []
        )
        counts = Counter(verdict.kind for verdict in found)
        total.update(counts)
        faults += [f"{target.name}: {verdict.damage}: {verdict.words}" for verdict in found if verdict.kind == "defect"]
        if count:
            print(f"| {target.name} | {len(found)} | {' | '.join(str(counts[name]) for name in COLUMNS)} |", flush=True)
    print(f"| all | {total.total()} | {' | '.join(str(total[name]) for name in COLUMNS)} |", flush=True)
    return say_faults(faults)


def mutated_target(world: World, clean: Path, target: Target, count: int, dice: random.Random) -> list[Verdict]:
    whole, fault = undamaged(clean, world.top / HOME, target)
    if fault:
        return [Verdict("defect", "not damaged at all", fault)]
    return [damaged(clean, world.top / HOME, target, whole, dice) for _ in range(count)]


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` things by weight: their sum is `total`."""
    ends = [round(total * sum(weights[: i + 1]) / sum(weights)) for i in range(len(weights))]
    return [end - before for before, end in zip([0, *ends], ends)]


def say_faults(faults: Iterable[str]) -> list[str]:
    found = list(faults)
    for fault in found:
        print(f"- {fault}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

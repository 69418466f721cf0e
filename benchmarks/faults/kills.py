"""Kills: runs that are ended by SIGKILL at random moments and started again, held against one that never was."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.states import files_state, leftovers, run_state
from benchmarks.faults.world import Child, World, embed_words, prepare_words, run, run_words, start, table_words
from tools.experiments.folders import progress
from utils.runs import LAST, RECORD

MOST = 3  # kills of one run, which then may end


class Scene(NamedTuple):
    """Something that is killed."""

    name: str
    command: str
    words: Callable[[World, Path], list[str]]  # its arguments in a home folder, as it has become by then
    state: Callable[[Path], dict[str, str]]  # what it left there
    aim: str | None = None  # kill while a file of this pattern is there; None: at any moment
    runner_only: bool = False  # kill the first process alone, and leave those that it started
    share: float = 1.0  # of the kills


class Tally(NamedTuple):
    """How often a scene was killed, and what became of it."""

    name: str
    kills: int
    runs: int
    exact: int
    faults: list[str]


def scenes(tested: Path) -> list[Scene]:
    """tested: the folder of a finished run, whose model is tested."""
    return [
        Scene("training, at any moment", "main", train_words, run_state, share=3),
        Scene("a checkpoint being saved", "main", train_words, run_state, aim=f"runs/*/*/.{LAST}*.partial", share=2),
        Scene("caching (tools.prepare)", "prepare", prepare_words, cache_state, share=2),
        Scene("a cache file being written", "prepare", prepare_words, cache_state, aim="cache/*.partial"),
        Scene("embedding and test", "main", lambda world, home: test_words(world, home, tested), test_state, share=2),
        Scene("tools.embed", "embed", lambda world, home: embed_words(world, home, tested), gallery_state, share=2),
        Scene("tools.reproduce and its run", "reproduce", reproduce_words, table_state),
        Scene("tools.reproduce alone", "reproduce", reproduce_words, table_state, runner_only=True),
    ]


def train_words(world: World, home: Path) -> list[str]:
    """Start, or resume what has a checkpoint."""
    begun = [path.parent for path in home.glob(f"runs/*/*/{RECORD}") if (path.parent / LAST).is_file()]
    return run_words(world, home, "none", *(["resume", begun[0]] if begun else []))


def test_words(world: World, home: Path, tested: Path) -> list[str]:
    return run_words(world, home, "disk", "test_only", "true", "resume", tested)


def reproduce_words(world: World, home: Path) -> list[str]:
    return table_words(world, world.top / "table.yml", world.sysu, home)


def gallery_state(home: Path) -> dict[str, str]:
    return files_state(home / "gallery")


def cache_state(home: Path) -> dict[str, str]:
    return files_state(home / "cache")


def test_state(home: Path) -> dict[str, str]:
    """The rows of the newest test: those that were killed left folders without any."""
    rows = [path for path in home.glob("runs/*/*/results.jsonl") if path.stat().st_size]
    found = files_state(rows[0].parent)["results.jsonl"] if len(rows) == 1 else f"{len(rows)} of them"
    return {"results.jsonl": found, **cache_state(home)}


def table_state(home: Path) -> dict[str, str]:
    """The table's numbers, and the states of its training."""
    homes = sorted((home / "results" / "runs").iterdir())
    trained = [run_state(place) for place in homes if list(place.glob(f"*/*/{LAST}"))]
    numbers = (home / "results" / "table" / "table.tex").read_text()
    ends = {f"end {place.name}": progress(place).state for place in homes}
    return {"table.tex": numbers, "trainings": str(len(trained)), **ends, **(trained[0] if trained else {})}


def campaign(world: World, home: Path, scene: Scene, kills: int, dice: random.Random) -> Tally:
    """Kill a scene so often, over as many runs as that takes."""
    calm = home / "calm"
    undisturbed = run(scene.command, scene.words(world, calm), calm / "said", 600)
    if undisturbed.code != 0:
        return Tally(scene.name, 0, 1, 0, [f"undisturbed: exit {undisturbed.code}: {undisturbed.err[-300:]}"])
    wanted, lasts = scene.state(calm), undisturbed.seconds
    done = runs = exact = 0
    faults: list[str] = []
    while done < kills and runs < 3 * kills:
        place = home / f"run{runs}"
        count, fault = one_run(world, place, scene, min(MOST, kills - done), lasts, dice)
        fault = fault or difference(wanted, scene.state(place)) or ", ".join(leftovers(place))
        done, runs, exact = done + count, runs + 1, exact + (not fault)
        if fault:
            faults.append(f"{scene.name}, run {runs}: {fault}")
        shutil.rmtree(place, ignore_errors=True)
    return Tally(scene.name, done, runs, exact, faults)


def one_run(world: World, home: Path, scene: Scene, most: int, lasts: float, dice: random.Random) -> tuple[int, str]:
    """(kills of one run that is started again until it ends, what went wrong)."""
    count = 0
    while count < most:
        child = start(scene.command, scene.words(world, home), home / "said")
        count += killed(child, home, scene, dice.uniform(0, lasts), dice)
        ended = child.wait(300)
        if ended.code != -signal.SIGKILL:
            return (count, "") if ended.code == 0 else (count, f"exit {ended.code}: {ended.err[-300:]}")
    ended = run(scene.command, scene.words(world, home), home / "said", 300)
    return count, "" if ended.code == 0 else f"exit {ended.code} after the kills: {ended.err[-300:]}"


def killed(child: Child, home: Path, scene: Scene, after: float, dice: random.Random) -> bool:
    """Wait for the moment and kill; False where the child had ended before it came."""
    skipped = dice.randrange(3)
    while child.running():
        now = time.monotonic() - child.began
        if scene.aim is None and now >= after or scene.aim and any(home.glob(scene.aim)):
            if not scene.aim or not skipped:
                time.sleep(dice.uniform(0, 0.01) if scene.aim else 0)
                break
            skipped -= 1
            time.sleep(0.1)
        time.sleep(0.001)
    if not child.running():
        return False
    os.kill(child.pid, signal.SIGKILL) if scene.runner_only else child.kill()
    return True


def difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """Which entries differ, in words; "" where none does."""
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"other than undisturbed: {', '.join(names)}" if names else ""

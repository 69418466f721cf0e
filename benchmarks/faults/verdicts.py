"""What a damaged file led to, and whether that is what is promised."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.targets import Target
from benchmarks.faults.world import Ended, run

LIMIT = 120  # seconds; more is a hang


class Verdict(NamedTuple):
    """What a damaged file led to."""

    kind: str  # "refused" | "right" | "other" (a valid file of other content, or a warning that names it) | "defect"
    damage: str
    words: str  # what was wrong; "" where nothing was


def judge(target: Target, whole: object, home: Path, damage: str, ended: Ended) -> Verdict:
    """Refused in one line, the right result, a valid file of other content, or a defect."""
    said = ended.out + ended.err
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if ended.code is None:
        return Verdict("defect", damage, f"no end within {LIMIT} s")
    if ended.code < 0:
        return Verdict("defect", damage, f"signal {-ended.code}")
    if "Traceback" in said:
        return Verdict("defect", damage, f"traceback: {said.strip().splitlines()[-1][:200]}")
    file = damage.partition(":")[0]
    if ended.code == 2:
        noise = [
            line for line in ended.err.splitlines() if line.strip() and line not in errors and "warning" not in line
        ]
        named = len(errors) == 1 and (file in errors[0] or target.lists and target.lists in errors[0])
        clear = named and len(errors[0]) < 1000 and not noise
        words = "" if clear else f"not one line that names the file: {ended.err[-300:]}"
        return Verdict("refused" if clear else "defect", damage, words)
    if ended.code:
        return Verdict("defect", damage, f"exit {ended.code}: {ended.err[-300:]}")
    if json.dumps(target.result(home, ended)) == json.dumps(whole):
        return Verdict("right", damage, "")
    said_so = any("warning" in line.lower() and file in line for line in said.splitlines())
    return Verdict("other" if target.content or said_so else "defect", damage, "another result, without a word")


def damaged(clean: Path, home: Path, target: Target, whole: object, dice: random.Random) -> Verdict:
    """Damage a fresh copy of `clean`, run the target's command, judge."""
    shutil.copytree(clean, home)
    try:
        path = target.file(home)
        damage = dice.choice(target.kinds)
        words = target.words(home)
        what = f"{path.name}: {damage(path, dice)}"
        return judge(target, whole, home, what, run(target.command, words, home / "said", LIMIT))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def undamaged(clean: Path, home: Path, target: Target) -> tuple[object, str]:
    """(what the command gives of a whole file, what was wrong with that)."""
    shutil.copytree(clean, home)
    ended = run(target.command, target.words(home), home / "said", 600)
    found = target.result(home, ended)
    shutil.rmtree(home, ignore_errors=True)
    return found, "" if ended.code == 0 else f"exit {ended.code}: {ended.err[-500:]}"

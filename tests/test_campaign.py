"""A short form of benchmarks.campaign: a few kills and damaged files; and what it would call a defect is one."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import main
from benchmarks import campaign
from benchmarks.faults.damage import BINARY, JSON_DAMAGE, TEXT, YAML_DAMAGE, torch_nan, torch_value
from benchmarks.faults.kills import difference
from benchmarks.faults.states import digest, leftovers
from benchmarks.faults.targets import TARGETS
from benchmarks.faults.verdicts import judge
from benchmarks.faults.world import Ended
from utils.locks import lock
from utils.runs import new_run_folder


def counts(printed: str, first: str) -> list[int]:
    """The numbers of the table line that begins so."""
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", printed, flags=re.M)
    return [int(cell) for cell in line.split("|")]


def test_the_short_campaign():
    """In a process of its own: it forks, which a process that has differentiated on threads cannot."""
    arguments = ["--kills", "4", "--mutations", "24", "--seed", "3", "--without", "tools.reproduce"]
    command = [sys.executable, "-m", "benchmarks.campaign", *arguments]
    done = subprocess.run(command, cwd=Path(main.__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, mutations = done.stdout.split("| file |")
    count, runs, exact = counts(kills, "all")
    assert count >= 3 and runs == exact > 0
    damaged, *kinds, defects = counts(mutations, "all")
    assert damaged == sum(kinds) == 24 and not defects


@pytest.mark.parametrize("damage", dict.fromkeys([*BINARY, *TEXT, *JSON_DAMAGE, *YAML_DAMAGE]))
def test_every_damage_changes_the_file(tmp_path, damage):
    for name in ("a.json", "a.yml", "a.jsonl"):
        path = tmp_path / name
        path.write_text('{"a": {"b": [1, 2]}, "c": "text"}\n')
        before = path.read_bytes()
        said = damage(path, random.Random(4))
        assert said and (not path.is_file() or str(path.resolve()) == "/dev/zero" or path.read_bytes() != before)
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("damage", [torch_value, torch_nan])
def test_damage_within_a_checkpoint(tmp_path, damage):
    import torch

    content = {"model": {"w": torch.ones(4, 3).t()}, "progress": {"epoch": 2}}
    torch.save(content, tmp_path / "x.pth")
    assert damage(tmp_path / "x.pth", random.Random(1))
    assert digest(torch.load(tmp_path / "x.pth", weights_only=True)) != digest(content)


@pytest.mark.parametrize("ended, kind", [
    (Ended(2, "", "error: last.pth: damaged\n", 1), "refused"),
    (Ended(2, "", "warning: old\nerror: last.pth: damaged\n", 1), "refused"),
    (Ended(2, "", "error: something is damaged\n", 1), "defect"),
    (Ended(2, "", "of a library\nerror: last.pth: damaged\n", 1), "defect"),
    (Ended(2, "", "", 1), "defect"),
    (Ended(2, "", "error: one\nerror: two\n", 1), "defect"),
    (Ended(1, "", "Traceback (most recent call last):\nKeyError: 3\n", 1), "defect"),
    (Ended(None, "", "", 120), "defect"),
    (Ended(-11, "", "", 1), "defect"),
    (Ended(0, "sysu/all/1-shot 50.0\n", "", 1), "right"),
    (Ended(0, "sysu/all/1-shot 51.0\n", "", 1), "defect"),
    (Ended(0, "12:00:00 warning last.pth: damaged\nsysu/all/1-shot 51.0\n", "", 1), "other"),
])  # fmt: skip
def test_verdicts(tmp_path, ended, kind):
    assert judge(TARGETS[0], ["sysu/all/1-shot 50.0"], tmp_path, "last.pth: cut", ended).kind == kind


def test_what_a_killed_run_must_not_leave(tmp_path):
    (tmp_path / "runs").mkdir()
    for name, content in ((".last.pth.x.partial", "half"), (".best.pth.x.partial", ""), ("last.pth", "whole")):
        (tmp_path / "runs" / name).write_text(content)
    assert leftovers(tmp_path) == ["runs/.last.pth.x.partial"]
    assert difference({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == "other than undisturbed: b, c"


def test_shares_add_up():
    assert campaign.shares(100, [3, 2, 2, 1, 2, 1, 1]) and sum(campaign.shares(100, [3, 2, 2, 1, 2, 1, 1])) == 100
    assert campaign.shares(0, [1, 1]) == [0, 0]


def test_a_new_run_removes_what_its_killed_neighbours_left(tmp_path):
    dead, alive = (tmp_path / "sysu" / name / ".last.pth.x.partial" for name in ("dead", "alive"))
    for left in (dead, alive):
        left.parent.mkdir(parents=True)
        left.write_text("half")
    with alive.open("r+b") as file:
        assert lock(file)
        new_run_folder(str(tmp_path), "sysu", "Demo", None)
        assert alive.exists() and not dead.exists()

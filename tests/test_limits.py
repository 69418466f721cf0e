"""How many cores and how much memory a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from utils import limits
from utils import resources as memory

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """system(files): Linux's files as given, {path: content}; 16 cores, no binding."""
    monkeypatch.setattr(limits, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)

    def write(files: dict[str, str]) -> None:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return write


def groups(*lines: str) -> dict[str, str]:
    return {"proc/self/cgroup": "\n".join(lines) + "\n"}


def test_cores_are_those_that_the_process_is_bound_to(system, monkeypatch):
    assert limits.cores() == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert limits.cores() == 1


def test_cores_where_the_system_binds_nothing(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert 1 <= limits.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("content", "expected"), [("250000 100000", 3), ("50000 100000", 1), ("max 100000", 16), ("", 16), ("x", 16)]
)
def test_a_quota_of_cores(system, content, expected):
    system(
        {**groups("0::/job/step"), "sys/fs/cgroup/job/cpu.max": content, "sys/fs/cgroup/job/step/cpu.max": "max 100000"}
    )
    assert limits.cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("400000", 4), ("-1", 16)])
def test_a_quota_of_cores_in_version_1(system, quota, expected):
    files = {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"}
    system({**groups("4:cpu,cpuacct:/job"), **{f"sys/fs/cgroup/cpu/job/{name}": text for name, text in files.items()}})
    assert limits.cores() == expected


def test_memory_is_what_the_tightest_group_leaves(system):
    assert limits.memory_left() is None
    system(groups("0::/job/step"))
    assert limits.memory_left() is None
    job, step = "sys/fs/cgroup/job/", "sys/fs/cgroup/job/step/"
    system({f"{step}memory.max": "max", f"{step}memory.current": "7"})
    assert limits.memory_left() is None
    stat = f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n"
    system({f"{job}memory.max": f"{8 * GIB}\n", f"{job}memory.current": f"{5 * GIB}\n", f"{job}memory.stat": stat})
    assert limits.memory_left() == 5 * GIB  # two of the five that are used are copies of files


def test_memory_in_version_1(system):
    top = "sys/fs/cgroup/memory/"
    system({**groups("9:cpu:/x", "4:memory:/hidden"), f"{top}memory.limit_in_bytes": str(2**63 - 4096), f"{top}memory.usage_in_bytes": "9"})  # fmt: skip
    assert limits.memory_left() is None
    system({f"{top}memory.limit_in_bytes": "100", f"{top}memory.usage_in_bytes": "130"})
    assert limits.memory_left() == 0


def test_free_memory_heeds_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "memory_left", lambda: 1234)
    assert memory.free_memory(torch.device("cpu")) == 1234
    monkeypatch.setattr(memory, "memory_left", lambda: 2**62)
    assert memory.free_memory(torch.device("cpu")) != 2**62


def test_this_machine_is_understood():
    assert limits.cores() >= 1 and (limits.memory_left() is None or limits.memory_left() >= 0)
    assert Path(limits.ROOT) == Path("/")

"""What this process may use of its machine: cores and memory, as the system, a container or a batch job allows."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")  # of the files in which Linux tells


def cores() -> int:
    """CPU cores that this process may use, at least 1: those it is bound to, or fewer if its control group says so."""
    try:
        bound = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        bound = os.cpu_count() or 1
    return max(1, min([bound, *_quotas()]))


def memory_left() -> int | None:
    """Bytes of main memory that the control groups of this process leave it; None where they set no limit."""
    left = [max(0, limit - used) for limit, used in _memory()]
    return min(left, default=None)


def _quotas() -> Iterator[int]:
    """Whole cores that the control groups grant."""
    for folder in _groups("cpu"):
        words = _words(folder / "cpu.max")  # version 2
        if len(words) != 2:  # version 1
            words = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        quota, period = map(_number, words) if len(words) == 2 else (None, None)
        if quota and period:
            yield math.ceil(quota / period)


def _memory() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of each control group with a limit. Copies of files do not count: they can be dropped."""
    for folder in _groups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = (_number(word) for word in ([*_words(folder / name), ""][0] for name in (limit, used)))
            if most is not None and now is not None:
                files = re.findall(r"(?m)^(?:active|inactive)_file ([0-9]+)$", _text(folder / "memory.stat"))
                yield most, now - sum(map(int, files))


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, from its own up to the root."""
    mount = ROOT / "sys/fs/cgroup"
    for line in _text(ROOT / "proc/self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        top = mount / controller if names else mount
        own = top / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder == top or top in folder.parents)


def _number(word: str) -> int | None:
    """A number of bytes or microseconds; None for "max", -1 and what else means that there is no limit."""
    return int(word) if word.isdecimal() and int(word) < 2**60 else None


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""

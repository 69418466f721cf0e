"""How much memory a computation used, and how much is free."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

from utils.limits import memory_left

NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory", re.I)  # torch's words for it
MMAP_MAX, TRIM_THRESHOLD = -4, -1  # numbers of mallopt's parameters, from glibc's malloc.h

try:
    import resource
except ImportError:  # Windows
    resource = None


def peak_memory_gb(device: torch.device) -> float | None:
    """The most memory held so far, in GB of 2**30 bytes; None where the system does not say.

    On a GPU: the peak of its tensors. On a CPU: the peak resident memory of the process, which is never below that of
    its parent when it was forked.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def lacks_memory(error: BaseException) -> bool:
    """Whether what Python, numpy, numba or torch raised means that memory does not suffice."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or bool(NO_MEMORY.search(str(error)))


def free_memory(device: torch.device) -> int | None:
    """Bytes that could be taken now, on a GPU or in main memory; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [size for size in (_machine_memory(), memory_left()) if size is not None]
    return min(known, default=None)


def _machine_memory() -> int | None:
    try:
        # What Linux could free at once, such as copies of files, counts too; the pages that sysconf counts lack it.
        found = re.search(r"MemAvailable: +([0-9]+) kB", Path("/proc/meminfo").read_text())
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def keep_freed_memory(keep: bool = True) -> bool:
    """Whether this process will use its own freed memory again instead of giving it back; False where it cannot.

    glibc gives large blocks back at once, and the system clears every page of new ones: for the maps of a training step
    on a CPU that takes a seventh of the time. keep: False for glibc's own way. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_MAX, 0 if keep else 65536) and mallopt(TRIM_THRESHOLD, -1 if keep else 128 * 1024))

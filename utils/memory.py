"""How much memory a computation took."""

from __future__ import annotations

import sys

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None


def peak_memory_gb(device: torch.device) -> float | None:
    """The most memory held so far, in GB of 2**30 bytes; None where the system does not say.

    On a GPU what tensors took on it, else what the whole process took; a process counts at least what the program that
    started it held then.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30

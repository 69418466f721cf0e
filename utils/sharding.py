"""What each of several processes does: of a training batch, of the test images (docs/distributed.md)."""

from __future__ import annotations

import torch
from torch import Tensor


def split_by_identity(pids: Tensor, parts: int) -> Tensor:
    """Which rows of a batch each process has: [B] int64 -> [parts, B / parts] int64; `parts` must divide B.

    The rows are sorted by identity, in the order in which identities and their rows appear, and cut; each part keeps
    their order. Of P identities with equally many rows each lies in one part whenever `parts` divides P.
    """
    _, identity = torch.unique(pids, return_inverse=True)
    places = torch.arange(len(pids))
    first = torch.full_like(places, len(pids)).scatter_reduce(0, identity, places, "amin")
    return first[identity].argsort(stable=True).view(parts, -1).sort(dim=1).values


def split_in_order(count: int, part: int, parts: int) -> range:
    """Which of `count` rows one of the parts has: runs of rows, in order, whose lengths differ by 1 at most."""
    return range(count * part // parts, count * (part + 1) // parts)

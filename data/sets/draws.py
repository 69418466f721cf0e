"""Galleries that released code draws with Python's own generator: one image of each identity and camera."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from utils.types import Record

NUM_TRIALS = 10


def one_of_each(records: Sequence[Record], identities: Iterable[int], cameras: Iterable[int], trial: int) -> list[int]:
    """Rows of records, one of each identity and camera that has any; identities in ascending order, cameras as given.

    Each is `random.choice` among the sorted paths, after `random.seed(trial)`.
    """
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in sorted(range(len(records)), key=lambda row: records[row].path):
        found[records[row].pid, records[row].camera].append(row)
    # As plain numbers, for those of tensors are found in no dict.
    dice, cameras = random.Random(int(trial)), [int(camera) for camera in cameras]
    pairs = ((identity, camera) for identity in sorted(map(int, identities)) for camera in cameras)
    return [dice.choice(found[pair]) for pair in pairs if pair in found]

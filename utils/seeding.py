"""Random states: set once, derived for each purpose, kept in checkpoints."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch

from utils.processes import alone


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; choose between autotuned and deterministic GPU kernels."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def derive_seed(*parts: int) -> int:
    """A seed of its own for every tuple of non-negative numbers, e.g. (seed, epoch)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class RandomStates:
    """The global random states as a checkpoint entry, in plain values and tensors only."""

    def state_dict(self) -> dict[str, Any]:
        state: Any = np.random.get_state()  # a tuple here; numpy knows another form too
        _, keys, position, has_gauss, gauss = state
        return {
            "python": random.getstate(),
            "numpy": (torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        random.setstate(state["python"])
        keys, *rest = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available():
            count, states = torch.cuda.device_count(), state["cuda"]
            # Each of several processes draws on its GPU what the main one, which saved this, drew on the first.
            torch.cuda.set_rng_state_all(states[:count] if alone() else states[:1] * count)

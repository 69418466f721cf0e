"""Functions compiled by numba, their machine code kept on the disk if there is a place for it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

from numba import njit


def compiled(function: Callable) -> Callable:
    """numba's njit without the interpreter's lock. The machine code is kept for the next process, where it can be.

    Where neither the folder of the code nor a home folder can be written to, it is compiled anew in every process.
    Files that a power cut left damaged are removed.
    """
    try:
        kept = njit(nogil=True, cache=True, error_model="numpy")(function)
        _remove_damaged(Path(kept.stats.cache_path), function.__name__)
        return kept
    except (RuntimeError, OSError):  # numba: no place; or a damaged file that cannot be removed
        return njit(nogil=True, error_model="numpy")(function)


def _remove_damaged(folder: Path, name: str) -> None:
    """Without its index (.nbi) or code (.nbc) numba compiles again; with half of one it raises at the first call."""
    for path in folder.glob(f"*.{name}-*.nb[ic]"):
        if not path.stat().st_size or path.suffix == ".nbi" and not _is_index(path):
            path.unlink()


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            pickle.load(file)  # numba's version
            pickle.load(file)  # what is kept, and of which source
        return True
    except OSError:
        raise
    except Exception:  # unpickling damaged bytes raises many kinds
        return False

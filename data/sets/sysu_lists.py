"""The lists of SYSU-MM01: identities of its parts, and the permutations that fix the ten official trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.io import loadmat

from utils.errors import UserError, reason
from utils.files import read_text, require_regular

NUM_TRIALS = 10  # rows of each permutation
MAX_ID = 9999  # folders have four digits
MAT_LIMIT = 64 * 2**20  # bytes; the official files have less than one percent of that
RESTORE = "restore the file, which comes with the data set"


def read_ids(folder: Path, name: str) -> list[int]:
    """Identities of `folder/name.txt` (one comma-separated line), or of `folder/name.mat` (variable `id`)."""
    file = list_file(folder, name)
    if file.suffix == ".txt":
        return [identity_of(word, file) for word in read_text(file, RESTORE).replace(",", " ").split()]
    return [identity_of(value, file) for value in np.ravel(load_variable(file, "id")).tolist()]


def list_file(folder: Path, name: str) -> Path:
    """`folder/name.txt`, or `folder/name.mat` where only that is there; UserError where neither is."""
    for file in (folder / f"{name}.txt", folder / f"{name}.mat"):
        if file.exists():
            return file
    raise UserError(f"{folder / name}.txt (or {name}.mat) is missing: it comes with SYSU-MM01; check data_root")


def identity_of(value: Any, path: Path) -> int:
    """A number from 1 to MAX_ID, given as a text or a number."""
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        number = 0
    if not 1 <= number <= MAX_ID or not isinstance(value, str) and number != value:
        raise UserError(f"{path}: {str(value)[:40]!r} is no identity, a whole number from 1 to {MAX_ID}; {RESTORE}")
    return number


def load_variable(path: Path, name: str) -> np.ndarray:
    """A variable of a MATLAB 5 file. UserError for a file that is missing, damaged or without it."""
    require_regular(path, MAT_LIMIT, RESTORE)
    try:
        return loadmat(path)[name]
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise UserError(f"{path}: no MATLAB 5 file with a variable {name!r} ({reason(error)})") from None


class Permutations(NamedTuple):
    """The official trials."""

    path: Path  # of their file
    orders: Mapping[tuple[int, int], np.ndarray]  # (camera, identity) -> [10, n] int64: ten permutations of 1..n


def read_permutations(path: Path) -> Permutations:
    """The file of the official trials. UserError where it is missing, or is not what it should be."""
    if not path.exists():
        raise UserError(
            f"{path} is missing: it is not in the data set's archive; its authors publish it in their evaluation "
            "repository (wuancong/SYSU-MM01) under evaluation/data_split/; copy it to exp/"
        )
    cells = load_variable(path, "rand_perm_cam")
    try:
        found = {
            (camera + 1, identity + 1): numbers
            for camera in range(len(cells))
            for identity, (numbers,) in enumerate(cells[camera, 0])
            if numbers.size
        }
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the official permutation file ({reason(error)})") from None
    orders = {(c, i): order_of(numbers, f"{path}: camera {c}, identity {i}") for (c, i), numbers in found.items()}
    return Permutations(path, orders)


def order_of(numbers: np.ndarray, where: str) -> np.ndarray:
    """[10, n] int64. UserError unless each row is a permutation of 1..n, as every trial draws from all images."""
    numbers = np.asarray(numbers)
    if numbers.ndim == 2 and len(numbers) == NUM_TRIALS and numbers.dtype.kind in "iuf":
        if (np.sort(numbers, axis=1) == np.arange(1, numbers.shape[1] + 1)).all():
            return numbers.astype(np.int64)
    raise UserError(f"{where}: not {NUM_TRIALS} rows of which each is a permutation of 1..n; {RESTORE}")

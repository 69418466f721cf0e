"""Files of tensors, read without running code from them, and what a tensor read from a file must be."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import require_regular
from utils.pickled import weights_of_network
from utils.schema import TEXT, Kind, both, kind, misfit, table

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What numpy's arrays and scalars are read with, under the names that older versions wrote as well: released checkpoints
# hold their metrics as such. None of it runs code from the file.
PLAIN_NUMPY = [
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")),
    *(
        (made_by, f"{module}.multiarray.{made_by.__name__}")
        for made_by in (np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0])  # _reconstruct and scalar
        for module in ("numpy.core", "numpy._core")
    ),
]
KNOWN = (*FLOATS, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)


def load_torch(path: Path) -> Any:
    """What a torch file holds, on the CPU; never runs code from it. UserError for a missing, damaged or foreign file.

    A network that was pickled whole is read as its weights. The checksums of its tensors are compared: torch writes
    them, but does not look at them.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    require_regular(path)
    try:
        if zipfile.is_zipfile(path):  # older files have no checksums
            with zipfile.ZipFile(path) as archive:
                whole = archive.testzip() is None
        else:
            whole = True
        if whole:
            return _load(path)
    except pickle.UnpicklingError:
        if weights := _of_a_network(path):
            return weights
        raise UserError(
            f"{path}: not a checkpoint, or one that holds more than tensors and plain values; refused"
        ) from None
    except Exception:  # torch and zipfile raise many kinds on a damaged file, and long stories
        pass
    raise UserError(f"{path}: damaged, or not a checkpoint")


def _of_a_network(path: Path) -> dict[str, Tensor]:
    try:
        return weights_of_network(path)
    except Exception:  # of what is no network: as many kinds
        return {}


def peek(path: Path) -> Any:
    """What a torch file holds, its tensors not read and its checksums not compared; None where it cannot be read."""
    try:
        require_regular(path)
        return _load(path, mmap=True)
    except Exception:
        return None


def load_weights(path: Path) -> dict[str, Tensor]:
    """A file that holds named tensors only, [N, ...] each. UserError for anything else and for numbers not finite."""
    content = load_torch(path)
    if not is_weights(content):
        raise UserError(f"{path}: holds no named tensors, so it is not a file of weights")
    if wrong := misfit(content, WEIGHTS):
        raise UserError(f"{path}: {wrong}")
    return content


def is_weights(content: Any) -> bool:
    """Whether the content of a torch file is a state dict: names to tensors, not empty."""
    return isinstance(content, dict) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def digest(named: Mapping[str, Tensor], start: bytes = b"") -> str:
    """SHA-256, in hex, of `start` and of tensors, [N, ...] each, by name: their names, types, shapes and bytes."""
    found = hashlib.sha256(start)
    for name, value in sorted(named.items()):
        found.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def like(tensor: Tensor) -> Kind:
    """Dense tensors of finite numbers with this one's shape, [N, ...], and type, on the CPU."""
    shape, dtype = tuple(tensor.shape), tensor.dtype

    def look(value: Tensor, name: str) -> str | None:
        if tuple(value.shape) != shape:
            return f"{name} is {list(value.shape)}, not {list(shape)}"
        if value.dtype != dtype:
            return f"{name} is of {value.dtype}, not of {dtype}"
        return None

    return both(both(DENSE, Kind(look)), FINITE)


def _load(path: Path, mmap: bool | None = None) -> Any:
    with warnings.catch_warnings():  # of old pickles, which it then reads or refuses
        warnings.simplefilter("ignore")
        with torch.serialization.safe_globals(PLAIN_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dtype in KNOWN
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_nested
        and value.untyped_storage().nbytes() >= value.numel() * value.itemsize
    )


DENSE = kind("a dense tensor", _is_dense)
FINITE = Kind(lambda value, name: None if bool(value.isfinite().all()) else f"{name} holds numbers that are not finite")
WEIGHTS = table(TEXT, both(DENSE, FINITE))

"""The weights of a network that was pickled whole, read without torch's unpickler or the code of its classes."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

HEADS = 3  # pickles before that of the network, in files of torch before 1.6: a magic number, a version and the machine
TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}


class Inert:
    """Whatever a file names and this page does not: takes anything, does nothing, and keeps its attributes."""

    def __new__(cls, *given: Any, **named: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    append = extend


def tensor(stored: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    """Numbers [n] of a storage -> the view of them in this size."""
    return stored.as_strided(size, stride, offset)


def parameter(data: Tensor, *_: Any) -> Tensor:
    """Its values [C, ...]."""
    return data


# All that a file's names may stand for, beside storages. None of it runs code from the file.
MEANT: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
}


class Unpickler(pickle.Unpickler):
    """stored: (type of number, key, how many) -> the numbers that the file keeps there, [n]."""

    def __init__(self, file: BinaryIO, stored: Callable[[torch.dtype, str, int], Tensor]):
        super().__init__(file)
        self.stored = stored

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.cuda") and name in TYPES:
            return TYPES[name]
        return MEANT.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> Any:
        kind, content = pid[0], pid[1:]
        if kind == "module":  # a class, beside the source that it had
            return content[0]
        dtype, key, _, count = content[:4]
        return self.stored(dtype, key, count)


def weights_of_network(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers that `torch.save(network)` wrote, named as in its state dict, [C, ...], on the CPU.

    Empty for a file that holds something else. Raises many kinds where it cannot be read.
    """
    read = _from_archive if zipfile.is_zipfile(path) else _from_older
    return dict(_named(read(path), ""))


def _from_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (plan,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        kept: dict[str, Tensor] = {}

        def stored(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in kept:
                entry = archive.getinfo(plan.removesuffix("data.pkl") + f"data/{key}")
                if entry.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing; it could grow without bound
                    raise pickle.UnpicklingError("a compressed tensor")
                kept[key] = torch.frombuffer(bytearray(archive.read(entry)), dtype=dtype)
            return kept[key]

        return Unpickler(io.BytesIO(archive.read(plan)), stored).load()


def _from_older(path: Path) -> Any:
    """As torch wrote before 1.6: pickles, then for each storage how many numbers it has (8 bytes), and those."""
    kept: dict[str, Tensor] = {}

    def stored(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if key not in kept:
            if count * dtype.itemsize > path.stat().st_size:
                raise pickle.UnpicklingError("a tensor of more bytes than the file has")
            kept[key] = torch.empty(count, dtype=dtype)
        return kept[key]

    with path.open("rb") as file:
        *_, network, keys = (Unpickler(file, stored).load() for _ in range(HEADS + 2))
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            if count != len(kept[key]) or file.readinto(kept[key].view(torch.uint8).numpy()) != kept[key].nbytes:
                raise pickle.UnpicklingError("the file ends in a tensor")
    return network


def _named(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, Inert):
        return
    parts = vars(module)
    aside = parts.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (parts.get(kind) or {}).items():
            if isinstance(value, Tensor) and name not in aside:
                yield prefix + name, value
    for name, child in (parts.get("_modules") or {}).items():
        yield from _named(child, f"{prefix}{name}.")

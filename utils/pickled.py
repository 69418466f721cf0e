"""The weights of a network that was pickled whole, read without the code of its classes."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

# All that a file's names may stand for, beside storages, which torch looks up itself. None of it runs code from the file.
MEANT = {
    ("collections", "OrderedDict"): OrderedDict,
    **{("torch._utils", name): getattr(torch._utils, name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter")},
}


class Inert:
    """Whatever else a file names: takes anything, does nothing, and keeps its attributes."""

    dump_patches = False  # torch asks classes in files of old, whose sources lie in them, and is to leave those alone

    def __new__(cls, *given: Any, **named: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return MEANT.get((module, name), Inert)


def weights_of_network(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a file that `torch.save(network)` wrote, by the names of its state dict, on the CPU.

    Empty for a file that holds something else. Raises many kinds where it cannot be read.
    """
    reader = ModuleType("pickled")
    reader.Unpickler, reader.load = Unpickler, lambda file, **named: Unpickler(file, **named).load()  # type: ignore[attr-defined]
    with warnings.catch_warnings():  # of sources that cannot be found
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    return dict(_named(content, ""))


def _named(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, Inert):
        return
    parts = vars(module)
    for kind in ("_parameters", "_buffers"):
        for name, value in (parts.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield prefix + name, value.detach()
    for name, child in (parts.get("_modules") or {}).items():
        yield from _named(child, f"{prefix}{name}.")

"""Weights of the siblings' golden files: drawn by rule from the released names (tests/golden/siblings/README.md)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tests.conftest import GOLDEN


def entries(name: str) -> list[dict]:
    """The parameters and buffers that the released model of a golden file has, all of its parts."""
    content = json.loads((GOLDEN / "siblings" / f"{name}_public_state_dict.json").read_text())
    return content if isinstance(content, list) else [entry for part in content.values() for entry in part]


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)


def value(name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """The float64 value that the fill rule gives an entry."""
    if kind == "zero":
        return np.zeros(shape)
    z, last = drawn(name, shape), name.rsplit(".", 1)[1]
    if kind not in ("bn", "bn_tenth", "ln"):
        return {"small": 0.005, "other": 0.05}[kind] * z
    if last.startswith("running"):
        return 0.1 * z if last == "running_mean" else 1 + 0.1 * np.abs(z)
    return (0.1 if kind == "bn_tenth" else 1.0) * (0.1 * z + (last == "weight"))


def fill(model: nn.Module, golden_name: str, names: Mapping[str, str]) -> None:
    """Load the golden weights; every parameter of the model must be named."""
    kinds = {entry["name"]: entry for entry in entries(golden_name)}
    state = {
        ours: value(theirs, tuple(kinds[theirs]["shape"]), kinds[theirs]["kind"]) for theirs, ours in names.items()
    }
    model.load_state_dict({name: torch.as_tensor(np.asarray(array, dtype=np.float32)) for name, array in state.items()})


def network_input(images: np.ndarray, file: Mapping[str, np.ndarray], dtype: torch.dtype = torch.float32) -> Tensor:
    """[n, H, W, 3] uint8 -> normalised [n, 3, H, W], rounded to float32 at each step as the released transforms do."""
    mean, std = (torch.as_tensor(file[f"image_{name}"]).float().view(3, 1, 1) for name in ("mean", "std"))
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    return ((pixels - mean) / std).to(dtype)

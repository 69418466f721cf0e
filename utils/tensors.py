"""Files of tensors, read without running code from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError, reason
from utils.files import require_regular


def load_torch(path: Path) -> Any:
    """What a torch file holds, on the CPU; never runs code from it. UserError for a missing, damaged or foreign file."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    require_regular(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: not a checkpoint, or one that holds more than tensors and plain values; refused"
        ) from None
    except Exception as error:  # torch raises many kinds on a damaged file
        raise UserError(f"{path}: damaged or not a checkpoint ({reason(error)})") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """A file that holds named tensors only. UserError for anything else."""
    content = load_torch(path)
    if not is_weights(content):
        raise UserError(f"{path}: holds no named tensors, so it is not a file of weights")
    return content


def is_weights(content: Any) -> bool:
    """Whether the content of a torch file is a state dict: names to tensors, not empty."""
    return isinstance(content, dict) and bool(content) and all(isinstance(v, Tensor) for v in content.values())

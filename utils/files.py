"""Files: written under a temporary name and renamed; tensors read without running code."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError, reason


def write_text(path: Path, text: str) -> None:
    """write_bytes of a text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content at once: a reader, or a crash, sees the old content or the new one.

    Raises UserError where it cannot be written; the old file is then as it was.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror}); the file is as it was") from None


def load_torch(path: Path) -> Any:
    """What a torch file holds, on the CPU; never runs code from it. UserError for a missing, damaged or foreign file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
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

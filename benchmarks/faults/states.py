"""What a run left, in a form that two runs can be compared by: bitwise, without where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from configs.defaults import NOTHING, affecting
from utils.runs import BEST, LAST, RECORD, RESULTS

LEFT = (".*.partial", "*.partial", "tmp*")


def run_state(home: Path) -> dict[str, str]:
    """Hashes of the finished run below `home`: every state of its checkpoints, and results.jsonl.

    Folders of runs that were killed before their first checkpoint hold nothing and are passed over.
    """
    finished = [path.parent for path in home.glob(f"**/{RECORD}") if (path.parent / LAST).is_file()]
    if len(finished) != 1:
        return {"run folders with a checkpoint": str(len(finished))}
    (folder,) = finished
    found = {RESULTS: hashlib.sha256((folder / RESULTS).read_bytes()).hexdigest()}
    for name in (LAST, BEST):
        content = torch.load(folder / name, map_location="cpu", weights_only=True)
        found |= {f"{name}: {part}": digest(_where_it_lies_aside(state)) for part, state in content.items()}
    return found


def _where_it_lies_aside(state: Any) -> Any:
    if isinstance(state, Mapping) and "config" in state:
        config = {key: value for key, value in state["config"].items() if key not in affecting(NOTHING)}
        return {**state, "config": config}
    return state


def digest(value: Any) -> str:
    """A hash of nested plain values and tensors, exact to the bit."""
    total = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            total.update(f"{part.dtype}{list(part.shape)}".encode())
            total.update(part.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(part, Mapping):
            for key in sorted(part, key=str):
                total.update(f"{key!r}:".encode())
                add(part[key])
        elif isinstance(part, (list, tuple)):
            total.update(f"[{len(part)}".encode())
            for entry in part:
                add(entry)
        else:
            total.update(repr(part).encode())

    add(value)
    return total.hexdigest()


def files_state(folder: Path) -> dict[str, str]:
    """Hashes of the files below a folder, by their paths in it."""
    files = sorted(path for path in folder.glob("**/*") if path.is_file() and not _just_begun(path))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(home: Path) -> list[str]:
    """Unfinished files that killed writers left, except those without content that the next sweep is too early for."""
    found = {path for pattern in LEFT for path in home.glob(f"**/{pattern}") if not _just_begun(path)}
    return sorted(str(path.relative_to(home)) for path in found)


def _just_begun(path: Path) -> bool:
    return path.suffix == ".partial" and not path.stat().st_size

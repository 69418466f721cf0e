"""What makes two runs the same run: configuration, seed, data and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.checkpoint import HARMLESS

CODE = ("configs", "data", "models", "losses", "engine")
# Keys that change no result, in a training neither.
NO_EFFECT = HARMLESS | {"prefix", "num_id", "num_cam", "mda_ratio", "allow_split_mismatch"}


def identity(config: Mapping[str, Any], seed: int, data: str, code: str) -> str:
    """16 hex digits that stand for all of this. data: the fingerprint of the pictures. code: what `code_hash` gives."""
    settings = {key: value for key, value in config.items() if key not in NO_EFFECT}
    content = json.dumps([settings, seed, data, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def code_hash(home: Path) -> str:
    """SHA-256, in hex, of the names and contents of the Python files that decide what a run computes."""
    digest = hashlib.sha256()
    for path in sorted(path for package in CODE for path in (home / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(home).as_posix()}\0{len(content)}\n".encode() + content)
    return digest.hexdigest()

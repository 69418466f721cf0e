"""What a report shows of a run folder: its configuration, its log, and where and with what it ran."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError
from utils.runs import CONFIG, LOG, read_record

KEPT_LINES = 150  # of each end of a log


class RunFiles(NamedTuple):
    """The texts of a run folder; "" for a file that is not there."""

    folder: str  # its name
    config: str
    log: str  # long ones are shortened
    facts: Mapping[str, str]  # seed, device, commit, versions


def read_run(folder: Path) -> RunFiles:
    """Whatever of a run folder is there."""
    try:
        record = read_record(folder)
    except UserError:
        record = {}
    return RunFiles(folder.name, _text(folder / CONFIG), shorten(_text(folder / LOG)), facts(record))


def facts(record: Mapping[str, Any]) -> dict[str, str]:
    """What run.json says about where a run's numbers are from; what it does not say is left out."""
    git = record.get("git") or {}
    commit = git.get("commit", "") + (", with changes that are not committed" if git.get("modified") else "")
    data = record.get("data") or {}
    known = {
        "seed": record.get("seed"),
        "device": record.get("device"),
        "commit": commit,
        "data": data.get("fingerprint"),
        "versions": ", ".join(f"{name} {number}" for name, number in (record.get("versions") or {}).items() if number),
    }
    return {name: str(value) for name, value in known.items() if value not in (None, "")}


def shorten(text: str, kept: int = KEPT_LINES) -> str:
    """The text, or its first and last `kept` lines with a line between them that counts the others."""
    lines = text.splitlines()
    left_out = len(lines) - 2 * kept
    if left_out <= 1:
        return text
    return "\n".join([*lines[:kept], f"[... {left_out} lines are left out here ...]", *lines[-kept:]])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

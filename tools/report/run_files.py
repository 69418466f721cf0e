"""What a report shows of run folders: configurations, logs, and where and with what they ran."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from utils.errors import UserError
from utils.files import read_bytes
from utils.runs import CONFIG, LOG, read_record

KEPT_LINES = 150  # of each end of a log
NEW_KEY = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # a line of config.yml that does not belong to the key above
Value = TypeVar("Value")


class RunFiles(NamedTuple):
    """What a run folder holds; empty for a file that is not there."""

    folder: str  # its name
    config: Mapping[str, str]  # config.yml by key, each with its lines as they are
    log: str  # long ones are shortened
    facts: Mapping[str, str]  # data set, training, seed, device, commit, versions
    chance: Mapping[str, float]  # rank-1 of a random order by protocol, in percent


def read_run(folder: Path) -> RunFiles:
    """Whatever of a run folder is there."""
    try:
        record = read_record(folder)
    except UserError:
        record = {}
    config = by_key(_text(folder / CONFIG))
    chance = _part(_part(record, "data"), "chance_r1")
    return RunFiles(folder.name, config, shorten(_text(folder / LOG)), facts(record, config), chance)


def by_key(config: str) -> dict[str, str]:
    """The lines of a config.yml by key; every line is in it once."""
    blocks = [block for block in NEW_KEY.split(config) if block]
    return {block.split(":", 1)[0]: block for block in blocks}


def setting(config: Mapping[str, str], key: str) -> str:
    """The value of a key as text, a list with x between its items; "" where it is not there."""
    _, _, value = config.get(key, "").partition(":")
    return " x ".join(value.replace("\n- ", " ").split())


def facts(record: Mapping[str, Any], config: Mapping[str, str]) -> dict[str, str]:
    """What run.json and config.yml say about where a run's numbers are from; what they do not say is left out."""
    git, data, found = _part(record, "git"), _part(record, "data"), _part(record, "versions")
    commit = f"{git.get('commit') or ''}" + (", with changes that are not committed" if git.get("modified") else "")
    known = {
        "data set": ", ".join(filter(None, [setting(config, "dataset"), str(data.get("root") or "")])),
        "training images": _counted(_part(data, "training"), "{pictures} of {identities} identities"),
        "test images": _counted(_part(data, "test"), "{visible} visible, {infrared} infrared"),
        "image size": setting(config, "image_size"),
        "backbone": setting(config, "backbone"),
        "epochs": setting(config, "num_epoch"),
        "seed": record.get("seed"),
        "device": record.get("device"),
        "commit": commit,
        "data hash": data.get("fingerprint"),
        "versions": ", ".join(f"{name} {number}" for name, number in found.items() if number),
    }
    return {name: str(value) for name, value in known.items() if value not in (None, "")}


def shared(parts: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """The items that all parts have in common; parts without any item are not asked."""
    asked = [part for part in parts if part]
    if not asked:
        return {}
    return {key: value for key, value in asked[0].items() if all(part.get(key) == value for part in asked[1:])}


def distinct(parts: Iterable[Mapping[str, str]], key: str, most: int = 3) -> str:
    """The different values of a key, in their order: "4; 9"; of more than `most`, how many others there are."""
    values = list(dict.fromkeys(part[key] for part in parts if key in part))
    others = [f"and {len(values) - most} others"] if len(values) > most else []
    return "; ".join([*values[:most], *others])


def mean_chance(files: Iterable[RunFiles], protocol: str) -> float | None:
    """Rank-1 of a random order, mean over the runs, in percent; None where no run says it."""
    found = [run.chance[protocol] for run in files if protocol in run.chance]
    return sum(found) / len(found) if found else None


def shorten(text: str, kept: int = KEPT_LINES) -> str:
    """The text, or its first and last `kept` lines with a line between them that counts the others."""
    lines = text.splitlines()
    left_out = len(lines) - 2 * kept
    if left_out <= 1:
        return text
    return "\n".join([*lines[:kept], f"[... {left_out} lines are left out here ...]", *lines[-kept:]])


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping within a mapping; {} where it is missing or something else."""
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _counted(counts: Mapping[str, Any], words: str) -> str:
    try:
        return words.format_map(counts)
    except KeyError:
        return ""


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8", errors="replace")
    except UserError:
        return ""

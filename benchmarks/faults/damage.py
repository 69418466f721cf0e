"""Damage to files, of every kind that a disk, a program or a person may do. Each function changes one file in place."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

Damage = Callable[[Path, random.Random], str]  # changes the file; says what it did
STRANGE = (
    None, True, -1, 0, 7.5, 2**70, 10**9, float("nan"), float("inf"), "", "x", "\0", "../x", "ü" * 300,
    [], [1], {}, {"a": 1}, [[[]]],
)  # fmt: skip


def flip(path: Path, dice: random.Random) -> str:
    return _flip(path, dice, 0, path.stat().st_size)


def flip_head(path: Path, dice: random.Random) -> str:
    return _flip(path, dice, 0, min(4096, path.stat().st_size))


def flip_tail(path: Path, dice: random.Random) -> str:
    size = path.stat().st_size
    return _flip(path, dice, max(0, size - 4096), size)


def _flip(path: Path, dice: random.Random, low: int, high: int) -> str:
    place, bit = dice.randrange(low, high), dice.randrange(8)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
    return f"bit {bit} of byte {place} of {path.stat().st_size} flipped"


def cut(path: Path, dice: random.Random) -> str:
    size = dice.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"cut to {size} bytes"


def empty(path: Path, dice: random.Random) -> str:
    os.truncate(path, 0)
    return "empty"


def hole(path: Path, dice: random.Random) -> str:
    size = path.stat().st_size
    place = dice.randrange(size)
    length = min(4096, size - place)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(length))
    return f"{length} bytes of zeros from {place}"


def garbage(path: Path, dice: random.Random) -> str:
    path.write_bytes(dice.randbytes(min(path.stat().st_size, 10_000)))
    return "random bytes"


def longer(path: Path, dice: random.Random) -> str:
    with path.open("ab") as file:
        file.write(dice.randbytes(1000))
    return "1000 random bytes at the end"


def missing(path: Path, dice: random.Random) -> str:
    path.unlink()
    return "removed"


def folder(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return "a folder"


def fifo(path: Path, dice: random.Random) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a pipe"


def dangling(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")
    return "a link to nothing"


def endless(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.symlink_to("/dev/zero")
    return "a link to /dev/zero"


def line_lost(path: Path, dice: random.Random) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    place = dice.randrange(len(lines))
    path.write_bytes(b"".join(lines[:place] + lines[place + 1 :]))
    return f"line {place + 1} removed"


def line_twice(path: Path, dice: random.Random) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    place = dice.randrange(len(lines))
    path.write_bytes(b"".join(lines[: place + 1] + lines[place:]))
    return f"line {place + 1} twice"


def inserted(path: Path, dice: random.Random) -> str:
    content = path.read_bytes()
    place, what = (
        dice.randrange(len(content) + 1),
        dice.choice([b"\0", b"\xff", b"[" * 5000, b"9" * 5000, b"\n\n", b"NaN", b"'"]),
    )
    path.write_bytes(content[:place] + what + content[place:])
    return f"{what[:8]!r} ({len(what)} bytes) inserted at {place}"


def json_value(path: Path, dice: random.Random) -> str:
    """Another value somewhere in a JSON file, or in one line of a JSON-lines file."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    place = dice.randrange(len(lines))
    value, what = changed(json.loads(lines[place]), dice)
    lines[place] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")
    return what


def yaml_value(path: Path, dice: random.Random) -> str:
    value, what = changed(yaml.safe_load(path.read_text()), dice)
    path.write_text(yaml.safe_dump(value))
    return what


def torch_value(path: Path, dice: random.Random) -> str:
    """Another value, of a wrong type as a rule, somewhere in a checkpoint."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    strange = dice.choice([*STRANGE, torch.zeros(3), torch.full((2, 2), float("nan")), torch.ones(2, dtype=torch.int8)])
    value, what = changed(content, dice, strange)
    path.unlink()  # it may be a hard link of another checkpoint
    torch.save(value, path)
    return what


def torch_nan(path: Path, dice: random.Random) -> str:
    """One number of one tensor that is not finite."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    weights = content.get("model", content)
    name = dice.choice([name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.numel()])
    weights[name] = weights[name].clone(memory_format=torch.contiguous_format)
    weights[name].view(-1)[dice.randrange(weights[name].numel())] = dice.choice([float("nan"), float("inf")])
    path.unlink()
    torch.save(content, path)
    return f"{name} holds a number that is not finite"


def changed(value: Any, dice: random.Random, strange: Any = STRANGE) -> tuple[Any, str]:
    """A nested value with one of its values replaced or left out; and what was done."""
    new = dice.choice(STRANGE) if strange is STRANGE else strange
    names: list[str] = []
    top = place = value
    while True:
        entries = list(place.items() if isinstance(place, dict) else enumerate(place))
        key, inner = dice.choice(entries)
        names.append(str(key))
        if isinstance(inner, (dict, list)) and inner and dice.random() < 0.8:
            place = inner
            continue
        break
    if isinstance(place, dict) and dice.random() < 0.15:
        del place[key]
        return top, f"{'.'.join(names)} left out"
    place[key] = new
    shown = f"a tensor {list(new.shape)}" if isinstance(new, torch.Tensor) else repr(new)[:40]
    return top, f"{'.'.join(names)} = {shown}"


KINDS: tuple[Damage, ...] = (missing, folder, fifo, dangling, endless, empty, cut, cut, garbage, longer, hole)
BINARY: tuple[Damage, ...] = (*KINDS, flip, flip, flip, flip_head, flip_head, flip_tail, flip_tail)
TEXT: tuple[Damage, ...] = (*KINDS, flip, flip, flip, line_lost, line_lost, line_twice, inserted, inserted, inserted)
JSON_DAMAGE, YAML_DAMAGE = ((*TEXT, *(value,) * 9) for value in (json_value, yaml_value))
STATES: tuple[Damage, ...] = (*BINARY, *(torch_value,) * 8, torch_nan, torch_nan)

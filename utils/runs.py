"""Run folders: their names, and what a run writes down about itself."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.files import read_json, write_text
from utils.processes import me
from utils.schema import TEXT, Shape, choice, maybe, misfit, optional, real, table, whole

PACKAGES = ("torch", "torchvision", "pytorch-ignite", "yacs", "torchsort", "numpy", "scipy", "Pillow")
CONFIG, RECORD, LOG, RESULTS, TENSORBOARD = "config.yml", "run.json", "log.txt", "results.jsonl", "tensorboard"
LAST, BEST = "last.pth", "best.pth"
# What readers of run.json use of it.
RUN: Shape = {
    "seed": whole(0, 2**64 - 1),
    "device": TEXT,
    "data": {"root": TEXT, "fingerprint": TEXT, "chance_r1": table(TEXT, real(0, 100.001))},
    "versions": optional(table(TEXT, maybe(TEXT))),
    "git": optional(maybe({"commit": TEXT, "modified": choice(True, False)})),
}


def new_run_folder(output_dir: str, dataset: str, prefix: str, desc: str | None, now: datetime | None = None) -> Path:
    """Make `<output_dir>/<dataset>/<prefix>_Time-<%Y-%m-%d_%H-%M-%S>[_<desc>]`, numbered if it exists."""
    stamp = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
    name = f"{prefix}_Time-{stamp}" + (f"_{desc}" if desc else "")
    for number in count(1):
        folder = Path(output_dir, dataset, name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); set output_dir") from None


def write_record(folder: Path, config: str, record: dict[str, Any]) -> None:
    """Write config.yml (text as given) and run.json: the record, the number of processes, versions and git commit."""
    write_text(folder / CONFIG, config)
    here = {"processes": me().world, "versions": versions(), "git": git_state()}
    write_text(folder / RECORD, json.dumps({**record, **here}, indent=2) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json holds; UserError where the folder is no run folder."""
    no_run = f"{folder}: not a run folder, {RECORD} is missing or damaged in it"
    try:
        record = read_json(folder / RECORD)
    except UserError:
        raise UserError(no_run) from None
    if wrong := misfit(record, RUN):
        raise UserError(f"{no_run} ({wrong})")
    return record


def versions() -> dict[str, str | None]:
    """Versions of Python, the system, CUDA and the packages that results depend on; None for what is not there."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state() -> dict[str, Any] | None:
    """The commit of this code and whether files differ from it; None outside a git checkout."""
    home = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None

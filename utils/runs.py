"""Run folders: their names, and what a run writes down about itself."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import IO, Any

import torch

from utils.errors import UserError
from utils.files import expanded, read_json, sweep, write_text
from utils.locks import lock
from utils.logging import log_to_file, logger
from utils.processes import is_main, me
from utils.schema import TEXT, Shape, choice, maybe, misfit, optional, real, table, whole

PACKAGES = ("torch", "torchvision", "pytorch-ignite", "yacs", "torchsort", "numpy", "scipy", "Pillow")
CONFIG, RECORD, LOG, RESULTS, TENSORBOARD = "config.yml", "run.json", "log.txt", "results.jsonl", "tensorboard"
LAST, BEST, LOCK = "last.pth", "best.pth", ".lock"
# What readers of run.json use of it.
RUN: Shape = {
    "seed": whole(0, 2**64 - 1),
    "device": TEXT,
    "data": {"root": TEXT, "fingerprint": TEXT, "chance_r1": table(TEXT, real(0, 100.001))},
    "versions": optional(table(TEXT, maybe(TEXT))),
    "git": optional(maybe({"commit": TEXT, "modified": choice(True, False)})),
}

_held: IO | None = None  # the open lock of the run folder that this process works in


def new_run_folder(output_dir: str, dataset: str, prefix: str, desc: str | None, now: datetime | None = None) -> Path:
    """Make `<output_dir>/<dataset>/<prefix>_Time-<%Y-%m-%d_%H-%M-%S>[_<desc>]`, numbered if it exists.

    The folder is this process's own.
    """
    stamp = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
    name = f"{prefix}_Time-{stamp}" + (f"_{desc}" if desc else "")
    home = expanded(output_dir)
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    while True:
        folder = home / dataset / next(names)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); set output_dir") from None
        hold(folder)
        sweep_neighbours(folder)
        return folder


def sweep_neighbours(folder: Path) -> None:
    """Remove what killed runs beside this one left unfinished: one that has no checkpoint yet is never resumed."""
    for neighbour in folder.parent.iterdir():
        if neighbour.is_dir():
            sweep(neighbour)


def open_run(resumed: Path | None, where: Sequence[str | None], config: str, record: dict[str, Any]) -> Path:
    """The folder of a run, whose log goes there from now on: its own if it is resumed, else a new one.

    where: the other arguments of new_run_folder. config and record: for write_record.
    """
    if resumed is None:
        folder = new_run_folder(*where)
        write_record(folder, config, record)
    else:
        folder = resumed
        if read_record(folder)["data"]["fingerprint"] != record["data"]["fingerprint"]:
            logger.warning(f"the images of {record['data']['root']} are not those that {folder} was started with")
    log_to_file(folder / LOG)
    logger.info(f"run folder: {folder}")
    return folder


def hold(folder: Path) -> None:
    """Take a run folder for this process, until it ends, lets go or takes another one.

    What a killed one left unfinished is removed. UserError where another process works in it. Loader workers that
    outlive a killed process do not keep it.
    """
    global _held
    let_go()
    try:
        _held = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    if lock(_held) is False:
        raise UserError(f"{folder}: another process is working in this run folder; wait for it, or stop it")
    os.register_at_fork(after_in_child=_held.close)
    sweep(folder, alone=True)


def let_go() -> None:
    """Give back the run folder that this process holds, if it holds one."""
    if _held is not None:
        _held.close()


def hold_resumed(path: str) -> None:
    """hold(the run folder that `resume` names, or that the named file lies in), if there is one.

    UserError for a folder with checkpoints whose run.json is missing: the run could not be resumed in it.
    """
    named = expanded(path)
    folder = named if named.is_dir() else named.parent
    if (folder / RECORD).is_file():
        hold(folder)
    elif named.is_dir() and (named / LAST).is_file():
        raise UserError(f"{named}: {RECORD} is missing; resume {named / LAST} continues in a new run folder")


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """The work of a test in its folder. If it fails, its files go, and the folder if there is nothing else in it."""
    try:
        yield
    except BaseException:
        if is_main():
            with suppress(OSError):
                for name in (CONFIG, RECORD, LOG, RESULTS, LOCK):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()
        raise
    finally:
        let_go()


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """A run's work in its folder, which this process lets go at the end. An interrupt says how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        if not (folder / LAST).is_file():
            raise KeyboardInterrupt("before the first checkpoint: start the run again") from None
        raise KeyboardInterrupt(f"resume with: python main.py resume {shlex.quote(str(folder))}") from None
    finally:
        let_go()


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

"""A tiny world to harm: synthetic images, keys of runs that last seconds, and commands in forked children."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

import main
from tools import embed, evaluate, make_synthetic, prepare, reproduce, search, summarize
from utils.cli import exit_code, run_together
from utils.files import write_text

KEYS = (
    "image_size", "(32, 32)", "p_size", "4", "k_size", "4", "batch_size", "16", "num_epoch", "2", "lr_step", "[1]",
    "eval_interval", "1", "log_period", "2", "mda_layers", "[0, 0, 1, 0]", "num_workers", "0", "select", "test",
)  # fmt: skip
MEMORY = 10 * 2**30  # bytes of addresses for a child: one that reads without end shall not stop the machine
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "main": lambda words: run_together(partial(main.run, words)),
    "prepare": lambda words: exit_code(partial(prepare.main, words)),
    "evaluate": lambda words: exit_code(partial(evaluate.main, words)),
    "summarize": lambda words: exit_code(partial(summarize.main, words)),
    "reproduce": lambda words: reproduce.main(words),
    "embed": lambda words: exit_code(partial(embed.main, words)),
    "search": lambda words: exit_code(partial(search.main, words)),
}


class World(NamedTuple):
    """Folders of one campaign."""

    top: Path

    @property
    def sysu(self) -> Path:
        return self.top / "sysu"

    @property
    def regdb(self) -> Path:
        return self.top / "regdb"

    @property
    def llcm(self) -> Path:
        return self.top / "llcm"

    @property
    def own(self) -> Path:
        """Own images, listed in images.csv."""
        return self.top / "own"


class Ended(NamedTuple):
    """What a command did."""

    code: int | None  # exit code, negative for a signal; None: it did not end in time
    out: str
    err: str
    seconds: float


class Child(NamedTuple):
    """A command that runs in a forked child, which has everything imported that it needs."""

    pid: int
    folder: Path  # of its output
    began: float  # time.monotonic

    def running(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        """SIGKILL, to it and to all that it started."""
        os.killpg(self.pid, signal.SIGKILL)

    def wait(self, limit: float) -> Ended:
        """How it ended; it is killed after `limit` seconds."""
        late = False
        while self.running():
            time.sleep(0.005)
            if not late and time.monotonic() - self.began > limit:
                late = True
                self.kill()
        _, status = os.waitpid(self.pid, 0)
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        code = None if late else os.waitstatus_to_exitcode(status)
        return Ended(code, out, err, time.monotonic() - self.began)


def make_world(top: Path) -> World:
    """Draw the images of both data sets and write the table files."""
    world = World(top)
    small = ["--size", "32", "32", "--workers", "1"]
    sysu = [str(world.sysu), "--train-ids", "6", "--val-ids", "2", "--test-ids", "4", "--images", "2"]
    regdb = [str(world.regdb), "--layout", "regdb", "--ids", "12", "--images", "3"]
    llcm = [str(world.llcm), "--layout", "llcm", "--train-ids", "6", "--test-ids", "4", "--images", "1"]
    own = [str(world.own), "--layout", "folder", "--train-ids", "6", "--test-ids", "4", "--images", "1"]
    for words in (sysu, regdb, llcm, own):
        if make_synthetic.main([*words, *small]):
            raise RuntimeError(f"the images of {words[0]} could not be drawn")
    list_own(world.own)
    write_table(top / "table.yml", "sysu/all/1-shot")
    write_table(top / "regdb.yml", "regdb/v2i", {"dataset": "regdb"})
    write_table(top / "llcm.yml", "llcm/v2i", {"dataset": "llcm"})
    write_table(top / "own.yml", "folder/v2i", {"dataset": "folder"})
    return world


def list_own(root: Path) -> None:
    """Write the images.csv of images that lie in folders by part, modality and identity."""
    lines = ["path,identity,modality,part"]
    for path in sorted(root.glob("*/*/*/*.jpg")):
        part, modality, identity = path.relative_to(root).parts[:3]
        lines.append(f"{path.relative_to(root)},{identity},{modality},{part}")
    write_text(root / "images.csv", "\n".join([*lines, ""]))


def write_table(path: Path, protocol: str, keys: dict | None = None) -> None:
    """A table of one training and one further test of its model."""
    rows = [{"name": "whole"}, {"name": "k1 = 3", "tests": "whole", "keys": {"mser_k1": 3}}]
    fields = {"title": "Small", "cfg": "configs/Demo.yml", "seeds": [8], "protocols": [protocol], "metrics": ["r1"]}
    path.write_text(yaml.safe_dump({**fields, "keys": keys or {}, "rows": rows}))


def run_words(world: World, home: Path, cache: str = "none", *more: object) -> list[str]:
    """The arguments of main.py for a run of the world that writes below `home`."""
    places = ["data_root", world.sysu, "output_dir", home / "runs", "cache", cache, "cache_dir", home / "cache"]
    return [str(word) for word in ("--cfg", "configs/Demo.yml", "--gpu", "cpu", *KEYS, *places, *more)]


def prepare_words(world: World, home: Path) -> list[str]:
    """The arguments of tools.prepare for the same run."""
    words = run_words(world, home, "disk")
    at = words.index("--gpu")
    return [*words[:at], *words[at + 2 :]]


def embed_words(world: World, home: Path, run: Path) -> list[str]:
    """The arguments of tools.embed for a gallery of the world's test images by the model of a run."""
    places = [str(run), str(world.sysu), "--dataset", "sysu", "--out", str(home / "gallery")]
    return [*places, "--batch", "4", "--workers", "0", "--device", "cpu"]


def table_words(world: World, table: Path, root: Path, home: Path, *more: str) -> list[str]:
    """The arguments of tools.reproduce for a table of the world, its results below `home`."""
    keys = ["data_root", str(root), "cache_dir", str(home / "cache"), *KEYS]
    return [str(table), "--gpu", "cpu", "--results", str(home / "results"), *more, *keys]


def start(command: str, words: Sequence[str], folder: Path) -> Child:
    """Start one of COMMANDS in a process group of its own; what it prints goes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    files = [os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err")]
    began = time.monotonic()
    pid = os.fork()
    if pid:
        for file in files:
            os.close(file)
        with suppress(PermissionError):  # the child did it first
            os.setpgid(pid, pid)
        return Child(pid, folder, began)
    code = 1
    try:
        with suppress(PermissionError):
            os.setpgid(0, 0)
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = COMMANDS[command](list(words))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(command: str, words: Sequence[str], folder: Path, limit: float = 120) -> Ended:
    """Start one of COMMANDS, and how it ended."""
    return start(command, words, folder).wait(limit)

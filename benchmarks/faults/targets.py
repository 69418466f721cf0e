"""Files that are damaged, and the commands that read them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.faults.damage import BINARY, JSON_DAMAGE, STATES, TEXT, YAML_DAMAGE, Damage
from benchmarks.faults.states import files_state
from benchmarks.faults.world import Ended, World, embed_words, prepare_words, run, run_words, table_words
from data.sets import sysu
from engine.checkpoint import open_checkpoint
from engine.portable import write_portable

RUN = "runs/sysu/run"
PERMUTATIONS = "sysu/exp/rand_perm_cam.mat"
PORTABLE = "weights.safetensors"
SAFETENSORS = find_spec("safetensors") is not None  # optional, so that a machine without it damages the rest


class Target(NamedTuple):
    """A kind of file that is damaged, and the command that reads it."""

    name: str
    place: str  # pattern of the file in a home folder: the first in the order of names
    command: str
    words: Callable[[Path], list[str]]  # arguments of the command, by the home folder
    kinds: tuple[Damage, ...]
    result: Callable[[Path, Ended], object]  # what is to be the same as with the whole file
    content: bool = False  # whether the file is itself what is computed with: another one is no wrong one
    lists: str = ""  # where the files lie that it lists: a message may name one of those instead

    def file(self, home: Path) -> Path:
        return sorted(home.glob(self.place))[0]


def resume(home: Path) -> list[str]:
    return [*run_words(World(home), home), "num_epoch", "3", "resume", str(home / RUN)]


def test(home: Path, what: str = RUN) -> list[str]:
    return [*run_words(World(home), home), "test_only", "true", "resume", str(home / what)]


def weights(home: Path) -> list[str]:
    return test(home, "weights.pth")


def begin(home: Path) -> list[str]:
    return [*run_words(World(home), home), "num_epoch", "0", "pretrained", str(home / "backbone.pth")]


def cached(home: Path) -> list[str]:
    return [*run_words(World(home), home, "disk"), "num_epoch", "0"]


def prepare(home: Path) -> list[str]:
    return prepare_words(World(home), home)


def configured(home: Path) -> list[str]:
    return [*prepare(home), "--cfg", str(home / "run.yml")]


def summarize(home: Path) -> list[str]:
    return [str(home / RUN)]


def evaluate(home: Path) -> list[str]:
    places = [str(home / "features.npz"), "--perm", str(home / PERMUTATIONS)]
    return [*places, "--protocol", "sysu", "--device", "cpu"]


def table(home: Path) -> list[str]:
    return table_words(World(home), home / "table.yml", home / "sysu", home, "--print")


def listing(name: str) -> Callable[[Path], list[str]]:
    """A table of the data set in the folder `name`, whose lists it reads."""
    return lambda home: table_words(World(home), home / f"{name}.yml", home / name, home, "--print")


def search(home: Path) -> list[str]:
    (query, *_) = sorted(home.glob("sysu/cam3/*/*.jpg"))
    given = ["--model", str(home / RUN), "--modality", "infrared", "--device", "cpu"]
    return [str(home / "gallery"), str(query), *given]


def append(home: Path) -> list[str]:
    given = ["--modality", "visible", "--identity", "parent", "--batch", "4", "--workers", "0", "--device", "cpu"]
    return [str(home / RUN), str(home / "own" / "test"), "--out", str(home / "gallery"), "--append", *given]


def portable(home: Path) -> list[str]:
    return test(home, PORTABLE)


def rows(home: Path, ended: Ended) -> list[str]:
    """The figures of the last test that was printed."""
    return [line for line in ended.out.splitlines() if re.match(r"\s*(sysu|regdb)/", line)][-4:]


def printed(home: Path, ended: Ended) -> str:
    return ended.out


def gallery(home: Path, ended: Ended) -> dict[str, str]:
    return files_state(home / "gallery")


def pixels(home: Path, ended: Ended) -> dict[str, str]:
    return files_state(home / "cache")


TARGETS = (
    Target("last.pth, resumed", f"{RUN}/last.pth", "main", resume, STATES, rows),
    Target("best.pth, tested", f"{RUN}/best.pth", "main", test, STATES, rows),
    Target("weights, tested", "weights.pth", "main", weights, STATES, rows),
    Target("weights, pretrained", "backbone.pth", "main", begin, STATES, rows),
    Target("cache file, by a run", "cache/*test*", "main", cached, BINARY, rows),
    Target("cache file, by tools.prepare", "cache/*test*", "prepare", prepare, BINARY, pixels),
    Target("config.yml, resumed", f"{RUN}/config.yml", "main", resume, YAML_DAMAGE, rows, content=True),
    Target("run.json, summarised", f"{RUN}/run.json", "summarize", summarize, JSON_DAMAGE, printed, content=True),
    Target("run.json, resumed", f"{RUN}/run.json", "main", resume, JSON_DAMAGE, rows),
    Target(
        "results.jsonl, summarised", f"{RUN}/results.jsonl", "summarize", summarize, JSON_DAMAGE, printed, content=True
    ),
    Target("results.jsonl, resumed", f"{RUN}/results.jsonl", "main", resume, JSON_DAMAGE, rows),
    Target("rand_perm_cam.mat", PERMUTATIONS, "evaluate", evaluate, BINARY, rows, content=True),
    Target("features .npz", "features.npz", "evaluate", evaluate, BINARY, rows),
    Target("SYSU id list", "sysu/exp/train_id.txt", "reproduce", table, TEXT, printed, content=True),
    Target("RegDB list", "regdb/idx/train_visible_1.txt", "reproduce", listing("regdb"), TEXT, printed, True, "regdb/"),
    Target("LLCM list", "llcm/idx/train_vis.txt", "reproduce", listing("llcm"), TEXT, printed, True, "llcm/"),
    Target("own images.csv", "own/images.csv", "reproduce", listing("own"), TEXT, printed, True, "own/"),
    Target("image .jpg", "sysu/cam*/*/*.jpg", "prepare", prepare, BINARY, pixels, content=True),
    Target("cfg .yml", "run.yml", "prepare", configured, YAML_DAMAGE, pixels, content=True),
    Target("gallery vectors.npy, searched", "gallery/vectors.npy", "search", search, BINARY, printed, content=True),
    Target("gallery images.csv, searched", "gallery/images.csv", "search", search, TEXT, printed, True, "sysu/"),
    Target("gallery card.json, searched", "gallery/card.json", "search", search, JSON_DAMAGE, printed, content=True),
    Target("gallery images.csv, added to", "gallery/images.csv", "embed", append, TEXT, gallery, content=True),
    Target("gallery card.json, added to", "gallery/card.json", "embed", append, JSON_DAMAGE, gallery, content=True),
    Target("table .yml", "table.yml", "reproduce", table, YAML_DAMAGE, printed, content=True),
    *([Target("weights .safetensors, tested", PORTABLE, "main", portable, BINARY, rows)] if SAFETENSORS else []),
)


def make_home(world: World, home: Path) -> None:
    """What the targets damage: a finished run, its weights, a filled cache, features, copies of data and ymls."""
    shutil.copytree(world.sysu, home / "sysu")
    for folder in (world.regdb, world.llcm, world.own):
        shutil.copytree(folder, home / folder.name)
    for path in world.top.glob("*.yml"):
        shutil.copyfile(path, home / path.name)
    ended = run("main", run_words(World(home), home, "disk"), home / "said", 600)
    (folder,) = (home / "runs" / "sysu").iterdir()
    if ended.code:
        raise RuntimeError(f"the run to be damaged failed: {ended.err[-500:]}")
    folder.rename(home / RUN)
    weights = torch.load((home / RUN) / "last.pth", weights_only=True)["model"]
    backbone = {
        name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")
    }
    torch.save(weights, home / "weights.pth")
    torch.save(backbone, home / "backbone.pth")
    shutil.copyfile("configs/Demo.yml", home / "run.yml")
    save_features(home)
    save_gallery(home)


def save_gallery(home: Path) -> None:
    """The model as safetensors, and a gallery that it made of the test images."""
    if SAFETENSORS:
        best = open_checkpoint(str(home / RUN), best=True)
        write_portable(home / PORTABLE, best.weights, best.origin._asdict(), best.states["progress"])
    ended = run("embed", embed_words(World(home), home, home / RUN), home / "said")
    if ended.code:
        raise RuntimeError(f"the gallery to be damaged could not be made: {ended.err[-500:]}")


def save_features(home: Path) -> None:
    """Random embeddings of the test images."""
    test, dice = sysu.load(str(home / "sysu")).test, np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for side, records in (("visible", test.visible), ("infrared", test.infrared)):
        shape = (1, len(records), 8) if side == "visible" else (len(records), 8)
        arrays[f"{side}_embeddings"] = dice.normal(size=shape).astype(np.float32)
        arrays[f"{side}_pids"] = np.array([record.pid for record in records])
        arrays[f"{side}_cameras"] = np.array([record.camera for record in records])
    arrays["visible_names"] = np.array(["/".join(Path(record.path).parts[-3:]) for record in test.visible])
    np.savez(home / "features.npz", **arrays)

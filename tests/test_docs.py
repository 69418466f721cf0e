"""The documents are true: their commands run, their links lead somewhere, their tables are current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from configs.defaults import KEYS
from data.sets import sysu
from tests.conftest import TINY, only_run
from tools import (
    doctor,
    document_keys,
    embed,
    evaluate,
    export,
    prepare,
    reproduce,
    search,
    serve,
    summarize,
    visualize,
)
from utils.cli import exit_code
from utils.logging import stop_logging
from utils.results import read_rows

HOME = Path(main.__file__).parent
README = (HOME / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, flags=re.S) for line in block.splitlines()]
# Run by .ci/run, from a clean clone.
IN_CI = {"make demo", "make serve", "make tables", "make test"}
TOOLS = ("doctor", "embed", "evaluate", "export", "prepare", "reproduce", "search", "serve", "summarize", "visualize")
PACKAGES = ("configs", "data", "models", "losses", "engine", "tools", "utils")
RUN_HERE = ("python main.py ", "torchrun ", *(f"python -m tools.{name} " for name in TOOLS))


def test_every_command_is_known():
    assert IN_CI <= set(COMMANDS)
    assert all(line in IN_CI or line.startswith(RUN_HERE) for line in COMMANDS)


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if line.startswith("python main.py ") and not line.endswith(" DATA")]
)
def test_command_runs(run_main, finished, sysu_root, regdb_root, tmp_path, line):
    root = regdb_root if "RegDB" in line else sysu_root
    weights = tmp_path / "weights.pth"
    torch.save(torch.load(finished / "best.pth", weights_only=True)["model"], weights)
    arguments = shlex.split(line.replace("RUN", str(finished)).replace("WEIGHTS.pth", str(weights)))[2:]
    small = [*TINY[4:], "num_epoch", 1, "backbone", "resnet18", "pretrained", "none", "num_workers", 0]
    assert run_main(*arguments, "--gpu", "cpu", *small, "data_root", root, "output_dir", tmp_path / "out") == 0


def test_prepare_command(sysu_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(HOME)
    (line,) = [line for line in COMMANDS if line.startswith("python -m tools.prepare ")]
    small = ["image_size", "(64, 32)", "num_workers", "0", "cache_dir", str(tmp_path)]
    prepare.main([*shlex.split(line.replace("/data/SYSU-MM01", str(sysu_root)))[3:], *small])
    stop_logging()
    assert capsys.readouterr().out.count(" GB, written") == len(list(tmp_path.iterdir())) == 3


def test_summarize_command(finished, capsys):
    summarize.main([str(finished)])
    printed = capsys.readouterr().out
    assert (
        re.search(r"sysu/all/1-shot +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d\n", printed)
        and str(finished) in printed
    )


def test_newest_run_is_found(finished, capsys):
    summarize.main([str(finished.parent.parent), "--newest"])
    assert f"run folder: {finished}" in capsys.readouterr().out


def test_evaluate_command(sysu_root, tmp_path, monkeypatch, capsys):
    """With the file that the example of the format's page writes."""
    monkeypatch.chdir(tmp_path)
    test = sysu.load(str(sysu_root)).test
    draw = np.random.default_rng(0).normal
    given = {f"{side}_paths": [r.path for r in getattr(test, side)] for side in ("visible", "infrared")}
    given |= {spectrum: draw(size=(len(test.visible), 8)) for spectrum in ("original", "red", "green", "blue")}
    (example,) = re.findall(r"```python\n(.*?)```", (HOME / "docs" / "features_format.md").read_text(), flags=re.S)
    exec(example, {**given, "infrared": draw(size=(len(test.infrared), 8))})
    (line,) = [line for line in COMMANDS if line.startswith("python -m tools.evaluate ")]
    evaluate.main(shlex.split(line.replace("/data/SYSU-MM01", str(sysu_root)))[3:])
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row.ranking for row in rows] == ["cosine", "mser"] * 4
    printed = capsys.readouterr().out
    assert re.search(r"sysu/all/1-shot +\d+\.\d\d ", printed)
    assert re.search(r"\nmser: \d+\.\d\d s\npeak memory: \d+\.\d\d GB\n", printed)


def test_torchrun_command(sysu_root, tmp_path):
    (line,) = [line for line in COMMANDS if line.startswith("torchrun ")]
    arguments = shlex.split(line.replace("/data/SYSU-MM01", str(sysu_root)))[1:]
    small = [*TINY[2:], "num_epoch", "1", "eval_initial", "false", "backbone", "resnet18", "pretrained", "none"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *arguments, *small]
    subprocess.run([*command, "num_workers", "0", "output_dir", str(tmp_path)], check=True, cwd=HOME, timeout=300)
    assert read_rows(only_run(tmp_path) / "results.jsonl")


def test_reproduce_command(sysu_root, tmp_path, monkeypatch, capsys):
    """As far as it starts nothing; test_reproduce.py and .ci/run go further."""
    monkeypatch.chdir(HOME)
    (line,) = [line for line in COMMANDS if line.startswith("python -m tools.reproduce ")]
    arguments = shlex.split(line.replace("/data/SYSU-MM01", str(sysu_root)))[3:]
    assert reproduce.main([*arguments, "--print", "--results", str(tmp_path)]) == 0
    stop_logging()
    assert capsys.readouterr().out.count("main.py --cfg configs/SYSU_MCJA.yml --gpu 0 --seed 8 ") == 1


def test_visualize_command(finished, capsys):
    (line,) = [line for line in COMMANDS if line.startswith("python -m tools.visualize ")]
    visualize.main([*shlex.split(line.replace("RUN", str(finished)))[3:], "--gpu", "cpu"])
    stop_logging()
    written = {path.stem for path in (finished / "figures").glob("*.png")}
    assert written >= {"cmc", "curves", "distances", "embedding", "masks", "ranked_lists_cosine", "vimc"}
    assert capsys.readouterr().out.count("written: ") == len(written)


def test_own_images_commands(folder_root, run_main, tmp_path, capsys):
    (look,) = [line for line in COMMANDS if line.startswith("python -m tools.doctor ")]
    assert doctor.main(shlex.split(look.replace("DATA", str(folder_root)))[3:]) == 0
    (train,) = [line for line in COMMANDS if line.endswith(" data_root DATA")]
    small = ["num_epoch", 1, "backbone", "resnet18", "pretrained", "none", "num_workers", 0, "output_dir", tmp_path]
    words = shlex.split(train.replace("DATA", str(folder_root)))[2:]
    assert run_main(*words, "--gpu", "cpu", *TINY[6:], *small) == 0


def test_search_commands(finished, sysu_root, tmp_path, monkeypatch, capsys):
    """As they stand in README, one after the other; the page answers one search of its own instead of waiting."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sysu_root / "cam1", "DAY")
    shutil.copy(next((sysu_root / "cam3").glob("*/*.jpg")), "night.jpg")
    commands = {"embed": embed, "search": search, "serve": serve, "export": export}
    if not extras_are_there("fastapi", "uvicorn", "python_multipart", "jinja2"):
        del commands["serve"]
    if not extras_are_there("onnx", "onnxruntime"):
        del commands["export"]
    for name, command in commands.items():
        (line,) = [line for line in COMMANDS if line.startswith(f"python -m tools.{name} ")]
        more = ["--check", "--port", "0"] if name == "serve" else []
        assert exit_code(partial(command.main, [*shlex.split(line.replace("RUN", str(finished)))[3:], *more])) == 0
        stop_logging()
    assert Path("sheet.png").stat().st_size and "rank  cosine  distance" in capsys.readouterr().out
    assert "export" not in commands or Path("EXPORT/model.onnx").stat().st_size


def extras_are_there(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


@pytest.mark.parametrize(
    "page", [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_configuration_page_is_current():
    assert (HOME / "docs" / "configuration.md").read_text() == document_keys.document()


@pytest.mark.parametrize(
    "page", [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_keys_in_documents_exist(page):
    """Whatever looks like `key value` with a known prefix must be a key."""
    mentioned = set(re.findall(r"`((?:vimc|mda|mser|cmr|loss|eval|num|random)_[a-z0-9_]+)", page.read_text()))
    assert mentioned <= set(KEYS), mentioned - set(KEYS)


def rooms(page: str) -> dict[str, str]:
    """{folder: what the tree of the page of the architecture says of it}."""
    (tree,) = re.findall(r"## The rooms\n\n```\n(.*?)```", page, flags=re.S)
    found, folder = {}, ""
    for line in tree.splitlines():
        start = re.match(r"(\S+/) +", line)
        folder = start[1] if start else folder
        found[folder] = found.get(folder, "") + " " + line[start.end() if start else 0 :]
    return found


def test_the_page_of_the_architecture_names_what_exists():
    page = (HOME / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {
        folder + name for folder, text in rooms(page).items() for name in re.findall(r"[\w/]+\.(?:py|md|sh)\b", text)
    }
    named |= set(re.findall(r"`((?:\w+/)+\w+\.\w+)`", page)) | rooms(page).keys()
    assert len(named) > 90 and not [name for name in sorted(named) if not (HOME / name).exists()]


def test_every_package_has_a_room():
    page = (HOME / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {f"{path.parent.relative_to(HOME)}/" for top in PACKAGES for path in (HOME / top).rglob("__init__.py")}
    assert packages <= rooms(page).keys()

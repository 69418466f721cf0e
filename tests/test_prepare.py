"""python -m tools.prepare: the caches of a configuration, before any run; bad input is one line."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import pytest

import main
from tests.conftest import TINY
from tools import prepare
from utils.cli import exit_code
from utils.logging import stop_logging


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(*arguments) -> exit code, with a small configuration and a cache below tmp_path."""
    monkeypatch.chdir(Path(main.__file__).parent)
    keys = ["image_size", "(48, 32)", "num_workers", "0", "cache_dir", str(tmp_path / "cache")]
    yield lambda *arguments: exit_code(partial(prepare.main, [*keys, *map(str, arguments)]))
    stop_logging()


def printed(capsys) -> list[str]:
    return [
        name + rest
        for name, rest in re.findall(r"^\S*?(\w[^/]*)-\w{8}(\.pixels: .*)$", capsys.readouterr().out, flags=re.M)
    ]


def test_every_part_is_decoded_once(run, sysu_root, tmp_path, capsys):
    assert run("data_root", sysu_root) == 0
    lines = [line for line in printed(capsys) if line.endswith("written")]
    assert [line.split(":")[0] for line in lines] == [
        f"sysu-{part}-48x32.pixels" for part in ("train", "test-visible", "test-infrared")
    ]
    assert re.fullmatch(r"sysu-train-48x32.pixels: \d+ images, 0.00 GB, written", lines[0])
    assert run("data_root", sysu_root) == 0
    assert [line.split(", ")[-1] for line in printed(capsys)] == ["already there"] * 3


def test_the_parts_of_a_split(run, regdb_root, tmp_path):
    assert run("--cfg", "configs/RegDB_MCJA.yml", "data_root", regdb_root, "trial", 4, "select", "val") == 0
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "cache").iterdir()) == [
        f"regdb-4-{part}-48x32"
        for part in ("test-infrared", "test-visible", "train-without-val", "val-infrared", "val-visible")
    ]


def test_two_data_roots_keep_their_files(run, sysu_root, tmp_path, capsys):
    (tmp_path / "other").symlink_to(sysu_root)
    for root in (sysu_root, tmp_path / "other"):
        assert run("data_root", root) == 0
    assert len(list((tmp_path / "cache").iterdir())) == 6
    assert run("data_root", sysu_root) == 0
    assert [line.split(", ")[-1] for line in printed(capsys)][-3:] == ["already there"] * 3


def test_a_damaged_file_is_written_anew(run, sysu_root, tmp_path, capsys):
    assert run("data_root", sysu_root) == 0
    damaged = sorted((tmp_path / "cache").iterdir())[-1]
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-1] + bytes([before[-1] ^ 64]))
    assert run("data_root", sysu_root) == 0
    assert "damaged: its pixels do not have the checksum" in capsys.readouterr().out
    assert damaged.read_bytes() == before


def test_a_run_finds_what_was_prepared(run, run_main, sysu_root, tmp_path, capsys):
    keys = ["data_root", sysu_root, "image_size", "(64, 32)"]
    assert run(*keys) == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    cache = ["cache", "disk", "cache_dir", tmp_path / "cache", "output_dir", tmp_path / "runs"]
    assert run_main(*TINY, *keys, *cache, "num_epoch", 0, "eval_initial", "false", "mser", "false") == 0
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cache", "none"], "cache = none: a run with this configuration keeps no decoded images; set cache to disk"),
        (["cache", "tape"], "cache = 'tape': choose one of disk, ram, gpu, none"),
        (["cache_dir", ""], "cache_dir is empty: name a folder"),
        (["data_root", "/nowhere"], "data_root /nowhere: no such folder"),
        (["cach", "disk"], "unknown key 'cach'; did you mean cache?"),
        (["cache"], "'cache' has no value"),
        (["--seed", "x"], "argument --seed: 'x' is not a whole number"),
        (["cache_dir", "README.md"], "README.md: cannot be the folder of a cache (File exists)"),
    ],
)
def test_refused(run, sysu_root, tmp_path, capsys, arguments, said):
    assert run("data_root", sysu_root, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not (tmp_path / "cache").exists()


def test_an_unreadable_image_is_named(run, sysu_root, tmp_path, capsys):
    root = Path(shutil.copytree(sysu_root, tmp_path / "data"))
    image = sorted(root.glob("cam3/*/*.jpg"))[0]
    image.write_bytes(image.read_bytes()[:300])
    assert run("data_root", root) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {image}: not a readable image") and error.count("\n") == 1
    assert list((tmp_path / "cache").iterdir()) == []

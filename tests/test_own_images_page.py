"""The page about own images: its commands are run one after another, on a few small synthetic images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import main
from data.sets import folder
from tests.conftest import only_run
from tools import doctor, embed, make_synthetic, search, visualize
from utils.logging import stop_logging
from utils.results import read_rows
from utils.runs import RESULTS

PAGE = (Path(main.__file__).parent / "docs" / "own_images.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S) for line in block.splitlines()]
SMALL = (
    "backbone resnet18 pretrained none image_size (64,32) p_size 4 k_size 2 mda_layers [0,0,1,0] num_epoch 1 lr_step [1] "
    "eval_initial false cache none num_workers 0 sample_method cross_modality_identity"
)
# What the commands are given beside their own arguments, so that they take seconds.
MORE = {
    "python -m tools.make_synthetic": "--images 1 --size 64 32",
    "python main.py": f"--gpu cpu {SMALL}",
    "python -m tools.visualize": "--gpu cpu --what ranked_lists",
    "python -m tools.embed": "--device cpu --workers 0",
    "python -m tools.search": "--device cpu",
}


@pytest.fixture
def walk(run_main, tmp_path):
    """walk(line) -> exit code of a command of the page, in a folder of its own."""
    places = {"datasets/own": tmp_path / "own", "GALLERY": tmp_path / "gallery", "PHOTOS": tmp_path / "photos-gallery",
              "photos": tmp_path / "photos", "sheet.png": tmp_path / "sheet.png"}  # fmt: skip
    runs = {
        "tools.make_synthetic": make_synthetic.main,
        "tools.doctor": doctor.main,
        "tools.visualize": visualize.main,
        "tools.embed": embed.main,
        "tools.search": search.main,
    }

    def run(line: str) -> int:
        line = line.replace("--train-ids 24 --test-ids 12", "--train-ids 4 --test-ids 2").replace("0025", "0005")
        name = next((name for name in MORE if line.startswith(name)), "")
        words = shlex.split(line)[2:] + shlex.split(MORE.get(name, ""))
        if line.startswith("python main.py"):
            return run_main(*(place_of(word) for word in words), "output_dir", tmp_path / "runs" / Path(words[1]).stem)
        code = runs[words[0]]([place_of(word) for word in words[1:]])
        stop_logging()
        return code or 0

    def place_of(word: str) -> str:
        if word == "RUN":
            return str(only_run(tmp_path / "runs" / "Demo"))
        known = next((name for name in places if word == name or word.startswith(f"{name}/")), None)
        return word if known is None else str(places[known]) + word[len(known) :]

    return run


def test_the_page_s_commands(walk, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 64), "red").save(tmp_path / "photos" / "nobody.jpg")
    assert [line.split()[2 if " -m " in line else 1] for line in COMMANDS] == [
        "tools.make_synthetic", "tools.doctor", "main.py", "main.py", "tools.visualize", "tools.embed", "tools.search", "tools.embed",
    ]  # fmt: skip
    assert [walk(line) for line in COMMANDS] == [0] * len(COMMANDS)
    for run in (tmp_path / "runs").glob("*/*/*"):
        assert {row.protocol for row in read_rows(run / RESULTS)} == set(folder.DATASET.protocols)
    assert (tmp_path / "sheet.png").exists() and (tmp_path / "photos-gallery" / "vectors.npy").exists()
    assert "0005" in capsys.readouterr().out.rpartition("0005_c3_0001")[2]


def test_the_page_s_list(tmp_path):
    """Every line of the example is read as it says."""
    (lines,) = re.findall(r"```\n(path,.*?)```", PAGE, flags=re.S)
    for line in lines.splitlines()[1:]:
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "images.csv").write_text(lines, encoding="utf-8")
    benchmark = folder.load(str(tmp_path))
    assert (benchmark.num_ids, len(benchmark.train), benchmark.names) == (1, 2, ["Anna", "张伟"])
    assert {record.camera for record in benchmark.train} == {1, 2} and benchmark.test.visible[0].pid == 1

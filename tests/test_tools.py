import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import contact_sheet, document_keys, summarize
from utils.cli import exit_code
from utils.errors import UserError
from utils.types import ResultRow


@pytest.fixture
def two_cameras(tmp_path):
    """Two cameras; the second missed identity 2. Every image is flat: 10 * identity + camera."""
    for camera, identity in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 3)):
        folder = tmp_path / "set" / f"cam{camera}" / f"{identity:04d}"
        folder.mkdir(parents=True)
        Image.new("L", (8, 16), 10 * identity + camera).save(folder / "0001.png")
    return tmp_path / "set"


def test_contact_sheet_shows_who_was_seen_by_every_camera(two_cameras, tmp_path):
    contact_sheet.main([str(two_cameras), str(tmp_path / "sheet.png"), "--height", "16"])
    page = np.asarray(Image.open(tmp_path / "sheet.png"))[..., 0]
    assert page.shape == (2 * 20 + 4, 2 * 12 + 4)
    assert [[page[y, x] for x in (8, 20)] for y in (12, 32)] == [[11, 12], [31, 32]]


def test_contact_sheet_without_such_an_identity(two_cameras, tmp_path, capsys):
    (two_cameras / "cam3").mkdir()
    assert exit_code(partial(contact_sheet.main, [str(two_cameras), str(tmp_path / "sheet.png")])) == 2
    assert "no identity was seen by all of 3 cameras" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


def test_summary_leaves_out_what_a_run_did_not_do():
    rows = [ResultRow("test", 2, "regdb/i2v", 1, "test", "cosine", 12.5, 0, 0, 0, 0, 0)]
    lines = summarize.format_summary({"regdb/i2v": 0.5}, rows).splitlines()
    assert lines[1].split() == ["regdb/i2v", "0.50", "-", "12.50"]


def test_summary_of_a_folder_that_is_no_run(tmp_path, capsys):
    assert exit_code(partial(summarize.main, [str(tmp_path)])) == 2
    assert exit_code(partial(summarize.main, [str(tmp_path), "--newest"])) == 2
    assert capsys.readouterr().err.count("run.json") == 2


def made(folder: Path, config: str, at: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(config)
    (folder / "run.json").write_text("{}")
    os.utime(folder / "run.json", (at, at))
    return folder


def test_the_newest_run_is_the_newest_training(tmp_path):
    made(tmp_path / "sysu" / "old", "test_only: false\n", 1)
    training = made(tmp_path / "sysu" / "training", "lr: 1\ntest_only: false\n", 2)
    made(tmp_path / "sysu" / "test", "lr: 1\ntest_only: true\n", 3)
    assert summarize.newest_run(tmp_path) == training


def test_the_newest_run_where_there_are_tests_only(tmp_path):
    test = made(tmp_path / "test", "test_only: true\n", 3)
    with pytest.raises(UserError, match=f"holds tests only, no training; give one of them, such as {test}"):
        summarize.newest_run(tmp_path)


def test_help_of_document_keys_is_not_its_page(capsys):
    with pytest.raises(SystemExit) as ended:
        document_keys.main(["--help"])
    printed = capsys.readouterr().out
    assert (
        ended.value.code == 0
        and printed.startswith("usage: python -m tools.document_keys")
        and "| key |" not in printed
    )

"""The documents are true: their commands run, their links lead somewhere, their tables are current."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import main
from configs.defaults import KEYS
from tests.conftest import TINY
from tools import document_keys, summarize

HOME = Path(main.__file__).parent
README = (HOME / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, flags=re.S) for line in block.splitlines()]
# Run by .ci/run, from a clean clone.
IN_CI = {"make demo", "make test"}


def test_every_command_is_known():
    assert IN_CI <= set(COMMANDS)
    assert all(line in IN_CI or line.startswith(("python main.py ", "python -m tools.summarize ")) for line in COMMANDS)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("python main.py ")])
def test_command_runs(run_main, finished, sysu_root, regdb_root, tmp_path, line):
    root = regdb_root if "RegDB" in line else sysu_root
    arguments = shlex.split(line.replace("RUN", str(finished)))[2:]
    small = [*TINY[4:], "num_epoch", 1, "backbone", "resnet18", "pretrained", "none", "num_workers", 0]
    resumed = ["sample_method", "cross_modality_identity"]
    assert run_main(*arguments, *small, *resumed, "data_root", root, "output_dir", tmp_path / "out") == 0


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

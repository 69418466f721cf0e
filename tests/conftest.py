"""Shared by the tests: tiny synthetic data sets, golden numbers, and the command line run inside the test's process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from tools import make_synthetic
from utils.cli import exit_code
from utils.logging import stop_logging

# One thread: the tensors are tiny, and several test machines share their cores.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# Where a shell started this in the background, interrupts are ignored here, and would be in what tests start and
# interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Once a test has used Milvus, gRPC acts in every later fork of the same process, and now and then aborts the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

GOLDEN = Path(__file__).parent / "golden"
TINY = [
    "--cfg", "configs/Demo.yml", "--gpu", "cpu", "num_epoch", "2", "image_size", "(64, 32)", "p_size", "4", "k_size", "4",
    "batch_size", "16", "eval_interval", "1", "log_period", "2", "lr_step", "[1]", "mda_layers", "[0, 0, 1, 0]",
    "cache", "none",
]  # fmt: skip


@pytest.fixture(scope="session")
def sysu_root(tmp_path_factory) -> Path:
    """A SYSU-MM01 of 6 + 2 + 4 synthetic identities."""
    return _draw(tmp_path_factory, "--train-ids", "6", "--val-ids", "2", "--test-ids", "4", "--images", "2")


@pytest.fixture(scope="session")
def regdb_root(tmp_path_factory) -> Path:
    """A RegDB of 12 synthetic identities, 3 images of each in both modalities."""
    return _draw(tmp_path_factory, "--layout", "regdb", "--ids", "12", "--images", "3")


@pytest.fixture(scope="session")
def folder_root(tmp_path_factory) -> Path:
    """Own images: 6 + 4 synthetic identities, one image from each of two visible and two infrared cameras."""
    return _draw(tmp_path_factory, "--layout", "folder", "--train-ids", "6", "--test-ids", "4", "--images", "1")


def _draw(tmp_path_factory, *arguments: str) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "data"
    assert make_synthetic.main([str(root), *arguments, "--size", "64", "32", "--workers", "1"]) == 0
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory, sysu_root) -> Path:
    """The folder of a finished two-epoch run, with every default part on. Not to be written to."""
    output = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "main.py", *TINY, "data_root", str(sysu_root), "output_dir", str(output)]
    subprocess.run(command, check=True, cwd=Path(main.__file__).parent, capture_output=True)
    return only_run(output)


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "sysu" / trained.name))


def only_run(output: Path) -> Path:
    (folder,) = output.glob("*/*")
    return folder


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/golden/<name>_public.npz."""
    with np.load(GOLDEN / f"{name}_public.npz") as file:
        return dict(file)


@pytest.fixture
def waiting(monkeypatch) -> None:
    """Trainings that main.py begins in new processes wait in their second epoch until they are ended from outside."""
    folders = [str(Path(__file__).parent / "waiting"), str(Path(main.__file__).parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))


@pytest.fixture
def run_main(monkeypatch):
    """run_main(*arguments) -> exit code of main.py, from the repository root."""
    monkeypatch.chdir(Path(main.__file__).parent)
    yield lambda *arguments: exit_code(partial(main.run, [str(argument) for argument in arguments]))
    stop_logging()

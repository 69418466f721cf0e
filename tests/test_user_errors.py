"""Bad input: one line that names the file, key or value and the way out, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from tests.conftest import TINY
from utils.errors import UserError
from utils.files import write_text
from utils.tensors import load_torch


@pytest.fixture
def refused(run_main, sysu_root, tmp_path, capsys):
    """refused(*arguments): runs main.py, which must refuse; its one line of error."""
    output = tmp_path / "runs"

    def run(*arguments) -> str:
        assert run_main(*TINY, "data_root", sysu_root, "output_dir", output, *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert not output.exists()
        return error

    return run


@pytest.fixture
def broken_sysu(sysu_root, tmp_path) -> Path:
    return Path(shutil.copytree(sysu_root, tmp_path / "SYSU-MM01"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data_root", "/nowhere"], "data_root /nowhere: no such folder"),
        (["data_root", "configs"], "not SYSU-MM01, exp/ is missing"),
        (["learning_rate", "1"], "unknown key 'learning_rate'"),
        (["num_epochs", "1"], "did you mean num_epoch?"),
        (["num_epoch", "many"], "num_epoch = 'many' must be a whole number"),
        (["num_epoch"], "KEY VALUE: 'num_epoch' has no value"),
        (["dataset", "market"], "dataset = 'market' is unknown; choose one of: folder, llcm, regdb, sysu"),
        (
            ["sample_method", "random"],
            "choose one of: cross_modality_drawn, cross_modality_identity, cross_modality_random",
        ),
        (["backbone", "vit"], "choose one of: resnet101, resnet18"),
        (["k_size", "3"], "k_size = 3: must be even"),
        (["p_size", "50"], "has only 8 identities; lower p_size"),
        (["mda_layers", "[0, 9, 0, 0]"], "the stages of resnet18 have (2, 2, 2, 2) blocks"),
        (["soft_rank", "fast"], "choose one of auto, native, torchsort"),
        (["resume", "/nowhere/last.pth"], "/nowhere/last.pth: no such file"),
        (["resume", "configs"], "resume = configs: the folder holds no last.pth"),
        (["test_only", "true"], "test_only needs `resume`"),
        (["pretrained", "weights.pth"], "weights.pth: no such file"),
        (["--gpu", "0,1"], "torchrun --nproc_per_node=N main.py ... uses N GPUs"),
        (["--seed", "x"], "argument --seed: 'x' is not a whole number, 0 or more"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number, 0 or more"),
        (["--nonsense"], "--nonsense"),
        (["--cfg", "configs/none.yml"], "configs/none.yml: cannot be read"),
    ],
)
def test_refused(refused, arguments, said):
    assert said in refused(*arguments)


def test_missing_permutation_says_where_it_is_published(refused, broken_sysu):
    (broken_sysu / "exp" / "rand_perm_cam.mat").unlink()
    error = refused("data_root", broken_sysu)
    assert "rand_perm_cam.mat is missing" in error and "evaluation/data_split/" in error


def test_truncated_image_is_named(run_main, broken_sysu, tmp_path, capsys):
    image = sorted(broken_sysu.glob("cam3/*/*.jpg"))[0]
    image.write_bytes(image.read_bytes()[:300])
    for workers in (0, 1):
        arguments = ["data_root", broken_sysu, "output_dir", tmp_path / "runs", "num_workers", workers, "num_epoch", 50]
        assert run_main(*TINY, *arguments, "eval_interval", 0, "eval_initial", "false") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {image}: not a readable image") and error.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_corrupt_checkpoint(refused, tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    assert "bad.pth" in refused("resume", tmp_path / "bad.pth")


def test_foreign_checkpoint(refused, tmp_path):
    torch.save({"epoch": 3, "net": [1, 2]}, tmp_path / "foreign.pth")
    assert "neither a checkpoint of this project nor a file of named weights" in refused(
        "resume", tmp_path / "foreign.pth"
    )


def test_checkpoint_of_another_model_is_listed(refused, tmp_path):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    error = refused("resume", tmp_path / "other.pth", "test_only", "true")
    assert "conv.weight is unknown, backbone.conv1.weight is missing" in error and len(error) < 400


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL_FOLDER", str(tmp_path / "evil"))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Evil()}))
    torch.save({"model": Evil()}, tmp_path / "zip.pth")
    for name in ("plain.pth", "zip.pth"):
        with pytest.raises(UserError, match=name):
            load_torch(tmp_path / name)
    assert not (tmp_path / "evil").exists()


def test_gpu_that_is_not_there_means_the_cpu(run_main, sysu_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    keys = ["data_root", sysu_root, "output_dir", tmp_path, "num_epoch", 0, "eval_initial", "false", "mser", "false"]
    assert run_main(*TINY, "--gpu", "0", *keys) == 0
    assert "no GPU is available, using the CPU" in capsys.readouterr().out


def test_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    write_text(path, "old\n")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="results.jsonl: could not be written .No space left on device."):
        write_text(path, "new\n")
    assert path.read_text() == "old\n" and len(list(tmp_path.iterdir())) == 1


def test_as_a_program():
    done = subprocess.run(
        [sys.executable, "main.py", "--gpu", "cpu", "data_root", "/nowhere"],
        cwd=Path(main.__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr and "data_root /nowhere" in done.stderr


@pytest.mark.parametrize(("command", "stub"), [(["main.py"], "yacs"), (["-m", "tools.summarize"], "numpy")])
def test_an_interrupt_during_the_imports_is_one_line(tmp_path, command, stub):
    (tmp_path / stub).mkdir()
    source = "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / stub / "__init__.py").write_text(source)
    done = subprocess.run(
        [sys.executable, *command], cwd=Path(main.__file__).parent, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


ENDED = """
import os, signal, sys
from utils.cli import exit_code
from utils.interrupts import ended_as_by_ctrl_c
number, before = (getattr(signal, name) for name in sys.argv[1:])
signal.signal(number, before)
print(ended_as_by_ctrl_c(lambda: exit_code(lambda: os.kill(os.getpid(), number))), flush=True)
os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_end_of_a_job_or_a_terminal_is_an_interrupt_until_the_command_has_ended(name):
    assert ended(name, "SIG_DFL") == ("130\n", "interrupted\n", -getattr(signal, name))


def test_a_signal_that_is_ignored_stays_so():
    """As under nohup, which a user gives because the terminal will close."""
    assert ended("SIGHUP", "SIG_IGN") == ("0\n", "", 0)


def ended(name: str, before: str) -> tuple[str, str, int]:
    """(output, errors, exit code) of a process that gets the signal within its command and after it."""
    command = [sys.executable, "-c", ENDED, name, before]
    done = subprocess.run(command, cwd=Path(main.__file__).parent, capture_output=True, text=True)
    return done.stdout, done.stderr, done.returncode

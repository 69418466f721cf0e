"""`resume RUN` takes the run's own configuration, and says what is asked differently."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from configs import load_config
from configs.command import parse
from configs.defaults import BOTH, KEYS, NOTHING, TEST, affecting
from engine.checkpoint import load_weights_into, open_checkpoint
from engine.resuming import resume_notes
from engine.start import build_asked
from models import build_model
from tests.test_model import FULL, filled_by_rule, noise_images
from utils.errors import UserError
from utils.results import read_rows
from utils.runs import read_record

HOME = Path(main.__file__).parent
TESTING = ["--gpu", "cpu", "test_only", "true"]


def final_rows(folder: Path) -> list:
    return [row._replace(selected_on=None) for row in read_rows(folder / "results.jsonl") if row.stage == "test"]


@pytest.fixture
def tested(run_main, finished, tmp_path, capsys):
    """tested(*arguments) -> the rows and the log of a test of the finished run."""

    def run(*arguments) -> tuple[list, str]:
        output = tmp_path / "tested"
        assert run_main(*TESTING, "resume", finished, "output_dir", output, *arguments) == 0
        (folder,) = output.glob("*/*")
        return final_rows(folder), capsys.readouterr().out

    return run


@pytest.mark.parametrize("arguments", [[], ["--cfg", "configs/SYSU_MCJA.yml"]])
def test_a_test_uses_the_configuration_of_its_run(tested, finished, arguments):
    rows, log = tested(*arguments)
    assert rows == final_rows(finished) and "differs" not in log


def test_a_run_keeps_the_absolute_folder_of_its_data(run_main, finished, sysu_root, tmp_path):
    keys = ["data_root", os.path.relpath(sysu_root, HOME), "output_dir", tmp_path / "tested", "mser", "false"]
    assert run_main(*TESTING, "resume", finished, *keys) == 0
    (folder,) = (tmp_path / "tested").glob("*/*")
    assert Path(read_record(folder)["data"]["root"]) == HOME / keys[1]


def test_a_test_says_what_changes_its_results_and_no_more(tested, tmp_path):
    (tmp_path / "other.yml").write_text("image_size: [96, 48]\nlr: 0.5\n")
    _, log = tested("--cfg", tmp_path / "other.yml", "mser_k1", 3, "eval_memory_gb", 0.5, "drop_last_stride", "false")
    said = re.findall(r"differs from the run that is tested: (.*)", log)
    assert said == [
        "image_size: [64, 32] -> [96, 48]",
        "drop_last_stride: True -> False",
        "mser_k1: 7 -> 3",
    ]


def test_a_model_that_does_not_fit_is_said_by_its_keys(run_main, finished, capsys):
    other = ["backbone", "resnet50", "mda_layers", "[0, 2, 3, 0]"]
    assert run_main(*TESTING, "resume", finished, *other) == 2
    error = capsys.readouterr().err
    assert error.endswith(
        "was trained with backbone resnet18, mda_layers [0, 0, 1, 0], not resnet50, [0, 2, 3, 0]: "
        "leave out what changes these keys\n"
    )
    assert len(error) < 200 + len(str(finished))


def test_resume_alone_continues_a_run(run_main, finished):
    assert run_main("--gpu", "cpu", "resume", finished, "num_epoch", 3) == 0
    assert open_checkpoint(str(finished), best=False).epoch == 3
    assert len(list(finished.parent.iterdir())) == 1


def test_weights_alone_do_not_say_their_epoch(run_main, finished, tmp_path, capsys):
    torch.save(torch.load(finished / "best.pth", weights_only=True)["model"], tmp_path / "weights.pth")
    small = ["--cfg", finished / "config.yml", "output_dir", tmp_path / "tested"]
    assert run_main(*TESTING, *small, "resume", tmp_path / "weights.pth") == 0
    (folder,) = (tmp_path / "tested").glob("*/*")
    rows = read_rows(folder / "results.jsonl")
    assert {(row.stage, row.epoch, row.selected_on) for row in rows} == {("test", None, None)}
    assert "epoch not known, in percent" in capsys.readouterr().out


def test_released_weights_give_the_golden_embeddings_through_readmes_command(tmp_path):
    """Files of weights hold no configuration: the flagship's must be the published network."""
    (line,) = [line for line in (HOME / "README.md").read_text().splitlines() if "resume WEIGHTS.pth" in line]
    published = build_model(load_config(None, ["pretrained", "none"]), 10)
    torch.save(filled_by_rule(published.state_dict()), tmp_path / "released.pth")
    args = parse(shlex.split(line.replace("WEIGHTS.pth", str(tmp_path / "released.pth")))[2:])
    cfg, checkpoint = build_asked(args.cfg, args.opts)
    model = build_model(cfg, 12).eval()  # identities are counted from the data; released heads may have other ones
    load_weights_into(model, checkpoint, allow_other_head=True, config=cfg)
    with torch.no_grad():
        found = model(noise_images(int(FULL["input_seed_eval"]), 4)).embeddings.numpy()
    assert found == pytest.approx(FULL["emb_eval"], rel=1e-3, abs=1e-4 * float(abs(FULL["emb_eval"]).max()))


def test_keys_are_noted_by_what_they_affect(finished):
    checkpoint = open_checkpoint(str(finished), best=False)
    changed = {name: "other" for name in KEYS}
    noted = {line.split(": ")[1] for line in resume_notes(checkpoint, changed, None, testing=False)}
    assert noted == KEYS.keys() - affecting(NOTHING)
    noted = {line.split(": ")[1] for line in resume_notes(checkpoint, changed, None, testing=True)}
    assert noted == affecting(BOTH, TEST)


# ----------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize("arguments, said", [
    (["--lr", "1e-3"], "unknown argument '--lr'; write lr VALUE"), (["--lr=1e-3"], "write lr VALUE"),
    (["--nonsense"], "unknown argument '--nonsense'; --help lists the arguments"),
    (["--desc", "../x"], "it cannot hold"), (["--desc", "a/b"], "it cannot hold"), (["--desc", "x" * 500], "longer than 100 bytes"),
    (["--desc", "a\nb"], "control character"), (["--seed", "9" * 20], "give a number below 2^63"), (["--seed", "9" * 5000], "below 2^63"),
])  # fmt: skip
def test_arguments_that_cannot_be(arguments, said):
    with pytest.raises(UserError) as caught:
        parse(arguments)
    assert said in str(caught.value) and len(str(caught.value)) < 250


def test_the_largest_seed():
    assert parse(["--seed", str(2**63 - 1)]).seed == 2**63 - 1


def test_from_another_folder(tmp_path):
    command = [sys.executable, HOME / "main.py", "--gpu", "cpu", "data_root", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "data_root nowhere" in done.stderr

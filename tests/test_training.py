"""Whole runs on tiny synthetic data: training, testing, resuming, selecting."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from engine import saving
from engine.evaluator import Evaluator
from tests.conftest import TINY, only_run
from utils.errors import UserError
from utils.results import read_rows
from utils.runs import BEST, LAST, RESULTS

PROTOCOLS = [f"sysu/{mode}/{shots}-shot" for mode in ("all", "indoor") for shots in (1, 10)]


def weights(folder: Path, name: str = LAST) -> dict[str, torch.Tensor]:
    return torch.load(folder / name, weights_only=True)["model"]


def same_weights(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestTrain:
    def test_rows(self, trained):
        rows = read_rows(trained / RESULTS)
        assert [(r.stage, r.epoch, r.protocol, r.ranking) for r in rows if r.stage != "test"] == [
            *(("initial", 0, protocol, "cosine") for protocol in PROTOCOLS),
            ("train", 1, "sysu/all/1-shot", "cosine"),
            ("train", 2, "sysu/all/1-shot", "cosine"),
        ]
        best = max((r for r in rows if r.stage == "train"), key=lambda r: r.r1)  # the first of equals
        assert [(r.epoch, r.selected_on, r.protocol, r.ranking) for r in rows if r.stage == "test"] == [
            (best.epoch, "test", protocol, ranking) for protocol in PROTOCOLS for ranking in ("cosine", "mser")
        ]
        tested = next(
            r for r in rows if r.stage == "test" and r.protocol == "sysu/all/1-shot" and r.ranking == "cosine"
        )
        assert tested[6:] == best[6:]
        assert all(r.split is None and all(0 <= value <= 100 for value in r[6:]) for r in rows)

    def test_rows_are_json_with_the_promised_keys(self, trained):
        first = json.loads((trained / RESULTS).read_text().splitlines()[0])
        names = "stage epoch protocol split selected_on ranking r1 r5 r10 r20 mAP mINP"
        assert list(first) == names.split()

    def test_what_a_run_writes_down(self, trained, sysu_root):
        record = json.loads((trained / "run.json").read_text())
        assert record["seed"] == 8 and record["device"] == "cpu"
        assert torch.__version__.startswith(record["versions"]["torch"])
        assert record["data"]["training"]["identities"] == 8
        assert len(record["data"]["fingerprint"]) == 64
        assert set(record["data"]["chance_r1"]) == set(PROTOCOLS)
        assert "num_epoch: 2" in (trained / "config.yml").read_text()
        assert "sysu/indoor/10-shot" in (trained / "log.txt").read_text()
        assert list((trained / "tensorboard").iterdir())

    def test_its_config_starts_the_same_run(self, run_main, trained, tmp_path):
        assert run_main("--cfg", trained / "config.yml", "--gpu", "cpu", "output_dir", tmp_path) == 0
        assert (only_run(tmp_path) / RESULTS).read_text() == (trained / RESULTS).read_text()
        assert same_weights(weights(only_run(tmp_path)), weights(trained))

    def test_curves(self, trained):
        events = EventAccumulator(str(trained / "tensorboard"))
        events.Reload()
        assert {"train/loss", "train/id", "train/cmr", "train/lr", "sysu/all/1-shot/r1"} <= set(
            events.Tags()["scalars"]
        )
        found = read_rows(trained / RESULTS)
        rows = [row for row in found if row.protocol == "sysu/all/1-shot" and row.stage != "test"]
        assert [event.step for event in events.Scalars("sysu/all/1-shot/r1")] == [0, 1, 2]
        assert [event.value for event in events.Scalars("sysu/all/1-shot/mAP")] == pytest.approx(
            [row.mAP for row in rows]
        )
        for row in found:
            prefix = f"test/{row.ranking}/{row.protocol}" if row.stage == "test" else row.protocol
            points = {event.step: event.value for event in events.Scalars(f"{prefix}/mINP")}
            assert points[row.epoch] == pytest.approx(row.mINP)

    def test_checkpoints_hold_no_code(self, trained):
        assert set(torch.load(trained / BEST, weights_only=True)) >= {
            "model",
            "optimizer",
            "scheduler",
            "scaler",
            "rng",
        }

    def test_another_seed_gives_another_run(self, run_main, trained, sysu_root, tmp_path):
        arguments = [
            "data_root",
            sysu_root,
            "output_dir",
            tmp_path,
            "num_epoch",
            1,
            "eval_interval",
            0,
            "mser",
            "false",
        ]
        assert run_main(*TINY, "--seed", 9, *arguments) == 0
        assert not same_weights(weights(only_run(tmp_path)), weights(trained))


class TestResume:
    def test_killed_in_the_middle_of_an_epoch(self, trained, sysu_root, tmp_path, waiting):
        command = [sys.executable, "main.py", *TINY, "data_root", str(sysu_root), "output_dir", str(tmp_path)]
        home = Path(main.__file__).parent
        log = open(tmp_path / "out.txt", "w")
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(tmp_path / "out.txt", "waiting\n", process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        folder = only_run(tmp_path)
        assert [row.epoch for row in read_rows(folder / RESULTS) if row.stage == "train"] == [1]
        done = subprocess.run([*command, "resume", str(folder)], cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert only_run(tmp_path) == folder  # it went on in its own folder
        assert same_weights(weights(folder), weights(trained))
        assert (folder / RESULTS).read_bytes() == (trained / RESULTS).read_bytes()

    def test_from_before_the_first_epoch(self, run_main, trained, sysu_root, tmp_path):
        arguments = ["data_root", sysu_root, "output_dir", tmp_path]
        assert run_main(*TINY, *arguments, "num_epoch", 0) == 0
        assert run_main(*TINY, *arguments, "resume", only_run(tmp_path)) == 0
        assert (only_run(tmp_path) / RESULTS).read_bytes() == (trained / RESULTS).read_bytes()

    def test_longer(self, run_main, finished, sysu_root):
        assert run_main(*TINY, "data_root", sysu_root, "resume", finished / LAST, "num_epoch", 3) == 0
        rows = read_rows(finished / RESULTS)
        assert [row.epoch for row in rows if row.stage == "train"] == [1, 2, 3]
        assert "differs from the run that is resumed: num_epoch: 2 -> 3" in (finished / "log.txt").read_text()

    def test_follows_a_changed_learning_rate_and_schedule(self, run_main, finished, sysu_root):
        keys = ["num_epoch", 4, "lr", "1e-4", "lr_step", "[3]", "wd", 0, "eval_interval", 0, "mser", "false"]
        assert run_main(*TINY, "data_root", sysu_root, "resume", finished, *keys) == 0
        log = (finished / "log.txt").read_text()
        assert "epoch 2/2: " in log and re.findall(r"epoch [34]/4: .*lr (\S+),", log) == ["0.0001", "1e-05"]
        (group,) = torch.load(finished / LAST, weights_only=True)["optimizer"]["param_groups"]
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(1e-5), 0)

    def test_other_images_are_noticed(self, run_main, finished, sysu_root, tmp_path, capsys):
        other = Path(shutil.copytree(sysu_root, tmp_path / "other"))
        next(other.glob("cam1/*/*.jpg")).unlink()
        assert run_main(*TINY, "data_root", other, "resume", finished, "mser", "false") == 0
        assert "are not those that" in capsys.readouterr().out

    def test_from_the_best_epoch_says_so(self, run_main, finished, sysu_root, capsys):
        assert run_main(*TINY, "data_root", sysu_root, "resume", finished / BEST, "mser", "false") == 0
        assert "resumes from its best epoch" in capsys.readouterr().out

    def test_finished_run_is_tested_again(self, run_main, finished, sysu_root):
        before = (finished / RESULTS).read_text()
        assert run_main(*TINY, "data_root", sysu_root, "resume", finished) == 0
        assert (finished / RESULTS).read_text() == before

    def test_without_its_best_model_the_last_is_tested(self, run_main, finished, sysu_root):
        """After one more epoch, which is not evaluated, so that the last model is not the best."""
        command = [
            *TINY,
            "data_root",
            sysu_root,
            "resume",
            finished,
            "num_epoch",
            3,
            "eval_interval",
            0,
            "mser",
            "false",
        ]
        assert run_main(*command) == 0
        (finished / BEST).unlink()
        assert run_main(*command) == 0
        assert {(r.epoch, r.selected_on) for r in read_rows(finished / RESULTS) if r.stage == "test"} == {(3, "last")}

    def test_with_select_last_the_last_is_tested(self, run_main, trained, finished, sysu_root):
        keys = ["select", "last", "num_epoch", 3, "eval_interval", 0, "mser", "false"]
        assert run_main(*TINY, "data_root", sysu_root, "resume", finished, *keys) == 0
        assert {(r.epoch, r.selected_on) for r in read_rows(finished / RESULTS) if r.stage == "test"} == {(3, "last")}

    def test_keeps_the_seed_of_the_run(self, run_main, finished, sysu_root, capsys):
        assert run_main(*TINY, "--seed", 3, "data_root", sysu_root, "resume", finished) == 0
        assert "--seed 3 is ignored" in capsys.readouterr().out

    def test_weights_only_start_a_new_run(self, run_main, trained, sysu_root, tmp_path):
        torch.save(weights(trained), tmp_path / "released.pth")
        arguments = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "resume", tmp_path / "released.pth"]
        assert run_main(*TINY, *arguments, "num_epoch", 0) == 0
        folder = only_run(tmp_path / "runs")
        assert same_weights(weights(folder), weights(trained))
        assert {row.epoch for row in read_rows(folder / RESULTS)} == {0}


class TestNothingIsLost:
    def test_killed_between_last_and_best(self, run_main, trained, sysu_root, tmp_path, monkeypatch):
        def killed(folder):
            raise KeyboardInterrupt

        arguments = ["data_root", sysu_root, "output_dir", tmp_path]
        with monkeypatch.context() as patch:
            patch.setattr(saving, "keep_best", killed)
            assert run_main(*TINY, *arguments) == 130
        folder = only_run(tmp_path)
        assert not (folder / BEST).exists() and read_rows(folder / RESULTS)[-1].stage == "initial"
        assert run_main(*TINY, *arguments, "resume", folder) == 0
        assert (folder / RESULTS).read_bytes() == (trained / RESULTS).read_bytes()
        assert same_weights(weights(folder, BEST), weights(trained, BEST))
        assert same_weights(weights(folder), weights(trained))
        assert "resumes after epoch 1, from" in (folder / "log.txt").read_text()

    def test_a_resume_starts_from_a_newer_best_model(self, run_main, trained, sysu_root, tmp_path):
        """best.pth was once written before last.pth, so a kill could come between the two."""
        arguments = ["data_root", sysu_root, "output_dir", tmp_path]
        assert run_main(*TINY, *arguments, "num_epoch", 0) == 0
        folder = only_run(tmp_path)
        before = (folder / LAST).read_bytes()
        assert run_main(*TINY, *arguments, "resume", folder, "num_epoch", 1) == 0
        assert torch.load(folder / BEST, weights_only=True)["progress"]["epoch"] == 1
        (folder / LAST).unlink()
        (folder / LAST).write_bytes(before)
        assert run_main(*TINY, *arguments, "resume", folder) == 0
        assert (folder / RESULTS).read_bytes() == (trained / RESULTS).read_bytes()
        assert same_weights(weights(folder), weights(trained))
        assert "last.pth is missing or older" in (folder / "log.txt").read_text()

    def test_a_run_that_is_alive_is_left_alone(self, run_main, finished, sysu_root, capsys):
        with (finished / ".lock").open("a") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            before = sorted((path.name, path.stat().st_mtime_ns) for path in finished.iterdir())
            assert run_main(*TINY, "data_root", sysu_root, "resume", finished, "num_epoch", 4) == 2
        error = capsys.readouterr().err
        assert "another process is working in this run folder" in error and error.count("\n") == 1
        assert sorted((path.name, path.stat().st_mtime_ns) for path in finished.iterdir()) == before

    def test_final_rows_stay_until_there_are_newer_ones(self, run_main, finished, sysu_root, monkeypatch, capsys):
        def interrupted(*_):
            raise KeyboardInterrupt

        before = (finished / RESULTS).read_bytes()
        monkeypatch.setattr(Evaluator, "__call__", interrupted)
        assert run_main(*TINY, "data_root", sysu_root, "resume", finished) == 130
        assert (finished / RESULTS).read_bytes() == before
        assert capsys.readouterr().err == f"interrupted; resume with: python main.py resume {finished}\n"

    def test_a_test_that_fails_leaves_no_folder(self, run_main, trained, sysu_root, tmp_path, monkeypatch):
        def refused(*_, **__):
            raise UserError("no")

        monkeypatch.setattr(Evaluator, "extract", refused)
        keys = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "resume", trained, "test_only", "true"]
        assert run_main(*TINY, *keys) == 2
        assert not list((tmp_path / "runs").glob("*/*"))

    def test_a_checkpoint_alone_is_resumed_in_a_new_folder_and_says_so(
        self, run_main, trained, sysu_root, tmp_path, capsys
    ):
        shutil.copy(trained / LAST, tmp_path / "alone.pth")
        arguments = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "mser", "false"]
        assert run_main(*TINY, *arguments, "resume", tmp_path / "alone.pth") == 0
        assert "lies in no run folder: the run continues in a new one" in capsys.readouterr().out.replace(
            "\n         ", " "
        )
        assert same_weights(weights(only_run(tmp_path / "runs")), weights(trained))


class TestTestOnly:
    def test_run_folder_tests_its_best(self, run_main, trained, sysu_root, tmp_path):
        before = sorted((path.name, path.stat().st_mtime_ns) for path in trained.iterdir())
        assert (
            run_main(*TINY, "data_root", sysu_root, "output_dir", tmp_path, "resume", trained, "test_only", "True") == 0
        )
        expected = [row for row in read_rows(trained / RESULTS) if row.stage == "test"]
        assert read_rows(only_run(tmp_path) / RESULTS) == expected
        assert sorted((path.name, path.stat().st_mtime_ns) for path in trained.iterdir()) == before

    def test_weights_only_file_of_other_identities(self, run_main, trained, sysu_root, tmp_path):
        state = weights(trained, BEST)
        state["classifier.weight"] = torch.zeros(395, 512)
        torch.save(state, tmp_path / "released.pth")
        arguments = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "mser", "false"]
        assert run_main(*TINY, *arguments, "resume", tmp_path / "released.pth", "test_only", "true") == 0
        rows = read_rows(only_run(tmp_path / "runs") / RESULTS)
        expected = [row for row in read_rows(trained / RESULTS) if row.stage == "test" and row.ranking == "cosine"]
        assert [row[6:] for row in rows] == [row[6:] for row in expected]
        assert {(row.epoch, row.selected_on) for row in rows} == {(None, None)}


class TestSelection:
    def run(self, run_main, root, tmp_path, *keys) -> list:
        assert run_main(*TINY, "data_root", root, "output_dir", tmp_path, "mser", "false", *keys) == 0
        return read_rows(only_run(tmp_path) / RESULTS)

    def test_on_held_out_identities(self, run_main, sysu_root, tmp_path):
        rows = self.run(run_main, sysu_root, tmp_path, "select", "val")
        assert {row.protocol for row in rows if row.stage == "train"} == {"sysu-val/all/1-shot"}
        assert {row.selected_on for row in rows if row.stage == "test"} == {"val"}
        assert weights(only_run(tmp_path))["classifier.weight"].shape[0] == 6  # without the two validation identities

    def test_last(self, run_main, sysu_root, tmp_path):
        rows = self.run(run_main, sysu_root, tmp_path, "select", "last")
        assert {(row.epoch, row.selected_on) for row in rows if row.stage == "test"} == {(2, "last")}
        assert not (only_run(tmp_path) / BEST).exists()

    def test_never_evaluated(self, run_main, sysu_root, tmp_path):
        rows = self.run(run_main, sysu_root, tmp_path, "eval_interval", 0, "eval_initial", "false")
        assert {(row.stage, row.epoch, row.selected_on) for row in rows} == {("test", 2, "last")}

    def test_interval_and_start(self, run_main, sysu_root, tmp_path):
        keys = ["num_epoch", 5, "eval_interval", 2, "start_eval", 3, "eval_initial", "false", "p_size", 8, "k_size", 8]
        rows = self.run(run_main, sysu_root, tmp_path, *keys)
        assert [row.epoch for row in rows if row.stage == "train"] == [4]


REGDB_KEYS = ("dataset", "regdb", "num_epoch", 1, "p_size", 3, "sample_method", "identity_cross_modality")


@pytest.fixture(scope="module")
def regdb_run(tmp_path_factory, regdb_root) -> Path:
    """The folder of a one-epoch run on RegDB's third split."""
    output = tmp_path_factory.mktemp("regdb")
    keys = [*TINY, *map(str, REGDB_KEYS), "trial", "3", "data_root", str(regdb_root), "output_dir", str(output)]
    subprocess.run([sys.executable, "main.py", *keys], check=True, cwd=Path(main.__file__).parent, capture_output=True)
    return only_run(output)


class TestRegDB:
    def test_rows(self, regdb_run):
        rows = read_rows(regdb_run / RESULTS)
        assert {(row.stage, row.protocol, row.ranking) for row in rows} == {
            (stage, protocol, ranking)
            for protocol in ("regdb/i2v", "regdb/v2i")
            for stage, ranking in (("initial", "cosine"), ("train", "cosine"), ("test", "cosine"), ("test", "mser"))
        }
        assert {row.split for row in rows} == {3}

    def test_another_split_is_refused(self, run_main, regdb_run, regdb_root, tmp_path, capsys):
        keys = [
            *TINY,
            *REGDB_KEYS,
            "data_root",
            regdb_root,
            "output_dir",
            tmp_path,
            "resume",
            regdb_run,
            "test_only",
            "true",
        ]
        assert run_main(*keys, "trial", 4) == 2
        assert "trained on regdb, split 3" in capsys.readouterr().err and not list(tmp_path.iterdir())
        assert run_main(*keys, "trial", 4, "allow_split_mismatch", "true", "mser", "false") == 0

    def test_training_is_not_resumed_with_another_split(self, run_main, regdb_run, regdb_root, capsys):
        assert run_main(*TINY, *REGDB_KEYS, "data_root", regdb_root, "resume", regdb_run, "trial", 4) == 2
        assert "cannot go on with regdb, split 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "keys",
    [
        ["sample_method", "none"],
        ["sample_method", "cross_modality_random", "loss_id", "false"],
        ["sample_method", "norm_triplet", "amp_dtype", "bf16"],
        ["cmr_strength", "0.01", "vimc_cc_released", "true", "num_workers", "1"],
        ["loss_cmr", "false", "random_crop", "false", "random_erase", "false", "image_size", "(66, 34)"],
    ],
    ids=lambda keys: " ".join(keys[:2]),
)
def test_other_settings_train(run_main, sysu_root, tmp_path, keys):
    short = ["num_epoch", 1, "eval_interval", 0, "eval_initial", "false", "mser", "false"]
    assert run_main(*TINY, "data_root", sysu_root, "output_dir", tmp_path, *short, *keys) == 0
    assert [row.epoch for row in read_rows(only_run(tmp_path) / RESULTS)] == [1] * len(PROTOCOLS)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(run_main, sysu_root, tmp_path, capsys):
    arguments = ["data_root", sysu_root, "output_dir", tmp_path, "mser", "false", "eval_initial", "false"]
    assert run_main(*TINY, *arguments, "num_epoch", 1) == 0
    folder = only_run(tmp_path)
    good = weights(folder)
    assert run_main(*TINY, *arguments, "resume", folder, "num_epoch", 4, "lr", "1e35") == 2
    error = capsys.readouterr().err
    assert "epoch 2: training diverged" in error and "id " in error and "cmr " in error and str(folder / LAST) in error
    assert error.count("\n") == 1
    assert same_weights(weights(folder), good)


def wait_for(path: Path, text: str, process: subprocess.Popen, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while text not in path.read_text():
        assert process.poll() is None and time.monotonic() < until, path.read_text()
        time.sleep(0.02)

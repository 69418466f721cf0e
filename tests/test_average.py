"""The moving average of weights: its numbers, its way through a stop, and rows that say which weights were tested."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from engine.average import Average
from models.backbones.resnet import RESNETS
from tests.conftest import only_run
from tests.killed_run import SMALL
from tests.test_methods import same
from utils.results import read_rows
from utils.runs import BEST, LAST, LOG, RESULTS

TINY = (
    "model agw backbone resnet18 pretrained none num_epoch 2 image_size (32,32) k_size 4 p_size 6 num_workers 0 cache none "
    "eval_initial false mser false lr 0.01"
).split()


def test_average_by_hand():
    model = nn.BatchNorm1d(1)
    average = Average(model, 0.75)

    def step(engine: Engine, value: float) -> None:
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(2 * value)
            model.num_batches_tracked += 1

    trainer = Engine(step)
    average.attach(trainer)
    trainer.run([2.0, 3.0])  # the weight starts at 1, its mean at 0
    found = average.state_dict()
    assert found.keys() == model.state_dict().keys()
    assert found["weight"].item() == 0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 3
    assert found["running_mean"].item() == 0.75 * (0.25 * 4) + 0.25 * 6
    assert found["num_batches_tracked"].item() == 2
    model.running_mean.fill_(9)
    assert average.model.running_mean.item() != 9


@pytest.fixture
def train(run_main, monkeypatch, regdb_root, tmp_path):
    """train(name, *keys) -> the folder of a run of a small network, of which epoch 1 is always the best."""
    monkeypatch.setattr("models.backbones.resnet.RESNETS", RESNETS | SMALL)
    monkeypatch.setattr("models.RESNETS", RESNETS | SMALL)
    monkeypatch.setattr("engine.run.mean_rank1", lambda rows: 100 - rows[0].epoch)
    common = ["--gpu", "cpu", *TINY, "dataset", "regdb", "data_root", regdb_root]

    def run(name: str, *keys) -> Path:
        assert run_main(*common, "output_dir", tmp_path / name, *keys) == 0
        return only_run(tmp_path / name)

    return run


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def final_rows(folder: Path) -> list:
    return [row for row in read_rows(folder / RESULTS) if row.stage in ("test", "averaged")]


def test_an_average_survives_a_stop_and_is_tested_apart(train):
    whole = train("whole", "ema", "0.5")
    parts = train("parts", "ema", "0.5", "num_epoch", "1")
    first = read(parts / LAST)
    assert train("parts", "ema", "0.5", "resume", parts) == parts
    for file in (LAST, BEST):
        expected, found = read(whole / file), read(parts / file)
        for part in ("model", "ema", "optimizer", "rng"):
            assert same(found[part], expected[part]), part
    assert not same(read(whole / LAST)["ema"], read(whole / LAST)["model"])
    assert final_rows(parts) == final_rows(whole)
    assert [(row.stage, row.epoch) for row in final_rows(whole)] == [("test", 1)] * 2 + [("averaged", 1)] * 2

    again = train("again", "test_only", "true", "resume", whole)
    assert final_rows(again) == final_rows(whole)
    assert "averaged weights (ema):" in (again / LOG).read_text()
    content, path = read(whole / BEST), whole.parent / "average.pth"
    torch.save({**content, "model": content["ema"]}, path)
    rows = final_rows(train("swapped", "test_only", "true", "resume", path))
    assert [row[6:] for row in rows] == [row[6:] for row in final_rows(whole)[2:]] * 2

    plain = train("plain", "num_epoch", "1")
    assert "ema" not in read(plain / LAST) and same(read(plain / LAST)["model"], first["model"])
    assert {row.stage for row in final_rows(plain)} == {"test"}
    train("plain", "ema", "0.5", "resume", plain)
    log = (plain / LOG).read_text()
    assert "ema: 0.0 -> 0.5" in log and "holds no averaged weights (ema): the average starts" in log
    assert {row.stage for row in final_rows(plain)} == {"test"} and "none are tested" in log
    assert same(read(plain / LAST)["model"], read(whole / LAST)["model"])


def test_an_average_of_another_model_is_refused(train, run_main, regdb_root, capfd):
    folder = train("run", "ema", "0.5", "num_epoch", "1")
    content = read(folder / LAST)
    content["ema"]["classifier.weight"] = torch.zeros(2, 3)
    torch.save(content, folder / LAST)
    assert run_main("--gpu", "cpu", "resume", folder, "num_epoch", "2") == 2
    assert "its ema state does not fit" in capfd.readouterr().err

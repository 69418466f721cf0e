"""Weights as safetensors: the same model as the checkpoint, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest
import torch

from engine.checkpoint import open_checkpoint
from engine.checkpoint import tested_stage as stage_of
from engine.embed import open_model
from engine.portable import KEY, read_portable, write_portable
from engine.start import build_start
from tests.conftest import TINY
from utils.errors import UserError
from utils.results import read_rows
from utils.types import Modality

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def portable(trained, tmp_path_factory):
    """model.safetensors of the session's run."""
    path, checkpoint = (
        tmp_path_factory.mktemp("portable") / "model.safetensors",
        open_checkpoint(str(trained), best=True),
    )
    write_portable(path, checkpoint.weights, checkpoint.origin._asdict(), checkpoint.states["progress"])
    return path


def test_it_is_the_same_model(portable, trained):
    own, found = open_model(trained), open_model(portable)
    images = torch.randint(0, 256, (2, 3, *own.size), dtype=torch.uint8)
    assert found.hash == own.hash
    assert torch.equal(found(images, Modality.VISIBLE), own(images, Modality.VISIBLE))
    known = open_checkpoint(str(trained), best=True).states["progress"]["rows"]
    assert found.card["scores"] == [row for row in known if row["epoch"] == found.card["scores"][0]["epoch"]]


def test_it_is_tested_with_the_configuration_of_its_run(portable, trained, run_main, tmp_path):
    assert run_main("test_only", "true", "resume", portable, "output_dir", tmp_path, "--gpu", "cpu") == 0
    (rows,) = tmp_path.rglob("results.jsonl")
    checkpoint = open_checkpoint(str(trained), best=True)
    assert stage_of(open_checkpoint(str(portable), best=True)) == stage_of(checkpoint)
    own = [row._replace(stage="test") for row in read_rows(trained / "results.jsonl") if row.epoch == checkpoint.epoch]
    found = {(row.protocol, row.ranking): row for row in read_rows(rows)}
    assert all(found[row.protocol, row.ranking].mAP == row.mAP for row in own)


def test_a_training_starts_from_its_weights(portable, trained):
    """As from weights alone: with the configuration that is given, from the first epoch."""
    start = build_start(None, [*TINY[4:], "lr", "0.5", "resume", str(portable)], asked_seed=None)
    assert start.resumed is None and start.cfg.lr == 0.5
    own = open_checkpoint(str(trained), best=True).weights
    assert all(torch.equal(value, own[name]) for name, value in start.checkpoint.weights.items())


def test_weights_of_another_program_are_weights_alone(trained, tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.save_file({"x": torch.ones(2)}, path)
    checkpoint = open_checkpoint(str(path), best=True)
    assert checkpoint.origin is None and checkpoint.weights["x"].tolist() == [1, 1]
    with pytest.raises(UserError, match=r"other\.safetensors: holds weights alone"):
        open_model(path)


def altered(portable, **changes) -> bytes:
    """The file with other things in its header's entry, or with other weights."""
    weights, said = read_portable(portable)
    tensors = changes.pop("tensors", {})
    return safetensors.save({**weights, **tensors}, {KEY: changes.pop("text", json.dumps({**said, **changes}))})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path.read_bytes()[:-7], "damaged, or not a"),
        (lambda path: path.read_bytes()[:5], "damaged, or not a"),
        (lambda path: b"", "damaged, or not a"),
        (lambda path: b"words " * 99, "damaged, or not a"),
        (lambda path: path.read_bytes()[:-1] + b"\x01", "damaged: its numbers are not those that were written"),
        (lambda path: safetensors.save({}), "holds no named tensors"),
        (lambda path: altered(path, text="{"), "damaged, or not a"),
        (lambda path: altered(path, text="[]"), "is .*not a dict"),
        (lambda path: altered(path, origin=None), "origin is None"),
        (lambda path: altered(path, progress={"epoch": -1}), "progress.epoch is -1"),
        (lambda path: altered(path, tensors={"bn_neck.weight": torch.full((512,), torch.nan)}), "bn_neck.weight.* holds numbers that are not finite"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_one_line(portable, tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(change(portable))
    for best in (True, False):
        with pytest.raises(UserError, match=message) as caught:
            open_checkpoint(str(path), best=best)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_and_a_missing_package_are_one_line(portable, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be read"):
        open_checkpoint(str(tmp_path / "no.safetensors"), best=True)
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(UserError, match="safetensors, which is missing; pip install"):
        open_checkpoint(str(portable), best=True)

"""Checkpoint files: whole or not at all, and nothing in them is used that no run writes."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from engine import saving
from engine.checkpoint import Origin, load_weights_into, open_checkpoint
from engine.checkpoint import tested_stage as stage_of
from engine.optim import Optimizers, Plan, adam, sgd, steps
from engine.run import Progress
from engine.saving import save_checkpoint
from engine.states import restore
from utils import runs
from utils.errors import UserError
from utils.logging import logger
from utils.runs import hold, hold_resumed
from utils.seeding import RandomStates
from utils.tensors import load_weights
from utils.types import Group, ResultRow

ORIGIN = Origin(
    seed=1, dataset="sysu", trial=None, num_ids=2, selected_on="test", config={"lr": 0.1, "lr_step": (1, 2)}
)
ROW = ResultRow("train", 1, "sysu/all/1-shot", None, None, "cosine", 50.0, 60, 70, 80, 40, 30)._asdict()


def states(epoch: int = 1, best: int = 1, width: int = 300, make=adam) -> dict:
    """A run's parts after so many epochs of one step each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
    optimizer = Optimizers({"all": Group(list(model.parameters()))}, make, 0.1, 0.01, steps(Plan(3, [1])))
    scheduler = optimizer.schedule
    for _ in range(epoch):
        model(torch.rand(4, 2)).square().sum().backward()
        optimizer["main"].step()
        scheduler.step()
    progress = Progress(epoch, best, 50.0 if best else -1.0, [ROW] * epoch)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "progress": progress, "rng": RandomStates()}  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run folder with one checkpoint of one epoch, which is the best."""
    save_checkpoint(tmp_path, ORIGIN, states(), best=True)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(first, second) -> bool:
    """Whether two states are alike, tensors bitwise."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


class TestSaving:
    def test_what_is_saved_is_restored(self, folder):
        checkpoint = open_checkpoint(str(folder), best=False)
        assert checkpoint.origin == ORIGIN and checkpoint.epoch == 1 and stage_of(checkpoint) == ("test", 1, "test")
        before, live = states(), states(0, 0)
        load_weights_into(live["model"], checkpoint, allow_other_head=False)
        restore(live, checkpoint)
        live["optimizer"].follow(0.1, 0.01)
        for name in ("model", "optimizer", "progress", "scaler"):
            assert same(before[name].state_dict(), live[name].state_dict()), name
        assert live["scheduler"].each["main"].last_epoch == 1

    def test_the_best_and_the_last_are_one_file_until_there_is_a_newer_one(self, folder):
        assert (folder / "best.pth").samefile(folder / "last.pth") and names(folder) == ["best.pth", "last.pth"]
        save_checkpoint(folder, ORIGIN, states(2, 1))
        assert [open_checkpoint(str(folder / name), False).epoch for name in names(folder)] == [1, 2]
        save_checkpoint(folder, ORIGIN, states(3, 3), best=True)
        assert (folder / "best.pth").samefile(folder / "last.pth") and names(folder) == ["best.pth", "last.pth"]

    def test_without_hard_links_the_best_is_a_copy(self, tmp_path, monkeypatch):
        def link(*_):
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
        save_checkpoint(tmp_path, ORIGIN, states(), best=True)
        assert (tmp_path / "best.pth").read_bytes() == (tmp_path / "last.pth").read_bytes()
        assert names(tmp_path) == ["best.pth", "last.pth"]

    def test_no_space_leaves_the_previous_checkpoint(self, folder, tmp_path_factory):
        before = (folder / "last.pth").read_bytes()
        empty = tmp_path_factory.mktemp("empty")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # writing further fails, as on a full disk
        try:
            for place in (folder, empty):
                with pytest.raises(UserError, match=r"last.pth could not be written \(File too large\)") as refused:
                    save_checkpoint(place, ORIGIN, states(width=100_000))
                assert ("the previous checkpoint is as it was" in str(refused.value)) == (place is folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (folder / "last.pth").read_bytes() == before
        assert names(folder) == ["best.pth", "last.pth"] and not names(empty)

    def test_an_interrupt_waits_until_both_are_written(self, folder, monkeypatch):
        save, came = torch.save, []

        def interrupted(*arguments):
            signal.raise_signal(signal.SIGINT)
            came.append(True)
            save(*arguments)

        monkeypatch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(folder, ORIGIN, states(2, 2), best=True)
        assert came and names(folder) == ["best.pth", "last.pth"]
        assert [open_checkpoint(str(folder / name), False).epoch for name in names(folder)] == [2, 2]

    def test_a_folder_that_is_gone(self, tmp_path):
        with pytest.raises(UserError, match="last.pth could not be written .No such file or directory.$"):
            save_checkpoint(tmp_path / "gone", ORIGIN, states())


class TestWhichFile:
    @pytest.fixture
    def mixed(self, tmp_path):
        """mixed(last, best): a folder whose files are of these (epoch, selected epoch); None: no such file."""

        def make(last, best, selected_on="test"):
            for name, progress in (("last.pth", last), ("best.pth", best)):
                if progress:
                    save_checkpoint(tmp_path, ORIGIN._replace(selected_on=selected_on), states(*progress))
                    os.replace(tmp_path / "last.pth", tmp_path / f"{name}.new")
            for path in tmp_path.glob("*.new"):
                path.rename(path.with_suffix(""))
            return tmp_path

        return make

    @pytest.mark.parametrize(
        ("last", "best", "resumed", "tested", "selected"),
        [
            ((3, 2), (2, 2), 3, 2, "test"),
            ((1, 1), (2, 2), 2, 2, "test"),  # killed between best and last, as they were written once
            ((2, 2), (1, 1), 2, 2, "test"),  # killed between last and best
            ((2, 2), None, 2, 2, "test"),
            (None, (2, 2), 2, 2, "test"),
            ((3, 2), None, 3, 3, "last"),
            ((3, 2), (1, 1), 3, 3, "last"),
            ((3, 0), None, 3, 3, "last"),
        ],
    )
    def test_resumed_and_tested(self, mixed, caplog, monkeypatch, last, best, resumed, tested, selected):
        monkeypatch.setattr(logger, "propagate", True)
        folder = mixed(last, best)
        assert open_checkpoint(str(folder), best=False).epoch == resumed
        assert ("missing or older" in caplog.text) == (last is None or last[0] < resumed)
        checkpoint = open_checkpoint(str(folder), best=True)
        assert stage_of(checkpoint) == ("test", tested, selected)
        assert ("is not of the selected epoch" in caplog.text) == (bool(last and last[1]) and selected == "last")

    def test_a_run_that_keeps_its_last_tests_it(self, mixed):
        folder = mixed((3, 2), (2, 2), selected_on="last")
        assert open_checkpoint(str(folder), best=True).epoch == 3

    def test_a_damaged_last_one_is_said_with_the_way_out(self, mixed):
        folder = mixed((3, 2), (2, 2))
        flip(folder / "last.pth", 2000)
        with pytest.raises(UserError, match="last.pth: damaged.*resume .*best.pth continues from the best epoch"):
            open_checkpoint(str(folder), best=False)
        flip(folder / "best.pth", 2000)
        with pytest.raises(UserError, match="best.pth: damaged"):
            open_checkpoint(str(folder), best=True)

    def test_no_checkpoint_yet(self, tmp_path):
        with pytest.raises(UserError, match="holds no last.pth; give a run folder"):
            open_checkpoint(str(tmp_path), best=False)
        (tmp_path / "run.json").write_text("{}")
        with pytest.raises(UserError, match="stopped before its first checkpoint; start it again"):
            open_checkpoint(str(tmp_path), best=False)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 64
    path.write_bytes(content)


def test_every_flipped_bit_is_noticed_or_harmless(folder):
    path, whole = folder / "last.pth", (folder / "last.pth").read_bytes()
    expected, refused = torch.load(path, weights_only=True), 0
    for position in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole)
        flip(path, position)
        try:
            open_checkpoint(str(path), best=False)
            assert same(torch.load(path, weights_only=True), expected), position
        except UserError as error:
            assert "damaged" in str(error) or "refused" in str(error)
            refused += 1
    assert refused > 20


def test_a_hole_in_weights_is_noticed(tmp_path):
    torch.save({"w": torch.ones(5000)}, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[8192:12288] = bytes(4096)
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match="w.pth: damaged, or not a checkpoint$"):
        load_weights(tmp_path / "w.pth")


NAN = float("nan")
MUTATIONS = [
    ("origin", None, "origin is None, not a dict"),
    ("origin.config", None, "origin.config is None"),
    ("origin.seed", "8", "origin.seed is '8'"),
    ("origin.seed", -1, "origin.seed is -1"),
    ("origin.seed", 2**70, "origin.seed is a int"),
    ("origin.selected_on", "luck", "origin.selected_on is 'luck'"),
    ("model", None, "model is None"),
    ("model", [1], "model is a list"),
    ("model.0.weight", "text", "model['0.weight'] is 'text', not a dense tensor"),
    ("model.0.weight", torch.ones(300, 2).to_sparse(), "not a dense tensor"),
    ("model.0.weight", torch.empty(300, 2, device="meta"), "not a dense tensor"),
    ("model.0.weight", torch.ones(1).expand(300, 2), "not a dense tensor"),
    ("model.0.weight", torch.full((300, 2), NAN), "model['0.weight'] holds numbers that are not finite"),
    ("model.1.running_var", torch.full((300,), NAN), "model['1.running_var'] holds numbers that are not finite"),
    ("model.0.weight", torch.ones(300, 2, dtype=torch.int64), "0.weight is of torch.int64, not of torch.float32"),
    ("optimizer", None, "optimizer is None"),
    ("optimizer", "text", "optimizer is 'text'"),
    ("optimizer.state.0.exp_avg", torch.zeros(3), "0.weight.exp_avg is [3], not [300, 2]"),
    ("optimizer.state.0.exp_avg", torch.zeros(300, 2, dtype=torch.float64), "0.weight.exp_avg is of torch.float64"),
    ("optimizer.state.1.exp_avg_sq", torch.full((300,), NAN), "0.bias.exp_avg_sq holds numbers that are not finite"),
    ("optimizer.state.1.exp_avg_sq", -torch.ones(300), "0.bias.exp_avg_sq holds negative numbers"),
    ("optimizer.state.1.step", torch.ones(2), "0.bias.step is [2], not []"),
    ("optimizer.state.1", {}, "0.bias.step is missing"),
    ("optimizer.param_groups", [{"params": [0]}], "its optimizer state does not fit"),
    ("scheduler", None, "scheduler is None"),
    ("scheduler.last_epoch", "1", "scheduler.last_epoch is '1'"),
    ("scheduler.last_epoch", 7, "progress.epoch is 1, and scheduler.last_epoch 7"),
    ("scaler.scale", 0.0, "scaler.scale is 0.0"),
    ("progress", None, "progress is None"),
    ("progress", {}, "progress.epoch is missing"),
    ("progress.epoch", "1", "progress.epoch is '1'"),
    ("progress.epoch", -5, "progress.epoch is -5"),
    ("progress.epoch", 1.5, "progress.epoch is 1.5"),
    ("progress.epoch", 10**9, "not a whole number from 0 to 1000000"),
    ("progress.epoch", 5000, "progress.epoch is 5000, and scheduler.last_epoch 1"),
    ("progress.best_epoch", 2, "tells of epoch 2, after the last of 1"),
    ("progress.best_score", "high", "progress.best_score is 'high'"),
    ("progress.rows", "text", "progress.rows is 'text'"),
    ("progress.rows", [1], "progress.rows[0] is 1, not a dict"),
    ("progress.rows", [{}], "progress.rows[0].stage is missing"),
    ("progress.rows", [{**ROW, "r1": NAN}], "progress.rows[0].r1 is nan"),
    ("rng", {}, "rng.python is missing"),
    ("rng.numpy", (torch.zeros(3), 0, 0, 0.0), "rng.numpy[0] is [3], not [624]"),
    ("rng.torch", torch.zeros(10, dtype=torch.uint8), "rng.torch is [10]"),
]


@pytest.mark.parametrize(("where", "value", "said"), MUTATIONS, ids=[f"{m[0]}-{n}" for n, m in enumerate(MUTATIONS)])
def test_what_no_run_writes_is_refused_by_name(folder, where, value, said):
    content = torch.load(folder / "last.pth", weights_only=True)
    place, (first, *rest) = content, (where.split(".", 1) if where.startswith("model.") else where.split("."))
    for key in rest:
        place, first = place[int(first) if first.isdecimal() else first], key
    place[int(first) if first.isdecimal() else first] = value
    torch.save(content, folder / "last.pth")
    live = states(0, 0)
    with pytest.raises(UserError) as refused:
        checkpoint = open_checkpoint(str(folder / "last.pth"), best=False)
        load_weights_into(live["model"], checkpoint, allow_other_head=False)
        restore(live, checkpoint)
    assert said in str(refused.value) and str(refused.value).startswith(f"{folder / 'last.pth'}: ")


def test_a_state_overwrites_no_method_and_no_setting(folder):
    content = torch.load(folder / "last.pth", weights_only=True)
    content["scheduler"].update({"step": 3, "base_lrs": [], "optimizer": None})
    content["optimizer"]["param_groups"][0].update({"amsgrad": True, "betas": (2, 2)})
    torch.save(content, folder / "last.pth")
    live = states(0, 0)
    restore(live, open_checkpoint(str(folder / "last.pth"), best=False))
    assert callable(live["scheduler"].each["main"].step) and live["scheduler"].each["main"].base_lrs == [0.1]
    assert live["optimizer"]["main"].param_groups[0]["betas"] == (0.9, 0.999)
    live["model"](torch.rand(4, 2)).sum().backward()
    live["optimizer"]["main"].step()


def test_parameters_that_no_loss_used_are_said(folder, caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    content = torch.load(folder / "last.pth", weights_only=True)
    del content["optimizer"]["state"][0]
    torch.save(content, folder / "last.pth")
    restore(states(0, 0), open_checkpoint(str(folder / "last.pth"), best=False))
    assert "holds no moments of 0.weight: they start anew" in caplog.text


def test_momentum_is_checked_too(tmp_path):
    save_checkpoint(tmp_path, ORIGIN, states(make=sgd))
    before, live = states(make=sgd), states(0, 0, make=sgd)
    restore(live, open_checkpoint(str(tmp_path), best=False))
    assert same(before["optimizer"].state_dict()["state"], live["optimizer"].state_dict()["state"])
    with pytest.raises(UserError, match="its optimizer state does not fit .0.weight.step is missing"):
        restore(states(0, 0), open_checkpoint(str(tmp_path), best=False))


def test_several_optimisers_and_losses_that_learn(tmp_path):
    def several(epoch):
        live, criterion = states(0, 0), nn.Linear(2, 1)
        groups = {
            "a": Group(list(live["model"].parameters())),
            "b": Group(list(criterion.parameters()), optimizer="other"),
        }
        optimizers = Optimizers(groups, adam, 0.1, 0.01, steps(Plan(3, [1])))
        live |= {"criterion": criterion, "optimizer": optimizers, "scheduler": optimizers.schedule}
        for _ in range(epoch):
            (live["model"](torch.rand(4, 2)).sum() + criterion(torch.rand(4, 2)).sum()).backward()
            optimizers["main"].step()
            optimizers["other"].step()
            optimizers.schedule.step()
        live["progress"].epoch = epoch
        return live

    before, live = several(1), several(0)
    save_checkpoint(tmp_path, ORIGIN, before)
    restore(live, open_checkpoint(str(tmp_path), best=False))
    assert same(before["criterion"].state_dict(), live["criterion"].state_dict())
    for name in ("main", "other"):
        assert same(before["optimizer"][name].state_dict()["state"], live["optimizer"][name].state_dict()["state"])
    with pytest.raises(UserError, match="its optimizer state does not fit .it is of other optimisers"):
        restore(states(0, 0), open_checkpoint(str(tmp_path), best=False))


def test_weights_that_are_not_finite(tmp_path):
    torch.save({"w": torch.tensor([1.0, NAN])}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="w.pth: .*'w'. holds numbers that are not finite"):
        load_weights(tmp_path / "w.pth")
    with pytest.raises(UserError, match="'w'. holds numbers that are not finite"):
        open_checkpoint(str(tmp_path / "w.pth"), best=False)


# --------------------------------------------------------------------------------------------------------- whose folder


@pytest.fixture
def mine(folder):
    """A run folder whose lock is given back at the end."""
    (folder / "run.json").write_text("{}")
    yield folder
    runs.let_go()


def test_a_folder_belongs_to_one_process(mine):
    with (mine / ".lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for path in (mine, mine / "last.pth"):
            with pytest.raises(UserError, match="another process is working in this run folder"):
                hold_resumed(str(path))
    hold_resumed(str(mine))
    hold_resumed(str(mine))  # again, in the same process
    with (mine / ".lock").open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_worker_that_outlives_its_killed_run_keeps_nothing(mine):
    hold(mine)
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        time.sleep(0.2)  # for the child to begin
        runs.let_go()  # as the end of the process does
        with (mine / ".lock").open("a") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_a_killed_save_left_is_swept(mine):
    (mine / ".last.pth.abc123.partial").write_bytes(b"half")
    (mine / ".last.pth.empty1.partial").write_bytes(b"")
    os.link(mine / "last.pth", mine / ".best.pth.link.partial")
    hold_resumed(str(mine))
    assert names(mine) == [".lock", "best.pth", "last.pth", "run.json"]


def test_a_run_folder_without_its_record(folder):
    with pytest.raises(UserError, match="run.json is missing; resume .*last.pth continues in a new run folder"):
        hold_resumed(str(folder))


def test_a_file_system_without_locks(mine, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    hold(mine)


def test_the_best_is_mended_where_a_kill_came_between(folder):
    save_checkpoint(folder, ORIGIN, states(2, 2))
    saving.keep_best(folder)
    saving.keep_best(folder)
    assert (folder / "best.pth").samefile(folder / "last.pth") and names(folder) == ["best.pth", "last.pth"]
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="best.pth could not be written"):
        saving.keep_best(folder)


def test_a_checkpoint_without_its_format_is_not_taken_for_released_weights(finished):
    """Its run would begin anew, from its weights."""
    content = torch.load(finished / "last.pth", weights_only=True)
    del content["format"]
    torch.save(content, finished / "other.pth")
    with pytest.raises(UserError, match="neither a checkpoint of this project nor a file of named weights"):
        open_checkpoint(str(finished / "other.pth"), best=False)


class Evil:
    """What a pickle may ask for: a call of anything."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["a zip archive", "as torch wrote before 1.6"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_network_that_was_pickled_whole_gives_its_weights_and_runs_nothing(zipped, tmp_path, monkeypatch):
    """As IV-REID's released checkpoints are, which name classes that are not here."""
    foreign = ModuleType("its_own_code")
    foreign.Net = type("Net", (nn.Sequential,), {"__module__": "its_own_code"})
    monkeypatch.setitem(sys.modules, "its_own_code", foreign)
    network = foreign.Net(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 2))
    expected, place = network.state_dict(), tmp_path / "whole.pth"
    network.evil = Evil(os.mkdir, (str(tmp_path / "ran"),))
    network[0].register_buffer("table", torch.ones(3), persistent=False)
    torch.save(network, place, _use_new_zipfile_serialization=zipped)
    torch.save(network.evil, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "its_own_code")
    found = open_checkpoint(str(place), best=True)
    assert found.origin is None and found.weights.keys() == expected.keys()
    assert all(torch.equal(found.weights[name], value) for name, value in expected.items())
    with pytest.raises(UserError, match="refused"):
        open_checkpoint(str(tmp_path / "evil.pth"), best=True)
    assert not (tmp_path / "ran").exists()

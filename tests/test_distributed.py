"""Several processes do what one would: shares of a batch, losses, gradients, whole runs, and how they end."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed import TCPStore

import main
from configs import load_config
from data.augmentation import mcja as augmentation
from data.augmentation.mcja import COLOUR_PARTS, Recipe, augment
from data.build import build_benchmark, build_test_loader, build_train_loader
from data.images import workers
from data.samplers import SAMPLERS, Sizes
from engine.distributed import synchronise_norms
from models import build_model
from tests.conftest import TINY, only_run
from tests.two_processes import KEYS, RECIPES, Steps
from utils import device, processes
from utils.errors import UserError
from utils.processes import Member
from utils.results import read_rows
from utils.runs import LAST, LOG, RESULTS
from utils.seeding import RandomStates
from utils.sharding import split_by_identity, split_in_order
from utils.types import Modality, Stage

HOME = Path(main.__file__).parent
CPU = torch.device("cpu")


# --------------------------------------------------------------------------------------------------------------- shares


def test_split_by_hand():
    pids = torch.tensor([7, 2, 7, 5, 2, 9, 9, 5])
    assert split_by_identity(pids, 2).tolist() == [[0, 1, 2, 4], [3, 5, 6, 7]]
    assert split_by_identity(pids, 1).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert pids.tolist() == [7, 2, 7, 5, 2, 9, 9, 5]


@pytest.mark.parametrize("name", ["norm_triplet", "cross_modality_identity", "identity_cross_modality"])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_an_identity_stays_together(name, parts):
    pids, modalities = np.repeat(np.arange(12), 10), np.tile([0, 1], 60)
    batches = SAMPLERS[name](np.random.default_rng(0), pids, modalities, Sizes(p=6, k=4, batch=1))
    assert batches
    for batch in batches:
        there = torch.from_numpy(pids[batch])
        shares = split_by_identity(there, parts)
        assert shares.flatten().sort().values.tolist() == list(range(24))
        owners = [set(there[share].tolist()) for share in shares]
        assert [len(owner) for owner in owners] == [6 // parts] * parts and len(set.union(*owners)) == 6


@pytest.mark.parametrize(("count", "lengths"), [(8, [2, 2, 2, 2]), (6, [1, 2, 1, 2]), (3, [0, 1, 1, 1])])
def test_runs_of_test_images(count, lengths):
    runs = [split_in_order(count, part, 4) for part in range(4)]
    assert [row for run in runs for row in run] == list(range(count))
    assert [len(run) for run in runs] == lengths


@pytest.mark.parametrize("on_cpu", [True, False], ids=["loop", "tensors"])
def test_shares_of_the_augmentation_are_the_whole_batch(monkeypatch, on_cpu):
    monkeypatch.setattr(augmentation, "on_cpu", lambda images: on_cpu)
    images = torch.randint(0, 256, (16, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    modalities = torch.tensor([Modality.VISIBLE, Modality.VISIBLE, Modality.INFRARED, Modality.VISIBLE] * 4)
    recipe = Recipe(frozenset(COLOUR_PARTS), flip=True, crop=True, padding=3, erase=True)

    def augmented(own=None):
        generator = torch.Generator().manual_seed(2)
        return augment(images if own is None else images[own], modalities, recipe, generator, own), generator

    expected, after = augmented()
    together = torch.empty_like(expected)
    for own in split_by_identity(torch.arange(16) % 4, 2):
        together[own], generator = augmented(own)
        assert torch.equal(generator.get_state(), after.get_state())
    assert torch.equal(together, expected) and not torch.equal(expected[0], expected[4])


# ----------------------------------------------------------------------------------- as one of several, in this process


@pytest.fixture
def as_one_of(monkeypatch):
    """as_one_of(rank, world): this process takes itself for that one."""
    return lambda rank, world: monkeypatch.setattr(processes, "_me", Member(rank, world, rank, world))


def configured(sysu_root, *keys: str):
    cfg = load_config("configs/Demo.yml", [*KEYS, "data_root", str(sysu_root), *keys])
    return cfg, build_benchmark(cfg, 0)


def test_a_process_reads_its_share_of_the_images(sysu_root, as_one_of):
    cfg, benchmark = configured(sysu_root)
    alone = list(build_train_loader(cfg, benchmark, 0, CPU))
    for rank in range(2):
        as_one_of(rank, 2)
        own = list(build_train_loader(cfg, benchmark, 0, CPU))
        assert len(own) == len(alone)
        for part, batch in zip(own, alone):
            assert all(torch.equal(*labels) for labels in zip(part[1:5], batch[1:5]))
            assert part.shares.shape == (2, 4) and torch.equal(part.images, batch.images[part.shares[rank]])


def test_test_images_are_shared_out(sysu_root, as_one_of):
    cfg, benchmark = configured(sysu_root, "batch_size", "4")
    rows = []
    for rank in range(3):
        as_one_of(rank, 3)
        loader = build_test_loader(cfg, benchmark, benchmark.test, Modality.INFRARED, CPU)
        rows += [row for batch in loader for row in batch.indices.tolist()]
    assert rows == list(range(len(benchmark.test.infrared)))


@pytest.mark.parametrize(
    ("world", "keys", "said"),
    [
        (3, [], "p_size = 4: 3 processes cannot share out this number of identities evenly; give a multiple of 3"),
        (3, ["sample_method", "none"], "batch_size = 16: 3 processes cannot share out this number of images evenly"),
    ],
)
def test_uneven_shares_are_refused(sysu_root, as_one_of, world, keys, said):
    cfg, benchmark = configured(sysu_root, *keys)
    as_one_of(0, world)
    with pytest.raises(UserError, match=re.escape(said)):
        build_train_loader(cfg, benchmark, 0, CPU)


def test_fewer_test_images_than_processes_are_refused(sysu_root, as_one_of):
    cfg, benchmark = configured(sysu_root)
    as_one_of(0, 100)
    with pytest.raises(UserError, match="16 test images are too few for 100 processes; start fewer"):
        build_test_loader(cfg, benchmark, benchmark.test, Modality.INFRARED, CPU)


def test_every_process_has_its_own_gpu(monkeypatch, as_one_of):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    as_one_of(1, 2)
    assert device.pick_device("0") == torch.device("cuda", 1) and chosen == [1]
    assert device.pick_device("cpu") == CPU
    as_one_of(0, 4)
    with pytest.raises(UserError, match="4 processes were started on a machine with 2 GPUs.*--nproc_per_node=2"):
        device.pick_device("0")


def test_each_gpu_resumes_with_the_random_state_of_the_main_process(monkeypatch, as_one_of):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["main's", "never drawn from", "not here any more"])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.append)
    states = RandomStates()
    states.load_state_dict(states.state_dict())
    as_one_of(1, 2)
    states.load_state_dict(states.state_dict())
    assert restored == [["main's", "never drawn from"], ["main's", "main's"]]


def test_synchronised_norms_keep_names_parameters_and_results(sysu_root, as_one_of):
    cfg, benchmark = configured(sysu_root)
    model, images = build_model(cfg, benchmark.num_ids), torch.rand(4, 3, 32, 32)
    model(images)  # statistics that are not those of the start
    names, parameters = list(model.state_dict()), list(model.parameters())
    expected = model.eval()(images)
    as_one_of(0, 2)
    found = synchronise_norms(model, torch.device("cuda"))
    assert list(found.state_dict()) == names
    assert all(own is given for own, given in zip(found.parameters(), parameters, strict=True))
    norms = {type(module) for module in found.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert norms == {nn.SyncBatchNorm}
    torch.testing.assert_close(found.eval()(images), expected)


def test_cores_are_shared_out(monkeypatch, as_one_of):
    monkeypatch.setattr(workers, "cores", lambda: 12)
    assert (workers.asked_workers(None), workers.asked_workers(3)) == (8, 3)
    as_one_of(0, 4)
    assert (workers.asked_workers(None), workers.asked_workers(5)) == (3, 5)
    as_one_of(0, 32)
    assert workers.asked_workers(None) == 1


# -------------------------------------------------------------------------------------------------------- two processes


@pytest.fixture(scope="module")
def start_two():
    """start_two(module, *arguments): two processes that know of one another as torchrun would tell them."""
    stores = []

    def start(*command) -> list[subprocess.Popen]:
        stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        there = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        there |= {"MASTER_PORT": str(stores[-1].port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        there |= {"SLURM_JOB_ID": "7"}  # as in a shell of salloc, which gives processes no number
        return [
            subprocess.Popen(
                [sys.executable, "-m", *map(str, command)], cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env={**os.environ, **there, "RANK": rank, "LOCAL_RANK": rank},
            )
            for rank in ("0", "1")
        ]  # fmt: skip

    return start


def finish(started: list[subprocess.Popen], seconds: float = 300) -> list[tuple[int, str, str]]:
    """(exit status, stdout, stderr) of each, all of which must end in time."""
    try:
        return [(process.wait(seconds), *process.communicate()) for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def computed(tmp_path_factory, sysu_root, start_two):
    """What `compute` of tests/two_processes.py found, in each of the two processes."""
    folder = tmp_path_factory.mktemp("together")
    for status, _, error in finish(start_two("tests.two_processes", folder, sysu_root)):
        assert status == 0, error
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", RECIPES)
def test_losses_and_gradients_are_those_of_one_process(computed, monkeypatch, sysu_root, name):
    monkeypatch.chdir(HOME)
    expected = Steps(str(sysu_root), name).run()
    assert len(expected) >= 2
    for rank in range(2):
        steps = computed[rank][name]
        assert len(steps) == len(expected)
        for step, alone in zip(steps, expected):
            assert torch.equal(step["images"], alone["images"][step["own"]])
            torch.testing.assert_close(step["output"], alone["output"], rtol=1e-10, atol=1e-10)
            unused = {name for name, gradient in alone["gradients"].items() if gradient is None}
            expected_unused = {
                "cmr": {"classifier.weight"},
                "agw": {n for n in unused if n.startswith("backbone.stems.")},
            }
            assert unused == expected_unused.get(name, set())
            for parameter, gradient in alone["gradients"].items():
                own = step["gradients"][parameter]
                if gradient is None:
                    assert own is None
                else:  # a softmax follows sc_conv's bias, whose gradient is 0 but for rounding
                    assert (own - gradient).abs().max() <= 1e-10 * gradient.abs().max() + 1e-15, parameter
                    assert gradient.abs().max() > 1e-9 or parameter.endswith("sc_conv.bias")


def test_a_process_may_have_images_of_one_modality(computed):
    """The recipe "agw" is compared in a step in which one process uses one entrance of the network, the other both."""
    seen = [[len(step["modalities"].unique()) for step in found["agw"]] for found in computed]
    assert {1, 2} in [set(step) for step in zip(*seen)]


@pytest.mark.parametrize("name", ["answers", "answers one by one"])
def test_answers_of_several_for_a_view_come_in_the_order_of_one_process(computed, name):
    for rank, places in enumerate([[0, 2, 4, 5], [1, 3]]):
        output, gradient = computed[rank][name]
        expected = torch.tensor([[10.0 * view + turn] for turn in range(2) for view in range(6)])
        for found in (output.embeddings, output.logits, output.pooled, output.extra["twice"] / 2):
            assert torch.equal(found, expected)
        assert output.rows.tolist() == 2 * list(range(6))
        weights = torch.tensor([[float(6 * turn + place)] for turn in range(2) for place in places])
        order = torch.arange(2 * len(places))
        if name != "answers":
            order = order.view(2, -1).T.flatten()
        assert torch.equal(gradient, weights[order])


def test_processes_have_the_same_gradients(computed):
    for step, other in zip(computed[0]["both"], computed[1]["both"]):
        assert all(torch.equal(step["gradients"][name], other["gradients"][name]) for name in step["gradients"])
        assert sorted([*step["own"].tolist(), *other["own"].tolist()]) == list(range(8))


def test_overflows_leave_steps_out_in_all_processes(computed):
    assert [found["overflow"] for found in computed] == [(2.0**125, True)] * 2  # halved after each of two steps


def test_gathered_rows_and_their_gradient(computed):
    whole = torch.arange(8.0).view(4, 2)
    for rank, found in enumerate(computed):
        rows, gradient = found["gather"]
        assert torch.equal(rows, whole)
        assert torch.equal(gradient, 3 * whole[2 * rank : 2 * rank + 2] ** 2)


def test_features_of_uneven_shares_keep_their_order(computed):
    rows = torch.arange(5)
    for found in computed:
        embeddings, pids, cameras = found["features"]
        assert torch.equal(embeddings[:, :, 0], torch.stack([rows, 10 + rows]).float())
        assert torch.equal(pids, rows) and torch.equal(cameras, -rows)


def test_statistics_are_averaged_and_weights_sent(computed):
    for found in computed:
        mean, weight, averaged = found["statistics"]
        assert mean.tolist() == [2, 2] and weight.tolist() == [5, 5]
        assert averaged.tolist() == [1, 1]  # half of the start's 0, half of the mean


def test_the_main_process_works_for_all(computed):
    assert [found["main"] for found in computed] == [{"rank": 0}] * 2
    assert [found["stage"] for found in computed] == [Stage("test", 0)] * 2
    assert computed[0]["path"] == computed[1]["path"] and computed[1]["path"].name == "0"


class Runs:
    """What a stranger would send: a pickle that makes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_processes_are_sent_is_not_run(monkeypatch, tmp_path):
    sent = pickle.dumps(Runs(tmp_path / "ran"))
    monkeypatch.setattr(processes, "_me", Member(1, 2, 1, 2, SimpleNamespace(get=lambda key: sent)))
    with pytest.raises(ValueError):
        processes.on_main(lambda: None)
    assert not (tmp_path / "ran").exists()


# -------------------------------------------------------------------------------------------------------------- endings


def test_news_that_both_have_are_told_once(start_two):
    (code, out, error), (other_code, other_out, other_error) = finish(start_two("tests.failing_processes", "same"))
    told = error + other_error
    assert told.count("error: the configuration is wrong\n") == 1 and "Traceback" not in told
    assert (out + told).count("both say this") == 1 and "both say this" in out
    assert "this says 0" in out and "process 1: error: this says 1" in other_error
    assert "progress" in out and "progress" not in other_out + other_error
    assert sorted([code, other_code]) == [1, 2]


@pytest.mark.parametrize(
    ("name", "codes", "said"),
    [
        ("fail", (1, 2), "error: there is no more disk\n"),
        ("crash", (1, None), "IndexError: list index out of range\n"),
        ("die", (2, -signal.SIGKILL), f"error: {processes.LOST}\n"),
        ("silent", (None, 2), f"error: {processes.LOST}\n"),
    ],
)
def test_trouble_in_one_process_ends_both_with_one_message(start_two, name, codes, said):
    started = start_two("tests.failing_processes", name)
    if None in codes:  # this one waits for the other, and ends because torchrun ends it
        survivor = started.pop(codes.index(None))
    found = finish(started)
    if None in codes:
        survivor.kill()
        found.insert(codes.index(None), (None, *survivor.communicate()))
    told = "".join(error for _, _, error in found)
    assert tuple(code for code, _, _ in found) == codes
    assert told.count(said) == 1 and told.count("error: ") + told.count("Traceback") == 1


# ----------------------------------------------------------------------------------------------------------- whole runs


def torchrun(*arguments) -> None:
    """main.py in two processes, on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "main.py", *TINY]
    done = subprocess.run([*command, *map(str, arguments)], cwd=HOME, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_run_with_two_processes_is_resumed_with_one_and_with_two_again(run_main, sysu_root, tmp_path):
    quick = ["data_root", sysu_root, "mser", "false", "eval_initial", "false", "ema", "0.5"]
    torchrun(*quick, "output_dir", tmp_path, "num_epoch", 1)
    folder = only_run(tmp_path)
    assert json.loads((folder / "run.json").read_text())["processes"] == 2
    # A process of its own: this one would keep the run folder for itself.
    alone = [sys.executable, "main.py", *TINY, *quick, "resume", folder, "num_epoch", 2]
    subprocess.run(list(map(str, alone)), cwd=HOME, capture_output=True, check=True, timeout=300)
    torchrun(*quick, "resume", folder, "num_epoch", 3)
    assert only_run(tmp_path) == folder
    rows, log = read_rows(folder / RESULTS), (folder / LOG).read_text()
    assert [row.epoch for row in rows if row.stage == "train"] == [1, 2, 3]
    assert log.count("float32, 2 processes, cpu") == 2 and log.count("batch norm is synchronised on GPUs only") == 2
    assert all(log.count(f"epoch {epoch}/{epoch}: loss") == 1 for epoch in (1, 2, 3))
    saved = torch.load(folder / LAST, weights_only=True)
    assert not any(name.startswith("module.") for name in saved["model"])
    # What two processes found of the selected model, one finds too.
    assert run_main(*TINY, *quick, "resume", folder, "output_dir", tmp_path / "test", "test_only", "true") == 0
    assert {row.stage for row in rows} == {"train", "test", "averaged"}
    assert read_rows(only_run(tmp_path / "test") / RESULTS) == [row for row in rows if row.stage != "train"]

"""Which device is meant, what a Mac's GPU leaves to the CPU, and constants that are copied once."""

import pytest
import torch

from losses import soft_rank
from utils import device, processes
from utils.device import constant, parse_device, pick_device, with_float64
from utils.errors import UserError
from utils.processes import Member

CPU, MAC = torch.device("cpu"), torch.device("mps")


@pytest.fixture
def on_a_mac(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_a_mac_s_gpu_is_asked_for_by_name(on_a_mac):
    assert pick_device("mps") == pick_device("mps", "--gpu") == parse_device("mps") == MAC


def test_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for argument in ("--gpu", "--device"):
        with pytest.raises(UserError, match=f"{argument} mps: torch finds no GPU of a Mac here; give cpu"):
            pick_device("mps", argument)


def test_every_name_of_a_device_is_known_without_one():
    named = {name: str(parse_device(name)) for name in ("cpu", "cuda", "cuda:3", "3")}
    assert named == {"cpu": "cpu", "cuda": "cuda:0", "cuda:3": "cuda:3", "3": "cuda:3"}
    for name in ("", "tpu", "-1", "cuda:", "cuda:x", "0,1", "cpu0"):
        with pytest.raises(UserError, match="--device .*: give cpu, cuda, cuda:N or mps$"):
            parse_device(name)
    with pytest.raises(UserError, match="--gpu 0,1: .* torchrun --nproc_per_node=N main.py"):
        parse_device("0,1", "--gpu")


def test_only_a_number_alone_falls_back_to_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("0") == pick_device(None) == CPU and "no GPU is available" in caplog.text
    with pytest.raises(UserError, match="--device cuda:1: there are no GPUs"):
        pick_device("cuda:1")


def test_it_serves_one_process(on_a_mac, monkeypatch):
    monkeypatch.setattr(processes, "_me", Member(0, 2, 0, 2))
    with pytest.raises(UserError, match="--device mps: a Mac's GPU serves one process"):
        pick_device("mps")


def test_float64_is_computed_elsewhere_for_a_mac_only():
    gpu = torch.device("cuda", 1)
    assert [with_float64(place) for place in (CPU, gpu, MAC)] == [CPU, gpu, CPU]


def test_soft_ranks_come_back_to_where_they_were_asked_for(monkeypatch):
    """No Mac is needed: the place for float64 is pretended to be another one, which holds no numbers."""
    monkeypatch.setattr(soft_rank, "with_float64", lambda place: torch.device("meta"))
    with pytest.raises(NotImplementedError, match="meta"):  # from there to the CPU
        soft_rank.isotonic_blocks(torch.rand(2, 3))


def test_constants_are_made_once_and_can_be_used_in_training():
    with torch.inference_mode():
        first = constant((1.0, 2.0), CPU)
    assert constant((1.0, 2.0), CPU) is first and device.constant((1.0, 3.0), CPU).tolist() == [1, 3]
    weight = torch.ones(2, requires_grad=True)
    (weight * first).sum().backward()
    assert weight.grad.tolist() == [1, 2]


def test_freed_memory_is_kept_on_a_cpu_only(monkeypatch, on_a_mac):
    kept = []
    monkeypatch.setattr(device, "keep_freed_memory", lambda: kept.append(True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    pick_device("0"), pick_device("mps")
    assert not kept
    pick_device("cpu")
    assert kept
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pick_device("0")
    assert len(kept) == 2

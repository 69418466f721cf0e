"""Which device is meant, what a Mac's GPU leaves to the CPU, and constants that are copied once."""

import pytest
import torch

from losses import soft_rank
from utils import device, processes
from utils.device import constant, named_device, pick_device, with_float64
from utils.errors import UserError
from utils.processes import Member

CPU, MAC = torch.device("cpu"), torch.device("mps")


@pytest.fixture
def on_a_mac(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_a_mac_s_gpu_is_asked_for_by_name(on_a_mac):
    assert pick_device("mps") == named_device("mps") == MAC


def test_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for pick, argument in ((pick_device, "--gpu"), (named_device, "--device")):
        with pytest.raises(UserError, match=f"{argument} mps: torch finds no GPU of a Mac here; give cpu"):
            pick("mps")


def test_it_serves_one_process(on_a_mac, monkeypatch):
    monkeypatch.setattr(processes, "_me", Member(0, 2, 0, 2))
    with pytest.raises(UserError, match="--gpu mps: a Mac's GPU serves one process"):
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

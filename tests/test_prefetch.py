"""Batches ahead of time: the loader itself on a CPU; on a GPU the same batches, each copied before the last is used."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.utils.data import DataLoader

from data.images.decode import ImageDataset, as_it_is
from data.images.loader import Prefetcher, side_stream
from data.images.store import HeldPixels
from utils.types import Batch, Modality, Record

ROWS = [[3, 0], [1, 1, 4], [2]]


def loader(pin: bool = False) -> DataLoader:
    images = torch.randint(0, 256, (5, 3, 4, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    records = [Record(f"{row}.png", row, 1, Modality.VISIBLE) for row in range(5)]
    return DataLoader(
        ImageDataset(records, HeldPixels(images)), batch_sampler=ROWS, collate_fn=as_it_is, pin_memory=pin
    )


def test_on_a_cpu_it_is_the_loader():
    batches = Prefetcher(loader(), torch.device("cpu"))
    assert len(batches) == 3 and batches.batch_sampler is ROWS
    for _ in range(2):
        assert [batch.indices.tolist() for batch in batches] == ROWS


class Images:
    """Stands for a tensor; writes down what is done with it."""

    def __init__(self, name: int, log: list[str]):
        self.name, self.log = name, log

    def to(self, device, non_blocking=False):
        assert non_blocking
        self.log.append(f"copy {self.name}")
        return self

    def record_stream(self, stream):
        self.log.append(f"{self.name} used on {stream}")


class Stream:
    def __init__(self, log: list[str]):
        self.log, self.events = log, 0

    def record_event(self) -> str:
        self.events += 1
        return f"event {self.events - 1}"

    def wait_event(self, event: str) -> None:
        self.log.append(f"wait for {event}")

    def __str__(self) -> str:
        return "current"


@pytest.fixture
def streams(monkeypatch):
    """(what is done on pretended streams, those that were made)."""
    log, made = [], []

    @contextmanager
    def within(stream):
        log.append("{")
        yield
        log.append("}")

    def make(device):
        made.append(Stream(log))
        return made[-1]

    monkeypatch.setattr(torch.cuda, "Stream", make)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(log))
    side_stream.cache_clear()
    yield log, made
    side_stream.cache_clear()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_batch_is_on_its_way_before_the_one_before_is_used(streams, count):
    log, _ = streams
    batches = [Batch(Images(number, log), *[None] * 4) for number in range(count)]
    for batch in Prefetcher(batches, torch.device("cuda", 0)):
        log.append(f"train on {batch.images.name}")
    arrived = [[f"wait for event {number}", f"{number} used on current", f"train on {number}"] for number in range(3)]
    copied = [["{", f"copy {number}", "}"] for number in range(3)]
    expected = {
        0: [],
        1: [*copied[0], *arrived[0]],
        3: [*copied[0], *copied[1], *arrived[0], *copied[2], *arrived[1], *arrived[2]],
    }
    assert log == expected[count]


def test_all_passes_over_all_loaders_copy_on_one_stream(streams):
    """Memory that was freed on one stream serves no other: a new stream for each pass would strand it."""
    log, made = streams
    batches = [Batch(Images(number, log), *[None] * 4) for number in range(2)]
    for _ in range(3):
        for loader in (Prefetcher(batches, torch.device("cuda", 0)), Prefetcher(batches, torch.device("cuda", 0))):
            assert len(list(loader)) == 2
    assert len(made) == 1
    list(Prefetcher(batches, torch.device("cuda", 1)))
    assert len(made) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_images_are_there_and_the_same():
    device = torch.device("cuda", 0)
    for found, expected in zip(Prefetcher(loader(pin=True), device), loader(), strict=True):
        assert found.images.device == device and found.modalities.device.type == "cpu"
        assert torch.equal(found.images.cpu(), expected.images) and torch.equal(found.pids, expected.pids)

"""Loader processes: no more than there is room for, and none that is waited for without end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time

import pytest
import torch

from configs import load_config
from data.build import build_test_loader, build_train_loader
from data.images import workers
from data.images.workers import AHEAD, IN_USE, LABELS, PatientLoader, workers_with_room
from data.sets import sysu
from utils.errors import UserError
from utils.types import Modality

BATCH = 2**20
CPU = torch.device("cpu")


@pytest.fixture
def room(tmp_path, monkeypatch):
    """room(bytes): so many are free in shared memory."""
    monkeypatch.setattr(workers, "_said", set())
    usage = shutil.disk_usage(tmp_path)

    def free(size: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size))

    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
    return free


def needed(count: int) -> int:
    return (AHEAD * count + IN_USE) * (BATCH + LABELS)


@pytest.mark.parametrize(("wanted", "size", "expected"), [
    (4, needed(4), 4), (4, needed(4) - 1, 3), (4, needed(1), 1), (4, needed(1) - 1, 0), (4, 0, 0), (0, 0, 0),
])  # fmt: skip
def test_no_more_workers_than_shared_memory_holds_batches_of(room, caplog, wanted, size, expected):
    room(size)
    assert workers_with_room(wanted, BATCH) == expected
    assert workers_with_room(wanted, BATCH) == expected
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == (expected < wanted)
    assert all(f"num_workers = {wanted}: " in line and f"{expected} are used" in line for line in lines)


def test_where_there_is_no_such_file_system_nothing_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path / "none")
    assert workers_with_room(9, 2**60) == 9


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_loaders_without_room_use_no_workers(room, sysu_root, tmp_path, cache):
    benchmark = sysu.load(str(sysu_root))
    keys = ["image_size", "(48, 32)", "num_workers", "2", "p_size", "3", "k_size", "2", "batch_size", "6"]
    cfg = load_config(None, [*keys, "cache", cache, "cache_dir", str(tmp_path / "cache")])
    room(64 * 2**10)
    for loader in (
        build_train_loader(cfg, benchmark, 1, CPU),
        build_test_loader(cfg, benchmark, benchmark.test, Modality.VISIBLE, CPU),
    ):
        assert loader.loader.num_workers == 0 and len(list(loader)) > 0
    room(2**30)
    assert build_train_loader(cfg, benchmark, 1, CPU).loader.num_workers == 2
    train, test = 6 * 3 * 48 * 32, 12 * 3 * 48 * 32
    room((2 * AHEAD + IN_USE) * (train + LABELS))
    assert build_train_loader(cfg, benchmark, 1, CPU).loader.num_workers == 2
    assert build_test_loader(cfg, benchmark, benchmark.test, Modality.VISIBLE, CPU).loader.num_workers < 2
    room((2 * AHEAD + IN_USE) * (test + LABELS))
    loader = build_test_loader(cfg, benchmark, benchmark.test, Modality.VISIBLE, CPU)
    assert loader.loader.num_workers == 2 and loader.of([0, 1]).loader.timeout == workers.PATIENCE


class Stuck(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> int:
        time.sleep(60 * row)
        return row


def test_a_batch_that_does_not_come_is_one_line(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 1)
    loader = iter(PatientLoader(Stuck(), num_workers=1))
    assert next(loader).item() == 0
    try:  # not pytest.raises: it keeps the traceback, and with it the loader's process
        next(loader)
        pytest.fail("nothing raised")
    except UserError as error:
        assert "gave no batch within 1 seconds" in str(error) and "try num_workers 0" in str(error)


def test_an_interrupt_while_workers_start_is_obeyed():
    """It comes in a function that Python calls at every fork, whose exceptions it drops."""
    waiting = [signal.SIGINT]
    os.register_at_fork(before=lambda: waiting and signal.raise_signal(waiting.pop()))
    try:
        list(PatientLoader([1, 2], num_workers=1))
        pytest.fail("nothing raised")
    except KeyboardInterrupt:
        assert not waiting


def test_without_workers_there_is_no_limit():
    assert PatientLoader([1, 2]).timeout == 0 and len(list(PatientLoader([1, 2]))) == 2

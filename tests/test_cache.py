"""Decoded images on disk and in memory: the same pixels, rebuilt when they must be, and never in the way of a run."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import main
from configs import load_config
from data.build import build_cache_path, build_image_files, build_test_loader, build_train_loader, parts
from data.images import cache as cache_module
from data.images import pixel_file
from data.images import store as pixels
from data.images.cache import NoCache, cached
from data.images.decode import ImageFiles, load_image
from data.images.pixel_file import HEADER, MappedPixels, Unfit, header_of
from data.images.store import HeldPixels, find_home, open_pixels
from data.sets import regdb, sysu
from tests.conftest import TINY, only_run
from utils import locks
from utils.errors import UserError
from utils.resources import free_memory
from utils.runs import LAST, LOG, RESULTS
from utils.types import Modality

CPU = torch.device("cpu")
SIZE = (12, 8)
COUNT = 2 * cache_module.CHUNK + 5


@pytest.fixture
def images(tmp_path) -> ImageFiles:
    """Two whole chunks of images and a rest, of several shapes."""
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        shape = (10 + number % 3, 9, 3) if number % 4 else (10, 9)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{number:03d}.png")
    return ImageFiles(sorted(map(str, folder.iterdir())), SIZE)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache" / "some-train-12x8.pixels"


def everything(source) -> torch.Tensor:
    return source[torch.arange(len(source))]


def decoded(images: ImageFiles) -> torch.Tensor:
    return torch.stack([load_image(path, images.size) for path in images.paths])


def held(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


# ------------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("workers", [0, 2])
def test_the_pixels_are_those_of_the_images(images, path, workers):
    stored, fault = cached(path, images, workers)
    assert fault == f"{path}: not there yet" and held(path) == [path.name]
    assert torch.equal(everything(stored), decoded(images)) and len(stored) == COUNT
    rows = torch.tensor([7, 0, 7, COUNT - 1])
    assert torch.equal(stored[rows], images[rows]) and stored[rows].is_contiguous()
    assert path.stat().st_size == HEADER + COUNT * 3 * 12 * 8


def test_a_batch_may_be_written_to(images, path):
    stored, _ = cached(path, images, 0)
    stored[torch.tensor([3])].zero_()
    assert torch.equal(everything(stored), decoded(images))


def test_decoded_and_stored_batches_lie_the_same_way_in_memory(images, path):
    """Else convolutions could take another way, and round differently."""
    stored, _ = cached(path, images, 0)
    rows = torch.arange(5)
    assert images[rows].stride() == stored[rows].stride()


def test_a_second_run_decodes_nothing(images, path, monkeypatch):
    cached(path, images, 0)
    monkeypatch.setattr(cache_module, "read_all", None)
    stored, fault = cached(path, images, 0)
    assert fault is None and len(stored) == COUNT


def test_the_global_random_state_is_left(images, path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    cached(path, images, 1)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------------------------------------------- why it is rebuilt


def cut(path: Path, images: ImageFiles) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path, images: ImageFiles) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(path: Path, images: ImageFiles) -> None:
    path.write_bytes(b"")


def foreign(path: Path, images: ImageFiles) -> None:
    path.write_bytes(b"\x89PNG something else" * 999)


def deep(path: Path, images: ImageFiles) -> None:
    path.write_bytes(b"[" * 9999)


def a_list(path: Path, images: ImageFiles) -> None:
    path.write_bytes(b"[1, 2]".ljust(9999))


def header_changed(**entries):
    def change(path: Path, images: ImageFiles) -> None:
        header = json.loads(path.read_bytes()[:HEADER]) | entries
        path.write_bytes(json.dumps(header).encode().ljust(HEADER) + path.read_bytes()[HEADER:])

    return change


def touched(path: Path, images: ImageFiles) -> None:
    os.utime(images.paths[3], ns=(1, 1))


def replaced(path: Path, images: ImageFiles) -> None:
    """Another image under the old name and with the old time of change."""
    before = os.stat(images.paths[3])
    Image.new("RGB", (9, 11), "red").save(images.paths[3])
    os.utime(images.paths[3], ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(path: Path, images: ImageFiles) -> None:
    images.paths[0], images.paths[1] = images.paths[1], images.paths[0]


def fewer(path: Path, images: ImageFiles) -> None:
    images.paths.pop()


def flipped(path: Path, images: ImageFiles) -> None:
    """One bit of the last pixel."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def blackened(path: Path, images: ImageFiles) -> None:
    path.write_bytes(path.read_bytes()[:HEADER] + bytes(path.stat().st_size - HEADER))


DAMAGED = "damaged: its pixels do not have the checksum that they were written with"
OTHERS = "made from other images, or they changed since"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut, "has 23967 bytes instead of 23968"),
        (lengthen, "has 23969 bytes instead of 23968"),
        (empty, "not a cache of images, or damaged"),
        (foreign, "not a cache of images, or damaged"),
        (deep, "not a cache of images, or damaged"),
        (a_list, "not a cache of images, or damaged"),
        (header_changed(format="decoded images 0"), "not a cache of images, or of another version"),
        (header_changed(decoder="Pillow 1.0"), "decoded by another version of Pillow"),
        (header_changed(shape=[COUNT, 3, 8, 12]), "holds another number of images"),
        (fewer, "holds another number of images"),
        (flipped, DAMAGED),
        (blackened, DAMAGED),
        (header_changed(checksum=7), DAMAGED),
        (header_changed(checksum=None), DAMAGED),
        (touched, OTHERS),
        (replaced, OTHERS),
        (swapped, OTHERS),
    ],
)
def test_one_line_says_why_it_is_rebuilt(images, path, caplog, change, said):
    cached(path, images, 0)
    change(path, images)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        stored, fault = cached(path, images, 0)
    assert fault == f"{path}: {said}"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: {said}; decoding {len(images)} images")
    assert torch.equal(everything(stored), decoded(images)) and held(path) == [path.name]
    assert cached(path, images, 0)[1] is None


def test_the_checksum_does_not_depend_on_how_the_bytes_come(tmp_path, monkeypatch):
    """Written batch by batch, read block by block; only whole and equal content has the same one."""
    monkeypatch.setattr(pixel_file, "BLOCK", 1000)
    content = np.random.default_rng(0).integers(0, 256, 7300, np.uint8).tobytes()
    path = tmp_path / "file"
    path.write_bytes(bytes(HEADER) + content)
    with path.open("rb") as file:
        read = pixel_file.checksum_of(file)
    for step in (1, 999, 1000, 1001, 7300):
        written = pixel_file.Checksum()
        for start in range(0, len(content), step):
            written.update(memoryview(content)[start : start + step])
        assert written.value() == read
    written.update(memoryview(b"x"))
    assert written.value() != read


def test_of_several_processes_one_reads_everything(images, path, monkeypatch):
    cached(path, images, 0)
    monkeypatch.setattr(pixel_file, "checksum_of", lambda _: pytest.fail("read again"))
    assert len(cached(path, images, 0, check=False)[0]) == COUNT
    assert len(pickle.loads(pickle.dumps(MappedPixels(path, header_of(images))))) == COUNT


def test_another_data_set_of_the_same_names_is_another(images, path, tmp_path):
    cached(path, images, 0)
    shutil.copytree(tmp_path / "images", tmp_path / "copy")  # names, sizes and times of change are kept
    elsewhere = ImageFiles([name.replace("/images/", "/copy/") for name in images.paths], SIZE)
    assert cached(path, elsewhere, 0)[1] == f"{path}: {OTHERS}"


def test_a_file_that_was_replaced_is_not_mapped_for_other_images(images, path):
    """A loader whose workers are spawned opens the file again, perhaps after another run has replaced it."""
    stored, _ = cached(path, images, 0)
    sent = pickle.dumps(stored)
    kept = everything(stored)
    cached(path, ImageFiles(images.paths[::-1], SIZE), 0)
    with pytest.raises(Unfit, match=OTHERS):
        pickle.loads(sent)
    assert torch.equal(everything(stored), kept)  # this process still sees the old file


# -------------------------------------------------------------------------------------------------------- what may fail


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_left(images, path):
    Path(images.paths[40]).write_bytes(b"not an image")
    for workers in (0, 1):
        try:  # not pytest.raises: it keeps the traceback, and with it the loader's process
            cached(path, images, workers)
            pytest.fail("nothing raised")
        except UserError as error:
            assert not isinstance(error, NoCache)
            assert str(error).startswith(f"{images.paths[40]}: not a readable image") and "\n" not in str(error)
        assert held(path) == []


def test_a_missing_image_is_named(images, path):
    os.unlink(images.paths[40])
    with pytest.raises(UserError, match="040.png: cannot be read .No such file or directory.; the data set is not"):
        cached(path, images, 0)
    assert not path.parent.exists()


def test_an_interrupted_build_leaves_the_old_file(images, path, monkeypatch):
    cached(path, images, 0)
    before = path.read_bytes()
    os.utime(images.paths[0], ns=(1, 1))

    def interrupted(*_):
        yield torch.zeros(3, 3, *SIZE, dtype=torch.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "read_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(path, images, 0)
    assert held(path) == [path.name] and path.read_bytes() == before


def test_too_little_room_is_said_before_anything_is_decoded(images, path, monkeypatch):
    usage = shutil.disk_usage(path.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(cache_module, "read_all", None)
    with pytest.raises(NoCache, match=r"12x8.pixels: 0.00 GB are needed, 0.00 GB are free"):
        cached(path, images, 0)


def test_a_disk_that_fills_up_while_writing(images, path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(NoCache, match=r"could not be written \(.*No space left on device"):
        cached(path, images, 0)
    assert held(path) == []


def test_a_folder_that_cannot_be_one(images, path, monkeypatch):
    path.parent.write_text("a file")
    with pytest.raises(NoCache, match="cannot be the folder of a cache .File exists."):
        cached(path, images, 0)
    path.parent.unlink()
    path.parent.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write everywhere
    with pytest.raises(NoCache, match="not writable"):
        cached(path, images, 0)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_in_the_place_of_the_file(images, path, make):
    path.parent.mkdir()
    make(path)
    with pytest.raises(NoCache, match="could not be written"):
        cached(path, images, 0)
    assert held(path) == [path.name]


# ---------------------------------------------------------------------------------------------------- several processes

WRITE_AND_HANG = """
import sys, time, torch
from pathlib import Path
from data.images.cache import write_cache

def batches():
    yield torch.zeros(40, 3, 12, 8, dtype=torch.uint8)
    yield torch.zeros(4000, 3, 12, 8, dtype=torch.uint8)  # more than stays in a buffer
    print("writing", flush=True)
    time.sleep(60)

write_cache(Path(sys.argv[1]), {"shape": [0]}, batches())
"""


def partials(path: Path) -> list[Path]:
    return list(path.parent.glob(".*.partial"))


def test_what_a_killed_build_left_is_swept_and_a_living_one_is_spared(images, path):
    path.parent.mkdir()
    home = Path(main.__file__).parent
    command = [sys.executable, "-c", WRITE_AND_HANG, str(path)]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"writing\n"
        (left,) = partials(path)
        stored, _ = cached(path, images, 0)
        assert partials(path) == [left]  # its writer lives
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert partials(path) == [left]
    os.utime(images.paths[0], ns=(1, 1))
    cached(path, images, 0)
    assert held(path) == [path.name]


def test_what_a_killed_build_left_is_swept_where_another_one_finished_the_file(images, path):
    cached(path, images, 0)
    left = path.with_name(f".{path.name}.abc.partial")
    left.write_bytes(b"x")
    assert cached(path, images, 0)[1] is None
    assert held(path) == [path.name]


def build(path: Path, images: ImageFiles, start, results) -> None:
    torch.set_num_threads(1)
    start.wait()
    lines = []
    cache_module.logger.info = lines.append
    stored, fault = cached(path, images, 0)
    assert torch.equal(everything(stored), decoded(images))
    results.put((fault, lines))


def test_processes_that_start_together_decode_once(images, path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    all_of_them = [context.Process(target=build, args=(path, images, start, results)) for _ in range(3)]
    for process in all_of_them:
        process.start()
    found = [results.get(timeout=60) for _ in all_of_them]
    for process in all_of_them:
        process.join(60)
    assert [process.exitcode for process in all_of_them] == [0, 0, 0]
    assert sorted(fault is None for fault, _ in found) == [False, True, True]
    assert sum("decoding" in line for _, lines in found for line in lines) == 1
    assert held(path) == [path.name]


def hold(path: Path, held, release) -> None:
    with cache_module.turn(path):
        held.set()
        release.wait(60)


def test_who_comes_second_says_so_and_waits(images, path, caplog):
    path.parent.mkdir()
    context = multiprocessing.get_context("spawn")
    begun, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, begun, release))
    process.start()
    assert begun.wait(60)
    timer = threading.Timer(1, release.set)
    timer.start()
    with caplog.at_level(logging.INFO):
        cached(path, images, 0)
    assert release.is_set()
    process.join(60)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == f"{path}: another process decodes these images; waiting for it" and "decoding" in second
    assert held(path) == [path.name]


def test_of_a_killed_process_the_lock_is_taken_over(images, path):
    path.parent.mkdir()
    left = path.with_name(f".{path.name}.turn.partial")
    left.write_bytes(b"locked\n")
    cached(path, images, 0)
    assert held(path) == [path.name]


def test_without_locks_each_decodes_for_itself(images, path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "_said", set())
    stored, _ = cached(path, images, 0)
    assert torch.equal(everything(stored), decoded(images)) and held(path) == [path.name]
    assert said(caplog) == ["this system has no file locks: start no two processes on one run, one table or one cache"]


def test_what_a_spawned_worker_is_sent_is_small(images, path):
    for kind in ("disk", "ram"):
        source = open_pixels(images, kind, path, CPU, 0)
        assert len(ForkingPickler.dumps(source)) < 2000


def total(source, results) -> None:
    torch.set_num_threads(1)
    results.put(int(everything(source).sum()))


@pytest.mark.parametrize("kind", ["disk", "ram"])
def test_a_spawned_worker_sees_the_pixels(images, path, kind):
    source = open_pixels(images, kind, path, CPU, 0)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=total, args=(source, results))
    process.start()
    assert results.get(timeout=60) == int(decoded(images).sum())
    process.join(60)


# ------------------------------------------------------------------------------------------------ memory, and fallbacks


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_none_keeps_nothing(images, path):
    assert open_pixels(images, "none", path, CPU, 0) is images
    assert not path.parent.exists()


def test_no_images_need_no_cache(path):
    source = open_pixels(ImageFiles([], SIZE), "ram", path, CPU, 0)
    assert len(source) == 0 and not path.parent.exists()


def test_ram_is_shared_and_the_file_is_there_too(images, path, caplog):
    source = open_pixels(images, "ram", path, CPU, 0)
    assert isinstance(source, HeldPixels) and source.tensor.is_shared() and said(caplog) == []
    assert torch.equal(everything(source), decoded(images)) and held(path) == [path.name]
    source[torch.tensor([3])].zero_()
    assert torch.equal(everything(source), decoded(images))


@pytest.mark.parametrize("workers", [0, 1])
def test_ram_without_a_place_on_the_disk(images, path, caplog, workers):
    path.parent.write_text("a file")
    source = open_pixels(images, "ram", path, CPU, workers)
    assert isinstance(source, HeldPixels) and torch.equal(everything(source), decoded(images))
    (line,) = said(caplog)
    assert "cannot be the folder of a cache" in line and "\n" not in line


def test_disk_without_a_place_on_the_disk(images, path, caplog):
    path.parent.write_text("a file")
    assert open_pixels(images, "disk", path, CPU, 0) is images
    (line,) = said(caplog)
    assert "images are decoded whenever they are needed" in line


def test_gpu_on_a_cpu_is_main_memory(images, path, caplog):
    source = open_pixels(images, "gpu", path, CPU, 0)
    assert isinstance(source, HeldPixels) and source.tensor.device == CPU
    assert said(caplog) == ["cache = gpu: some-train-12x8: there is no GPU in use; trying main memory"]


def test_memory_that_is_short(monkeypatch, caplog):
    """Half of what is free is left; GPU, then main memory, then neither."""
    cuda, free = torch.device("cuda", 0), {"cuda": 1000, "cpu": 1000}
    monkeypatch.setattr(pixels, "free_memory", lambda device: free[device.type])
    assert find_home("x", "gpu", 500, cuda) == cuda
    assert find_home("x", "ram", 500, cuda) == CPU
    assert find_home("x", "disk", 500, cuda) is None and said(caplog) == []
    free["cuda"] = 999
    assert find_home("x", "gpu", 500, cuda) == CPU
    assert "more than half of" in said(caplog)[0] and "free GPU memory; trying main memory" in said(caplog)[0]
    free["cpu"] = 999
    assert find_home("x", "gpu", 500, cuda) is None
    assert len(said(caplog)) == 3 and "free main memory; not kept in main memory" in said(caplog)[2]
    free["cpu"] = None  # a system that does not say
    assert find_home("x", "ram", 500, cuda) == CPU


def test_ram_that_is_short_means_the_disk(images, path, monkeypatch, caplog):
    monkeypatch.setattr(pixels, "free_memory", lambda device: 1000)
    source = open_pixels(images, "ram", path, CPU, 0)
    assert isinstance(source, MappedPixels) and len(said(caplog)) == 1


def test_little_shared_memory(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pixels, "SHARED_MEMORY", tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=64))
    assert find_home("x", "ram", 33, CPU) is None and find_home("x", "ram", 32, CPU) == CPU
    assert f"are more than half of the 0.00 GB that are free in {tmp_path}" in said(caplog)[0]


def test_free_memory_is_known_here():
    assert free_memory(CPU) is None or free_memory(CPU) > 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pixels_on_the_gpu(images, path):
    device = torch.device("cuda", 0)
    source = open_pixels(images, "gpu", path, device, 0)
    assert source.tensor.device == device and torch.equal(everything(source).cpu(), decoded(images))


# ----------------------------------------------------------------------------------------------------------- whole runs


def test_names_of_the_files(regdb_root, sysu_root):
    cfg = load_config(None, ["cache_dir", "somewhere", "image_size", "(64, 32)", "data_root", "/data/set"])
    split = regdb.load(str(regdb_root), trial=3)
    assert list(parts(split)) == ["train", "test-visible", "test-infrared"]
    assert build_cache_path(cfg, split, "test-visible") == Path("somewhere/regdb-3-test-visible-64x32-c5be9b4f.pixels")
    whole = sysu.load(str(sysu_root))
    assert build_cache_path(cfg, whole, "train") == Path("somewhere/sysu-train-64x32-c5be9b4f.pixels")
    held_out = sysu.load(str(sysu_root), hold_out=True)
    assert list(parts(held_out)) == [
        "train-without-val", "test-visible", "test-infrared", "val-visible", "val-infrared"
    ]  # fmt: skip
    assert parts(held_out)["val-infrared"] is held_out.validation.infrared
    cfg.defrost()
    cfg.data_root = "/data/other/../set"
    assert build_cache_path(cfg, whole, "train") == Path("somewhere/sysu-train-64x32-c5be9b4f.pixels")
    cfg.data_root = "/data/other"
    assert build_cache_path(cfg, whole, "train") != Path("somewhere/sysu-train-64x32-c5be9b4f.pixels")
    cfg.data_root, cfg.interpolation = "/data/set", "lanczos"
    assert build_cache_path(cfg, whole, "train") == Path("somewhere/sysu-train-64x32-lanczos-c5be9b4f.pixels")
    assert build_image_files(cfg, whole, "train").interpolation == "lanczos"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["disk", "ram", "gpu"])
def test_loaders_give_the_same_batches(sysu_root, tmp_path, kind, workers):
    benchmark = sysu.load(str(sysu_root), hold_out=True)
    keys = ["image_size", "(48, 32)", "num_workers", str(workers), "p_size", "3", "k_size", "2", "batch_size", "5"]
    keys += ["cache_dir", str(tmp_path)]
    plain, kept = (load_config(None, [*keys, "cache", each]) for each in ("none", kind))
    loaders = [
        (
            build_train_loader(cfg, benchmark, 1, CPU),
            build_test_loader(cfg, benchmark, benchmark.test, Modality.INFRARED, CPU),
            build_test_loader(cfg, benchmark, benchmark.validation, Modality.VISIBLE, CPU),
        )
        for cfg in (plain, kept)
    ]
    for expected, found in zip(*loaders):
        assert len(expected) == len(found) > 0
        for one, other in zip(expected, found):
            assert all(torch.equal(*both) for both in zip(one[:5], other[:5]))
    names = ("test-infrared", "train-without-val", "val-visible")
    found = [path.name.rpartition("-")[0] for path in sorted(tmp_path.iterdir())]
    assert found == [f"sysu-{name}-48x32" for name in names]


@pytest.mark.parametrize("kind", ["disk", "ram"])
def test_a_run_ends_with_the_same_bits(run_main, trained, sysu_root, tmp_path, kind):
    keys = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "cache", kind, "cache_dir", tmp_path / "cache"]
    assert run_main(*TINY, *keys) == 0
    folder = only_run(tmp_path / "runs")
    assert (folder / RESULTS).read_bytes() == (trained / RESULTS).read_bytes()
    found, expected = (torch.load(run / LAST, weights_only=True)["model"] for run in (folder, trained))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert (folder / LOG).read_text().count("not there yet; decoding") == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_run_continues_without_a_cache(run_main, sysu_root, tmp_path, capsys):
    (tmp_path / "file").touch()
    keys = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "cache", "disk", "cache_dir", tmp_path / "file"]
    assert run_main(*TINY, *keys, "num_epoch", 0, "eval_initial", "false", "mser", "false") == 0
    assert capsys.readouterr().out.count("cannot be the folder of a cache (File exists); without one") == 3


def test_interrupting_a_run_that_builds_leaves_nothing_unfinished(sysu_root, tmp_path):
    slow = "import data.images.decode as i, time, sys; f = i.load_image\n"
    slow += "def load(*a): time.sleep(0.05); return f(*a)\n"
    slow += "i.load_image = load\nimport main; from utils.cli import exit_code\n"
    slow += "sys.exit(exit_code(lambda: main.run(sys.argv[1:])))"
    keys = ["data_root", sysu_root, "output_dir", tmp_path / "runs", "cache", "disk", "cache_dir", tmp_path / "cache"]
    command = [sys.executable, "-c", slow, *TINY, *map(str, keys), "num_workers", "1"]
    process = subprocess.Popen(
        command, cwd=Path(main.__file__).parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not any(part.stat().st_size for part in tmp_path.glob("cache/.*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    left = [path.name for path in (tmp_path / "cache").iterdir()]
    assert [name for name in left if name.startswith(".")] == [] and not (tmp_path / "runs").exists()

"""Draws a planned data set into a folder, one job per identity, on several processes."""

import itertools
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tools.synthetic.camera import Camera, sample_camera
from tools.synthetic.person import sample_identity
from tools.synthetic.planned import CameraSpec, Plan, PlannedImage
from tools.synthetic.render import SUPERSAMPLING, render
from utils.limits import cores

FORMATS = {".jpg": {"format": "JPEG", "quality": 90}, ".bmp": {"format": "BMP"}}


class Job(NamedTuple):
    """All images of one identity."""

    root: Path
    seed: int
    size: tuple[int, int]
    cameras: dict[int, CameraSpec]
    images: list[PlannedImage]


@lru_cache(maxsize=16)
def camera_of(seed: int, spec: CameraSpec, height: int, width: int) -> Camera:
    """The camera, drawn once per process."""
    return sample_camera(
        np.random.default_rng((seed, 0, spec.place, 3)),
        np.random.default_rng((seed, 0, spec.number, 4)),
        spec.infrared,
        SUPERSAMPLING * height,
        SUPERSAMPLING * width,
    )


def draw(job: Job) -> int:
    """Write the images of one identity that are not there yet; returns the number of all of them."""
    missing = [p for p in job.images if not is_drawn(job.root / p.path)]
    if not missing:
        return len(job.images)
    person = sample_identity(np.random.default_rng((job.seed, job.images[0].identity, 0, 0)))
    for p in missing:
        camera = camera_of(job.seed, job.cameras[p.camera], *job.size)
        pixels = render(person, camera, np.random.default_rng((job.seed, p.identity, p.camera, p.number)), *job.size)
        path = job.root / p.path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}")  # renamed when it is whole, so that an interrupted one is drawn again
        Image.fromarray(pixels).save(part, **FORMATS[path.suffix])
        part.replace(path)
    return len(job.images)


def is_drawn(path: Path) -> bool:
    """Whether the image is there; a power cut may leave one without content."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers Ctrl-C


def draw_all(jobs: list[Job], workers: int) -> Iterator[int]:
    """Run the jobs and yield the number of images of each one finished, in any order."""
    if workers == 1:
        yield from map(draw, jobs)
        return
    # "spawn": the caller may hold threads, which a fork would copy in any state.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _ignore_interrupt)
    try:
        for done in as_completed([pool.submit(draw, job) for job in jobs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def write(root: Path, plan: Plan, seed: int, size: tuple[int, int], workers: int | None) -> None:
    """Fill the folder `root` with the planned data set, images of size (height, width); those that are there stay."""
    by_identity = sorted(plan.images, key=lambda p: p.identity)
    jobs = [
        Job(root, seed, size, plan.cameras, list(group))
        for _, group in itertools.groupby(by_identity, key=lambda p: p.identity)
    ]
    if workers is None:  # a process takes about as long to start as 150 images to draw
        workers = max(1, min(cores(), len(plan.images) // 300))
    done, told = 0, time.monotonic()
    for count in draw_all(jobs, min(workers, len(jobs))):
        done += count
        if time.monotonic() - told > 15:
            told = time.monotonic()
            print(f"{done} of {len(plan.images)} images", file=sys.stderr, flush=True)
    for name, content in plan.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

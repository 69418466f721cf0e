"""Data sets, batches and augmentation, built from the configuration. Only the build_* functions read it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from data.augmentation import AUGMENTATIONS, Augmentation
from data.images.cache import MappedPixels, cached
from data.images.decode import BILINEAR, ImageDataset, ImageFiles, as_it_is
from data.images.loader import Prefetcher, own_run
from data.images.store import HeldPixels, open_pixels
from data.images.workers import PatientLoader, asked_workers, workers_with_room
from data.samplers import BY_IMAGES, NEEDS_BOTH, SAMPLERS, EpochBatchSampler, Sizes, single_modality_ids
from data.sets import DATASETS
from data.sets.common import fingerprint
from data.sets.translated import fingerprints, translated
from data.sets.value import require_split
from utils.errors import UserError, pick
from utils.files import expanded
from utils.logging import logger
from utils.processes import me
from utils.types import Benchmark, Modality, Record, Split


def data_root(cfg: CfgNode) -> str:
    """The folder of the configured data set."""
    return str(expanded(cfg.data_root or pick(DATASETS, cfg.dataset, "dataset").root))


def infrared_root(cfg: CfgNode) -> str | None:
    """The folder of translated infrared training images; None where originals are taken, or nothing is trained."""
    return None if cfg.test_only else cfg.infrared_root


def build_benchmark(cfg: CfgNode, seed: int) -> Benchmark:
    """Read the configured data set; what differs from the published one or from the configuration is logged."""
    dataset = pick(DATASETS, cfg.dataset, "dataset")
    require_split(dataset, cfg.trial, f"trial = {cfg.trial}")
    benchmark = dataset.load(data_root(cfg), trial=cfg.trial, hold_out=cfg.select == "val", seed=seed)
    other = infrared_root(cfg)
    if other:
        benchmark = benchmark._replace(train=translated(benchmark.train, data_root(cfg), other))
    if cfg.extra_protocols:
        test = benchmark.test
        benchmark = benchmark._replace(test=test._replace(settings=[*test.settings, *test.extra]))
    cameras = len({record.camera for record in (*benchmark.train, *benchmark.test.visible, *benchmark.test.infrared)})
    logger.info(
        f"{benchmark.name}: {benchmark.num_ids} training identities, {len(benchmark.train)} training images; "
        f"test: {len(benchmark.test.visible)} visible, {len(benchmark.test.infrared)} infrared"
    )
    for line in benchmark.warnings:
        logger.warning(line)
    for key, found in (("num_id", benchmark.num_ids), ("num_cam", cameras)):
        if cfg[key] not in (None, found):
            said = f"; {found} is used" if key == "num_id" else ""  # of cameras, a loss may use the number given
            logger.warning(f"{key} = {cfg[key]}, but the data have {found}{said}")
    return benchmark


def describe(cfg: CfgNode, benchmark: Benchmark, chance: Mapping[str, float]) -> dict[str, Any]:
    """What a run writes down about its data. chance: rank-1 of a random order by protocol, in percent."""
    root, other, tested = data_root(cfg), infrared_root(cfg), [*benchmark.test.visible, *benchmark.test.infrared]
    if other:
        images = fingerprints(benchmark.train, tested, root, other)
    else:
        images = fingerprint(root, [*benchmark.train, *tested])
    return {
        "root": str(Path(root).absolute()),
        **({"infrared_root": str(Path(other).absolute())} if other else {}),
        "fingerprint": images,
        "training": {"identities": benchmark.num_ids, "pictures": len(benchmark.train)},  # the key that older runs have
        "test": {"visible": len(benchmark.test.visible), "infrared": len(benchmark.test.infrared)},
        "chance_r1": chance,
    }


def build_train_loader(cfg: CfgNode, benchmark: Benchmark, seed: int, device: torch.device) -> Prefetcher:
    """Training batches, their images on `device` where that is a GPU; its `batch_sampler` is an EpochBatchSampler.

    UserError where several processes cannot share a batch out evenly.
    """
    sampler = build_batch_sampler(cfg, benchmark.train, seed)
    by_images = SAMPLERS[cfg.sample_method] in BY_IMAGES
    key, what = ("batch_size", "images") if by_images else ("p_size", "identities")
    if cfg[key] % me().world:
        raise UserError(
            f"{key} = {cfg[key]}: {me().world} processes cannot share out this number of {what} evenly; "
            f"give a multiple of {me().world}, or start another number of processes"
        )
    return _loader(cfg, benchmark, _train_part(benchmark), device, training=True, batch_sampler=sampler)


def build_test_loader(
    cfg: CfgNode, benchmark: Benchmark, split: Split, modality: Modality, device: torch.device
) -> Prefetcher:
    """All images of one modality of the benchmark's test or validation split in order, in batches of `test_batch_size`.

    Of several processes each gets a run of them. UserError where there are fewer images than processes.
    """
    part = _split_part("test" if split is benchmark.test else "val", modality)
    own = own_run(range(len(parts(benchmark)[part])))
    return _loader(cfg, benchmark, part, device, batch_size=cfg.test_batch_size or 2 * cfg.batch_size, sampler=own)


def parts(benchmark: Benchmark) -> dict[str, Sequence[Record]]:
    """The lists of images that a run goes through, by the names that their caches have."""
    found = {_train_part(benchmark): benchmark.train}
    for name, split in (("test", benchmark.test), ("val", benchmark.validation)):
        if split is not None:
            found[_split_part(name, Modality.VISIBLE)] = split.visible
            found[_split_part(name, Modality.INFRARED)] = split.infrared
    return found


def build_cache(cfg: CfgNode, benchmark: Benchmark, part: str) -> tuple[MappedPixels, str | None]:
    """A part's cache file, and why it was written now, None where it was there (data.images.cache.cached)."""
    path, images = build_cache_path(cfg, benchmark, part), build_image_files(cfg, benchmark, part)
    return cached(path, images, asked_workers(cfg.num_workers))


def build_image_files(cfg: CfgNode, benchmark: Benchmark, part: str) -> ImageFiles:
    """The images of one of the `parts`, in the configured size and interpolation."""
    return ImageFiles([record.path for record in parts(benchmark)[part]], cfg.image_size, cfg.interpolation)


def build_cache_path(cfg: CfgNode, benchmark: Benchmark, part: str) -> Path:
    """Its name, such as regdb-3-test-visible-384x192-1f0c5a3e.pixels, tells data set, split, part, size and, but
    for bilinear, interpolation.

    The last word is a hash of the data set's folder: two copies of one, or two sizes of a synthetic one, share nothing.
    For training images it is also of the folder of translated ones, where there is one.
    """
    trial = "" if benchmark.trial is None else f"-{benchmark.trial}"
    drawn = "" if benchmark.drawn is None else f"-seed-{benchmark.drawn}"
    height, width = cfg.image_size
    way = "" if cfg.interpolation == BILINEAR else f"-{cfg.interpolation}"
    other = infrared_root(cfg) if part == _train_part(benchmark) else None
    folders = "\0".join(os.path.abspath(folder) for folder in (data_root(cfg), other) if folder)
    root = hashlib.sha256(folders.encode(errors="surrogateescape")).hexdigest()[:8]
    return expanded(cfg.cache_dir) / f"{benchmark.name}{trial}{drawn}-{part}-{height}x{width}{way}-{root}.pixels"


def build_batch_sampler(cfg: CfgNode, records: Sequence[Record], seed: int) -> EpochBatchSampler:
    """The configured sampler; UserError where it cannot make a single batch."""
    draw = pick(SAMPLERS, cfg.sample_method, "sample_method")
    pids, modalities = (torch.tensor([getattr(r, name) for r in records]).numpy() for name in ("pid", "modality"))
    identities = set(pids.tolist())
    if draw in NEEDS_BOTH:
        left_out = single_modality_ids(pids, modalities)
        if left_out:
            logger.warning(f"{len(left_out)} identities lack one modality and are left out by {cfg.sample_method}")
        identities -= set(left_out)
    if len(identities) < cfg.p_size and draw not in BY_IMAGES:
        raise UserError(
            f"p_size = {cfg.p_size}: {cfg.sample_method} has only {len(identities)} identities; lower p_size"
        )
    sizes = Sizes(p=cfg.p_size, k=cfg.k_size, batch=cfg.batch_size)
    sampler = EpochBatchSampler(partial(draw, pids=pids, modalities=modalities, sizes=sizes), seed)
    if not len(sampler):
        raise UserError(
            f"{cfg.sample_method} cannot fill one batch from {len(records)} training images of {len(identities)} "
            f"identities: lower p_size ({cfg.p_size}), k_size ({cfg.k_size}) or batch_size ({cfg.batch_size})"
        )
    return sampler


def build_augmentation(cfg: CfgNode) -> Augmentation:
    """The configured augmentation: (batch, its images uint8 on the device; generator of the CPU) -> its views there."""
    return pick(AUGMENTATIONS, cfg.augmentation, "augmentation")(cfg)


def _train_part(benchmark: Benchmark) -> str:
    """Without the held-out identities it is another list, with a cache of its own."""
    return "train" if benchmark.validation is None else "train-without-val"


def _split_part(split: str, modality: Modality) -> str:
    return f"{split}-{modality.name.lower()}"


def _loader(
    cfg: CfgNode, benchmark: Benchmark, part: str, device: torch.device, training: bool = False, **batching
) -> Prefetcher:
    images, path = build_image_files(cfg, benchmark, part), build_cache_path(cfg, benchmark, part)
    asked = asked_workers(cfg.num_workers)
    pixels = open_pixels(images, cfg.cache, path, device, asked)
    # Pixels that are on the GPU already are picked there by this process: no worker, no copy.
    there = isinstance(pixels, HeldPixels) and pixels.tensor.is_cuda
    count = batching.get("batch_size") or max(cfg.batch_size, cfg.p_size * cfg.k_size) // me().world
    workers = 0 if there else workers_with_room(asked, count * images.image_bytes)
    # Training batches are shared out in the data set, which knows the identities; test images by their sampler.
    share = (me().rank, me().world) if training else ()
    loader = PatientLoader(
        ImageDataset(parts(benchmark)[part], pixels, *share),
        num_workers=workers,
        collate_fn=as_it_is,
        pin_memory=device.type == "cuda" and not there,
        persistent_workers=training and workers > 0,
        # Its own generator: opening a loader must not move the global random state that a resumed run restores.
        generator=torch.Generator().manual_seed(0),
        **batching,
    )
    return Prefetcher(loader, device)

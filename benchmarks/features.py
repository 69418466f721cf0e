"""Embeddings with the shape of a test set and the structure of classes, drawn from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data.sets import regdb, sysu
from utils.types import Exclusion, Features, Modality, MserDefaults, Record, Setting

INTRINSIC = 128  # dimensions that the classes vary in
# Distance of an image from its class's centre, relative to that between centres: rank-1 is near 100 % and 50 %.
SPREAD = {"clean": 1.0, "weak": 2.0}


class Data(NamedTuple):
    """What a protocol needs: embeddings of both modalities, its settings and its rules."""

    features: dict[Modality, Features]
    settings: list[Setting]
    excluded: Exclusion
    mser: MserDefaults


def sysu_like(split: Path, spread: float, width: int) -> Data:
    """The test set that SYSU-MM01's split files describe (rand_perm_cam.mat and test_id in `split`)."""
    permutations, identities = sysu.read_permutations(split / "rand_perm_cam.mat"), sysu.read_ids(split, "test_id")

    def test_images(cameras: tuple[int, ...], modality: Modality) -> list[Record]:
        return [
            Record(f"cam{camera}/{identity:04d}/{number:04d}", identity, camera, modality)
            for camera in cameras
            for identity in identities
            for number in range(1, permutations.orders.get((camera, identity), np.empty((0, 0))).shape[1] + 1)
        ]

    visible = test_images(sysu.VISIBLE_CAMERAS, Modality.VISIBLE)
    infrared = test_images(sysu.INFRARED_CAMERAS, Modality.INFRARED)
    settings = sysu.protocol_settings("sysu", visible, len(infrared), permutations)
    return Data(draw(visible, infrared, spread, width), settings, sysu.excluded, sysu.MSER)


def regdb_like(identities: int, spread: float, width: int) -> Data:
    """Ten images of each identity in both modalities; 206 identities are a RegDB split."""
    visible, infrared = (
        [Record("", identity, regdb.CAMERAS[modality], modality) for identity in range(identities) for _ in range(10)]
        for modality in (Modality.VISIBLE, Modality.INFRARED)
    )
    settings = regdb.protocol_settings("regdb", len(visible), len(infrared))
    return Data(draw(visible, infrared, spread, width), settings, regdb.excluded, regdb.MSER)


def draw(
    visible: list[Record], infrared: list[Record], spread: float, width: int, spectra: int = 4
) -> dict[Modality, Features]:
    """Features of both modalities, the visible ones in that many spectra, not normalised."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((INTRINSIC, width), dtype=np.float32)
    identities = sorted({record.pid for record in (*visible, *infrared)})
    centres = dict(zip(identities, rng.standard_normal((len(identities), INTRINSIC), dtype=np.float32)))
    features = {}
    for modality, records, views in ((Modality.VISIBLE, visible, spectra), (Modality.INFRARED, infrared, 1)):
        latents = np.stack([centres[record.pid] for record in records])
        latents += 0.3 * rng.standard_normal(INTRINSIC, dtype=np.float32)  # what the modalities differ in
        latents += spread * rng.standard_normal(latents.shape, dtype=np.float32)
        embeddings = torch.empty(views, len(records), width)
        for spectrum in range(views):
            change = 0.3 * spread * rng.standard_normal(latents.shape, dtype=np.float32) if spectrum else 0
            embeddings[spectrum] = torch.from_numpy((latents + change) @ basis)
        pids, cameras = (torch.tensor([getattr(record, name) for record in records]) for name in ("pid", "camera"))
        features[modality] = Features(embeddings, pids, cameras)
    return features

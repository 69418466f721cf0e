"""The images on which an export is compared with its model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from PIL import Image
from yacs.config import CfgNode

from data.build import build_benchmark
from data.images.decode import load_image
from tools.synthetic.camera import sample_camera
from tools.synthetic.person import sample_identity
from tools.synthetic.render import SUPERSAMPLING, render
from utils.errors import UserError

COUNT = 5
SYNTHETIC_SIZES = ((192, 96), (133, 61), (256, 128), (97, 45), (192, 96))  # (height, width) of synthetic images


def images_of(names: Sequence[str]) -> list[ndarray]:
    """Image files as [h, w, 3] uint8, RGB, as the export's own script reads them. UserError for an unreadable one."""
    from tools.exporting.use import load

    for name in names:
        load_image(name, (1, 1))  # says what is wrong
    return [load(name) for name in names]


def build_samples(cfg: CfgNode) -> tuple[list[ndarray], str]:
    """Test images [h, w, 3] uint8 of the model's data set, or synthetic ones; and what they are."""
    try:
        test = build_benchmark(cfg, seed=0).test
        records = [*test.visible[: COUNT - COUNT // 2], *test.infrared[: COUNT // 2]]
        return images_of([record.path for record in records]), f"test images of {cfg.dataset}"
    except UserError:
        people = [synthetic_image(number, size) for number, size in enumerate(SYNTHETIC_SIZES)]
        return people, "synthetic images, the data set is not here"


def synthetic_image(number: int, size: tuple[int, int]) -> ndarray:
    """A person, [h, w, 3] uint8; each second one before an infrared camera."""

    def chance(purpose: int) -> np.random.Generator:
        return np.random.default_rng((number, purpose))

    height, width = (SUPERSAMPLING * side for side in size)
    camera = sample_camera(chance(0), chance(1), bool(number % 2), height, width)
    image = render(sample_identity(chance(2)), camera, chance(3), *size)
    return np.asarray(Image.fromarray(image).convert("RGB"))

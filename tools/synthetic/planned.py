"""A data set before it is drawn: its cameras, its images and its lists."""

from typing import NamedTuple

import numpy as np


class CameraSpec(NamedTuple):
    """One camera of a layout; cameras of one `place` look at the same scene."""

    number: int
    infrared: bool
    place: int


class PlannedImage(NamedTuple):
    """One file to draw."""

    path: str  # relative to the data set's root
    identity: int  # from 1
    camera: int
    number: int  # from 1, within identity and camera


class Plan(NamedTuple):
    """A whole data set before it is drawn."""

    cameras: dict[int, CameraSpec]
    images: list[PlannedImage]
    files: dict[str, bytes]  # lists, by path relative to the root
    summary: str  # one line of counts


def generator(seed: int, purpose: int) -> np.random.Generator:
    # Identity 0 does not exist: these draws are nobody's images.
    return np.random.default_rng((seed, 0, 0, purpose))

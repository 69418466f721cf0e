"""How a person stands, and the tubes that a posed person is made of.

Space is in body heights: x to the person's left, y up from the ground, z forward. `project` turns it by the
viewing direction; image coordinates are (x to the right, y down), with the ground at y = 0.
"""

import math
from typing import NamedTuple

import numpy as np

from tools.synthetic.person import Identity, Slot

SOLID = np.zeros((1, 1), np.uint8)


class Pose(NamedTuple):
    """One moment of a walk, and where the person faces; angles in radians."""

    yaw: float  # 0 faces the camera, pi turns the back to it
    phase: float  # of the gait
    stride: float  # largest swing of the thighs
    swing: float  # largest swing of the arms
    spread: float  # of the arms away from the body
    lean: float  # forward
    bend: float  # of the elbows
    nod: float  # turn of the head against the body
    pitch: float  # of the camera, looking down


class Tube(NamedTuple):
    """A straight piece with a texture wrapped around it."""

    start: tuple  # (x, y), image coordinates in body heights
    end: tuple  # (x, y)
    widths: tuple  # half widths at equally spaced stations from start to end
    depth: float  # towards the camera
    tile: np.ndarray  # uint8 [R, C] of Slots, column 0 facing forward
    rows: tuple  # share of the tile's rows that lies between start and end
    turn: float  # direction the tile's column 0 faces, 0 = the camera
    round: bool  # discs at both ends


def sample_pose(rng: np.random.Generator, back_share: float, pitch: float) -> Pose:
    """A pose for one image; `back_share` of them walk away from the camera, one in twenty crosses the view."""
    facing = rng.random()
    yaw = np.pi if facing < back_share else 0.0
    if rng.random() < 0.05:
        yaw = np.pi / 2
    return Pose(
        yaw=rng.choice([-1, 1]) * yaw + rng.normal(0, 0.18),
        phase=rng.uniform(0, 2 * np.pi),
        stride=rng.uniform(0.1, 0.4),
        swing=rng.uniform(0.1, 0.4),
        spread=rng.uniform(0.04, 0.16),
        lean=rng.normal(0.03, 0.03),
        bend=rng.uniform(0.1, 0.6),
        nod=rng.normal(0, 0.25),
        pitch=pitch,
    )


class Body:
    """Collects the tubes of one person in one pose."""

    UNDER = -0.3  # added to the depth of legs: skirts and long coats hang in front of them, whatever the stride

    def __init__(self, person: Identity, pose: Pose):
        self.person, self.pose, self.tubes = person, pose, []
        self._cos, self._sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self._tilt = math.cos(pose.pitch), math.sin(pose.pitch)

    def project(self, point: np.ndarray) -> tuple[tuple[float, float], float]:
        """Image coordinates and depth of a point [3]."""
        x, y, z = point.tolist()
        side, depth = x * self._cos + z * self._sin, z * self._cos - x * self._sin
        return (side, depth * self._tilt[1] - y * self._tilt[0]), depth

    def add(self, start, end, widths, tile, rows=(0.0, 1.0), turn=0.0, nearer=0.0, rounded=True):
        """Append a tube between two points of space; `tile` is the name of a tile or a Slot."""
        (a, near_a), (b, near_b) = self.project(start), self.project(end)
        texture = SOLID + np.uint8(tile) if isinstance(tile, Slot) else self.person.tiles[tile]
        self.tubes.append(
            Tube(a, b, tuple(widths), (near_a + near_b) / 2 + nearer, texture, rows, self.pose.yaw + turn, rounded)
        )

    def section(self, side: float, depth: float) -> float:
        """Half width, as seen, of an elliptic section with these half axes."""
        return math.hypot(side * self._cos, depth * self._sin)

    def box(self, side: float, depth: float) -> float:
        """Half width, as seen, of a box with these half sides."""
        return abs(side * self._cos) + abs(depth * self._sin)

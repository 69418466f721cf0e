"""What one person is: build, hair, garments and the materials they are made of."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from tools.synthetic.patterns import TILE_COLUMNS, TILE_ROWS, Pattern, cloth, front_columns, sample_pattern

TOP_KINDS = {
    "plain": 0.4,
    "stripes": 4,
    "tartan": 1.5,
    "chess": 1.5,
    "dots": 1.5,
    "zigzag": 1.2,
    "blotches": 1.2,
    "band": 1.2,
    "half": 1.2,
    "sides": 0.8,
    "centre": 0.8,
    "logo": 2.5,
}
BOTTOM_KINDS = {
    "plain": 2,
    "stripes": 2,
    "tartan": 1,
    "chess": 0.8,
    "dots": 0.8,
    "blotches": 1,
    "half": 1,
    "sides": 1.2,
}
BAG_KINDS = {"plain": 1, "stripes": 1, "chess": 0.5, "half": 1, "centre": 1}


LAMPS = 4  # wavelengths of the infrared lamps, one of which is lit in an image; dyes differ from one to the next


class Slot(IntEnum):
    """Index of a person's material in an image's index map; scenes start at SCENE."""

    SKIN = 0
    HAIR = 1
    SHOES = 2
    TOP_A = 3
    TOP_B = 4
    INNER = 5
    BOTTOM_A = 6
    BOTTOM_B = 7
    BAG_A = 8
    BAG_B = 9
    HAT = 10
    SCENE = 16


class Build(NamedTuple):
    """Body measures in heights of a tall person; widths and radii are half widths."""

    height: float
    hip_height: float
    shoulder: float
    waist: float
    hip: float
    depth: float
    arm: float
    arm_radius: float
    thigh: float
    calf: float
    head: float


class Wear(NamedTuple):
    """Cut of the clothes and what is carried; lengths are shares of the limb that is covered."""

    sleeve: float  # 0 none .. 1 to the wrist
    loose: float  # half width added to sleeves and legs
    hem: float  # length of the top below the waist, body heights
    bottom: str  # trousers, skirt
    cover: float  # 0 none .. 1 to the ankle
    flare: float  # ratio of hem width to hip width, or to calf width
    hair: str  # bald, short, bob, long, tail, bun, afro
    hat: str  # none, cap, beanie, brim
    bag: str  # none, backpack, shoulder, hand
    bag_size: tuple[float, float]  # half width, half height


class Identity(NamedTuple):
    """A person; the two palettes are drawn independently of one another."""

    build: Build
    wear: Wear
    visible: np.ndarray  # [Slot.SCENE, 3] float32 in 0..1, red, green, blue reflectance
    infrared: np.ndarray  # [LAMPS, Slot.SCENE] float32 in 0..1, one row per wavelength
    tiles: dict[str, np.ndarray]  # body part -> uint8 tile of Slots, see patterns.cloth


def luminance(colour: np.ndarray) -> np.ndarray:
    """Rec. 601 grey value of colours, [..., 3] -> [...]."""
    return colour @ np.array([0.299, 0.587, 0.114], colour.dtype)


def sample_colour(rng: np.random.Generator) -> np.ndarray:
    """A cloth colour, [3] float32: a third of them nearly grey, as in wardrobes."""
    grey, tint = rng.uniform(0.06, 0.95), rng.random(3)
    tint = (tint - tint.min()) / max(np.ptp(tint), 1e-6)
    strength = 0.08 if rng.random() < 0.33 else rng.uniform(0.4, 0.9)
    return np.clip(grey * (1 - strength) + strength * tint * rng.uniform(0.4, 1.0), 0.03, 0.97).astype(np.float32)


def sample_colour_pair(rng: np.random.Generator) -> np.ndarray:
    """Two colours told apart even in grey, [2, 3]."""
    first = sample_colour(rng)
    while True:
        second = sample_colour(rng)
        if abs(luminance(first) - luminance(second)) > 0.35:
            return np.stack([first, second])


def sample_infrared_pair(rng: np.random.Generator) -> np.ndarray:
    """Two infrared reflectances told apart, [2] in 0.08..0.95; which one is brighter is left to chance."""
    while True:
        pair = rng.uniform(0.08, 0.95, 2)
        if abs(pair[0] - pair[1]) > 0.45:
            return pair.astype(np.float32)


def sample_palettes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Visible [Slot.SCENE, 3] and infrared [LAMPS, Slot.SCENE] reflectances of one person's materials."""
    visible = np.stack([sample_colour(rng) for _ in range(Slot.SCENE)])
    infrared = rng.uniform(0.08, 0.95, (LAMPS, Slot.SCENE)).astype(np.float32)
    for first, second in ((Slot.TOP_A, Slot.TOP_B), (Slot.BOTTOM_A, Slot.BOTTOM_B), (Slot.BAG_A, Slot.BAG_B)):
        visible[[first, second]] = sample_colour_pair(rng)
        infrared[:, [first, second]] = np.stack([sample_infrared_pair(rng) for _ in range(LAMPS)])
    tone = rng.random()
    visible[Slot.SKIN] = np.array([0.93, 0.74, 0.62]) * (1 - tone) + np.array([0.36, 0.22, 0.15]) * tone
    infrared[:, Slot.SKIN] = rng.uniform(0.55, 0.75)  # skin of every tone is bright in the near infrared
    visible[Slot.HAIR] = rng.uniform(0.04, 0.75) * np.array([1.0, rng.uniform(0.7, 0.95), rng.uniform(0.4, 0.85)])
    return visible, infrared


def sample_build(rng: np.random.Generator) -> Build:
    """Slim to stout, short- to long-legged, narrow- to broad-shouldered."""
    stout, height = rng.uniform(0.75, 1.4), rng.uniform(0.88, 1.0)
    return Build(
        height=height,
        hip_height=height * rng.uniform(0.43, 0.52),
        shoulder=rng.uniform(0.095, 0.135) * stout**0.3,
        waist=rng.uniform(0.072, 0.092) * stout,
        hip=rng.uniform(0.080, 0.100) * stout**0.8,
        depth=rng.uniform(0.060, 0.078) * stout,
        arm=rng.uniform(0.38, 0.44),
        arm_radius=rng.uniform(0.026, 0.034) * stout**0.6,
        thigh=rng.uniform(0.045, 0.058) * stout**0.6,
        calf=rng.uniform(0.029, 0.038) * stout**0.5,
        head=rng.uniform(0.060, 0.072),
    )


def sample_wear(rng: np.random.Generator) -> Wear:
    """Cut of the clothes, hair and belongings."""

    def choose(**weights: float) -> str:
        total = np.array(list(weights.values()))
        return list(weights)[rng.choice(len(total), p=total / total.sum())]

    bottom = choose(trousers=3, skirt=1.1)
    trousers = (0.25, 0.4, 0.7, 1.0, 1.0, 1.0)
    return Wear(
        sleeve=float(rng.choice([0.0, 0.35, 0.35, 0.7, 1.0, 1.0])),
        loose=rng.uniform(0.002, 0.022),
        hem=float(rng.choice([0.0, 0.03, 0.06, 0.10, 0.20])),
        bottom=bottom,
        cover=float(rng.choice(trousers if bottom == "trousers" else (0.35, 0.55, 0.9))),
        flare=rng.uniform(0.9, 1.7),
        hair=choose(bald=0.8, short=2.5, bob=1.5, long=1.8, tail=1.2, bun=1, afro=1),
        hat=choose(none=4, cap=1, beanie=1, brim=0.8),
        bag=choose(none=1.5, backpack=1.5, shoulder=1.3, hand=1.2),
        bag_size=(rng.uniform(0.045, 0.095), rng.uniform(0.05, 0.12)),
    )


def _torso_tile(rng: np.random.Generator, top: Pattern, wear: Wear) -> np.ndarray:
    """The top from the neck to its hem, some of them open in front over an inner shirt, some with a collar or a hem."""
    tile = cloth(top, Slot.TOP_A, Slot.TOP_B, 0.10, 0.30 + wear.hem)
    opening = rng.choice(["closed", "closed", "closed", "open", "collar", "edge"])
    if opening == "open":
        tile[:, front_columns(rng.uniform(0.2, 0.4))] = Slot.INNER
    elif opening == "collar":
        depth = np.arange(TILE_ROWS)[:, None] < rng.uniform(0.15, 0.45) * TILE_ROWS * (1 - np.abs(_front_angle()) / 0.7)
        tile[depth] = Slot.INNER
    elif opening == "edge":
        tile[-TILE_ROWS // 6 :] = Slot.TOP_B
    return tile


def _front_angle() -> np.ndarray:
    """[1, TILE_COLUMNS] angle of each column from the front, -pi..pi."""
    around = (np.arange(TILE_COLUMNS) + 0.5) / TILE_COLUMNS
    return (np.where(around < 0.5, around, around - 1) * 2 * np.pi)[None, :]


def _head_tile(wear: Wear) -> np.ndarray:
    """Hair all around but for the face; rows run from the crown to the chin."""
    tile = np.full((TILE_ROWS, TILE_COLUMNS), Slot.HAIR, np.uint8)
    row = np.arange(TILE_ROWS)[:, None] / TILE_ROWS
    face = (row > 0.30) & (np.abs(_front_angle()) < (1.0 if wear.hair in ("bob", "long", "afro") else 1.35))
    neck = (row > 0.62) & (np.ones((1, TILE_COLUMNS), bool)) if wear.hair in ("short", "tail", "bun") else face
    tile[face | neck] = Slot.SKIN
    if wear.hair == "bald":
        tile[:] = Slot.SKIN
    return tile


def sample_identity(rng: np.random.Generator) -> Identity:
    """One person. Palettes come last, so that geometry and reflectance share no draws."""
    build, wear = sample_build(rng), sample_wear(rng)
    top, bottom, bag = (sample_pattern(rng, kinds) for kinds in (TOP_KINDS, BOTTOM_KINDS, BAG_KINDS))
    sleeve = rng.choice(["same", "same", "plain", "second", "inner"])
    slots = {
        "same": (Slot.TOP_A, Slot.TOP_B),
        "plain": (Slot.TOP_A,) * 2,
        "second": (Slot.TOP_B,) * 2,
        "inner": (Slot.INNER,) * 2,
    }[str(sleeve)]
    tiles = {
        "torso": _torso_tile(rng, top, wear),
        "sleeve": cloth(top, *slots, 0.035, 0.40),
        "leg": cloth(bottom, Slot.BOTTOM_A, Slot.BOTTOM_B, 0.055, 0.46),
        "skirt": cloth(bottom, Slot.BOTTOM_A, Slot.BOTTOM_B, 0.10, 0.46 * wear.cover),
        "bag": cloth(bag, Slot.BAG_A, Slot.BAG_B, 0.06, 2 * wear.bag_size[1]),
        "head": _head_tile(wear),
    }
    return Identity(build, wear, *sample_palettes(rng), tiles)

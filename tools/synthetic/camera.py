"""A camera: the place it looks at, how it sees people, and how it turns light into grey levels."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tools.synthetic.person import Slot, sample_colour

PANORAMA = 4  # a scene is this many images wide, so that a person stands before a new part of it every time


class Camera(NamedTuple):
    """Everything that stays the same from image to image."""

    infrared: bool
    scene: Image.Image  # "LA", material index and shade, [h, PANORAMA * w] of the drawing canvas
    visible: np.ndarray  # [256 - Slot.SCENE, 3] float32, reflectances of the scene's materials
    reflected: np.ndarray  # [256 - Slot.SCENE] float32, the same materials in the infrared
    pitch: float  # looking down, radians
    back_share: float  # of the people that walk away
    scale: tuple[float, float]  # a person's height as a share of the image's, range
    light: float  # direction of the key light, radians from the line of sight
    ambient: float  # 0..1, how flat the light is
    gain: float
    balance: np.ndarray  # [3] float32, white balance
    gamma: float
    blur: float  # radius in pixels of an image of 128 rows
    noise: float  # standard deviation, 0..1


class _Scene:
    """Draws a place; each call of `paint` uses a material of its own."""

    def __init__(self, rng: np.random.Generator, width: int, height: int):
        self.rng, self.width, self.height = rng, width, height
        self.index = Image.new("L", (width, height), Slot.SCENE)
        self.draw, self.last = ImageDraw.Draw(self.index), int(Slot.SCENE)

    def material(self) -> int:
        self.last = min(self.last + 1, 255)
        return self.last

    def box(self, x0: float, y0: float, x1: float, y1: float, material: int) -> None:
        """Fill a rectangle given in shares of the scene's height."""
        h = self.height
        self.draw.rectangle((x0 * h, y0 * h, max(x0, x1) * h, max(y0, y1) * h), fill=material)

    def fixtures(self, horizon: float) -> None:
        """Windows, doors, posters and pillars, side by side along the wall."""
        rng, x = self.rng, 0.0
        while x < self.width / self.height:
            wide, kind = rng.uniform(0.12, 0.45), rng.choice(["window", "door", "pillar", "poster", "none"])
            top = {"door": 0.12, "pillar": -0.1}.get(str(kind), rng.uniform(0.05, 0.3))
            bottom = horizon if kind in ("door", "pillar") else min(horizon - 0.03, top + rng.uniform(0.2, 0.45))
            if kind != "none":
                self.box(x, top, x + wide, bottom, self.material())
                inner = self.material()
                panes = {"window": 2, "door": 1}.get(str(kind), 0)
                for i in range(panes):
                    step = wide / panes
                    self.box(x + i * step + 0.02, top + 0.03, x + (i + 1) * step - 0.02, bottom - 0.03, inner)
            x += wide + rng.uniform(0.02, 0.3)

    def floor(self, horizon: float) -> None:
        """The ground, with or without joints that run to a vanishing point."""
        rng, h = self.rng, self.height
        ground, joint = self.material(), self.material()
        self.box(0, horizon, self.width / h, 1, ground)
        if rng.random() < 0.6:
            spacing, bend = rng.uniform(0.15, 0.4), rng.uniform(0.0, 0.5)
            for i in np.arange(-2, self.width / h + 2, spacing):
                self.draw.line((i * h, horizon * h, (i + bend) * h, h), fill=joint, width=max(1, h // 90))
            for y in horizon + (1 - horizon) * np.linspace(0.1, 1, 4) ** 1.5:
                self.draw.line((0, y * h, self.width, y * h), fill=joint, width=max(1, h // 90))
        self.box(0, horizon, self.width / h, horizon + rng.uniform(0.0, 0.03), self.material())


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A place, "LA" of size [height, width]: indices of materials, and how strongly each point is lit."""
    scene, horizon = _Scene(rng, width, height), rng.uniform(0.55, 0.8)
    if rng.random() < 0.4:  # a wall of panels or bricks
        panel, size = scene.material(), rng.uniform(0.1, 0.3)
        for i in range(int(width / height / size) + 1):
            scene.box(i * size, 0, i * size + size * rng.uniform(0.4, 0.9), 1, panel)
    scene.fixtures(horizon)
    scene.floor(horizon)
    coarse = rng.uniform(0.7, 1.0, (6, 24)) * 255
    fine = rng.uniform(0.92, 1.0, (48, 192))
    shade = np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize((192, 48), Image.Resampling.BICUBIC)) * fine
    shade = Image.fromarray(shade.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    return Image.merge("LA", (scene.index, shade))


def _paint_colour(rng: np.random.Generator) -> np.ndarray:
    """Colour of a wall or a floor, [3] float32: paler than clothes."""
    colour = sample_colour(rng)
    return 0.42 + 0.5 * (0.4 * colour + 0.6 * colour.mean() - 0.5)


def sample_camera(
    place_rng: np.random.Generator, rng: np.random.Generator, infrared: bool, height: int, width: int
) -> Camera:
    """A camera whose drawing canvas has this size; two cameras given equal `place_rng` look at the same place."""
    scene = draw_scene(place_rng, height, PANORAMA * width)
    count = 256 - Slot.SCENE
    low = rng.uniform(0.83, 0.88)
    return Camera(
        infrared=infrared,
        scene=scene,
        visible=np.stack([_paint_colour(place_rng) for _ in range(count)]),
        reflected=place_rng.uniform(0.2, 0.65, count).astype(np.float32),
        pitch=rng.uniform(0.0, 0.2),
        back_share=rng.uniform(0.08, 0.25),
        scale=(low, low + 0.09),
        light=rng.uniform(-0.9, 0.9),
        ambient=rng.uniform(0.55, 0.75),
        gain=rng.uniform(0.8, 1.1),
        balance=(1 + rng.uniform(-0.14, 0.14, 3)).astype(np.float32),
        gamma=rng.uniform(0.7, 1.2) if infrared else rng.uniform(0.85, 1.15),
        blur=rng.uniform(0.2, 0.5) if infrared else rng.uniform(0.0, 0.6),
        noise=rng.uniform(0.01, 0.025) if infrared else rng.uniform(0.008, 0.02),
    )


def palette(camera: Camera, person_visible: np.ndarray, person_infrared: np.ndarray, gain: float) -> np.ndarray:
    """Grey levels of all 256 materials as this camera records them fully lit, uint8 [256, 3] or [256]."""
    if camera.infrared:
        levels = np.concatenate([person_infrared, camera.reflected])
    else:
        levels = np.concatenate([person_visible, camera.visible]) * camera.balance
    return (np.clip(levels**camera.gamma * camera.gain * gain, 0, 1) * 255).astype(np.uint8)

"""One image: a posed person before a camera's scene. Pure; all chance comes from the given generator."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.synthetic.body import pose_body
from tools.synthetic.camera import Camera, palette
from tools.synthetic.person import LAMPS, Identity
from tools.synthetic.pose import Pose, Tube, sample_pose

SUPERSAMPLING = 2
_ACROSS = (np.arange(48) + 0.5) / 24 - 1  # -1..1 from edge to edge of a tube
_ANGLE = np.arcsin(_ACROSS)  # direction in which the surface looks there
_DOWN = (np.arange(64) + 0.5) / 64  # 0..1 along a tube, its round ends included


def _shading(light: float, ambient: float) -> np.ndarray:
    """Brightness [48] uint8 across a round body; its edges are dark, so that limbs stand out from the trunk."""
    lit = ambient + (1 - ambient) * np.clip(np.cos(_ANGLE - light), 0, 1)
    return (np.clip(lit * (1 - 0.35 * _ACROSS**4), 0, 1) * 255).astype(np.uint8)


def _wrapped(tube: Tube, shading: np.ndarray, margin: float) -> Image.Image:
    """The visible half of the tube's texture, flattened: "LA" of size [64, 48].

    The texture is stretched beyond either end by `margin` tube lengths, for the round ends.
    """
    rows, columns = tube.tile.shape
    first, last = tube.rows
    down = first + (last - first) * np.clip(_DOWN * (1 + 2 * margin) - margin, 0, 0.999)
    around = ((_ANGLE - tube.turn) * (columns / (2 * np.pi))).astype(int) % columns
    patch = np.empty((64, 48, 2), np.uint8)
    patch[..., 0] = tube.tile[(down * rows).astype(int)[:, None], around]
    patch[..., 1] = shading
    return Image.fromarray(patch, "LA")


def _outline(tube: Tube, scale: float, origin: complex) -> tuple[complex, complex, list[float], list[complex]]:
    """Start and direction in pixels, half widths, and the corners all around; points are complex, x + iy.

    Complex numbers, because numpy takes ten times as long for two numbers.
    """
    start, end = complex(*tube.start) * scale + origin, complex(*tube.end) * scale + origin
    length = max(abs(end - start), 1.0)
    along = (end - start) / abs(end - start) * length if end != start else 1j
    across = -1j * along / length
    widths = [max(w * scale, 0.5) for w in tube.widths]
    stations = [start + along * i / (len(widths) - 1) for i in range(len(widths))]
    right = [z + across * w for z, w in zip(stations, widths, strict=True)]
    left = [z - across * w for z, w in zip(stations, widths, strict=True)]
    return start, along, widths, right + left[::-1]


def _paint(canvas: Image.Image, tube: Tube, scale: float, origin: complex, shading: np.ndarray) -> None:
    """Draw one tube; `origin` is the pixel of (0, 0), `scale` the pixels per body height."""
    start, along, widths, outline = _outline(tube, scale, origin)
    length, reach = abs(along), max(widths) if tube.round else 1.0
    xs, ys = [z.real for z in outline], [z.imag for z in outline]
    left, top = math.floor(min(xs) - reach), math.floor(min(ys) - reach)
    mask = Image.new("L", (math.ceil(max(xs) + reach) - left + 1, math.ceil(max(ys) + reach) - top + 1))
    pen = ImageDraw.Draw(mask)
    pen.polygon([(x - left, y - top) for x, y in zip(xs, ys, strict=True)], fill=255)
    corner = complex(left, top)
    if tube.round:
        for z, r in ((start - corner, widths[0]), (start + along - corner, widths[-1])):
            pen.ellipse((z.real - r, z.imag - r, z.real + r, z.imag + r), fill=255)
    # Output pixel -> texture pixel; across runs over the widest station.
    margin = 1.1 * reach / length
    x, y = -1j * along / length * 24 / (max(widths) * 1.03 + 0.5), along / length * 64 / (length * (1 + 2 * margin))
    shift = start - corner
    affine = (
        x.real,
        x.imag,
        24 - (x.conjugate() * shift).real,
        y.real,
        y.imag,
        64 * margin / (1 + 2 * margin) - (y.conjugate() * shift).real,
    )
    patch = _wrapped(tube, shading, margin).transform(
        mask.size, Image.Transform.AFFINE, affine, Image.Resampling.NEAREST
    )
    canvas.paste(patch, (left, top), mask)


def _backdrop(camera: Camera, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A random part of the scene, "LA" of the given (width, height)."""
    width, height = size
    zoom = rng.uniform(0.75, 1.0)
    x = rng.uniform(0, camera.scene.width - width * zoom)
    y = rng.uniform(0, height * (1 - zoom))
    return camera.scene.resize(size, Image.Resampling.NEAREST, (x, y, x + width * zoom, y + height * zoom))


def _place(camera: Camera, rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, complex]:
    """Pixels per body height, and the pixel x + iy between the feet."""
    width, height = size
    scale = min(height, 2 * width) * rng.uniform(*camera.scale)
    return scale, complex(width * (0.5 + rng.normal(0, 0.028)), height * rng.uniform(0.93, 0.985))


def _develop(camera: Camera, levels: Image.Image, shade: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Lighting, blur and noise of the sensor: fully lit grey levels and shade -> uint8 of the same size."""
    if camera.blur > 0.05:
        levels = levels.filter(ImageFilter.BoxBlur(camera.blur * levels.height / 128))
    patches = rng.uniform(0.88, 1.0, (4, 3)).astype(np.float32)
    light = Image.fromarray(patches).resize(levels.size, Image.Resampling.BILINEAR)
    light = np.asarray(light) * np.asarray(shade, np.float32) / 255
    pixels = np.asarray(levels, np.float32)
    pixels = pixels * (light if pixels.ndim == 2 else light[..., None])
    pixels += rng.standard_normal(pixels.shape, np.float32) * (camera.noise * 255)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def render(person: Identity, camera: Camera, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """An image uint8 [height, width, 3] of a visible camera, or [height, width] of an infrared one."""
    size = (SUPERSAMPLING * width, SUPERSAMPLING * height)
    canvas = _backdrop(camera, rng, size)
    scale, feet = _place(camera, rng, size)
    pose: Pose = sample_pose(rng, camera.back_share, camera.pitch)
    shading = _shading(camera.light + rng.normal(0, 0.3), camera.ambient)
    for tube in pose_body(person, pose):
        _paint(canvas, tube, scale, feet, shading)
    index, shade = canvas.split()
    colours = palette(camera, person.visible, person.infrared[rng.integers(LAMPS)], rng.uniform(0.85, 1.1))
    if camera.infrared:
        levels = index.point(colours.tolist())
    else:
        index.putpalette(colours.tobytes())
        levels = index.convert("RGB")
    return _develop(camera, levels.reduce(SUPERSAMPLING), shade.reduce(SUPERSAMPLING), rng)

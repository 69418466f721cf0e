"""From uint8 batches to normalised float ones, with per-image randomness (docs/method.md, 1).

All random numbers of a batch are one table, drawn on the CPU from an explicit generator; what follows is a function of
the table and the images, so it gives the same on every device and needs no synchronisation. On a CPU one compiled loop
does what the tensor operations below do (data/augmentation/cpu_augment.py).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.augmentation import cpu_augment as kernels
from data.augmentation.colour import box_mask, cross_channel_cutmix, shift_hue, spectrum_jitter, weighted_grayscale
from utils.images import normalise
from utils.types import Modality

PAD_GRAY = 127
TRIES = 10
HUE_TURN = 0.2
CUTMIX_AREA = (0.02, 0.33)
ERASE_AREA = (0.02, 0.30)
ASPECT = (0.3, 3.3)
COLOUR_PARTS = ("hue", "wg", "cc", "sj")


class Recipe(NamedTuple):
    """Which augmentations are on."""

    colour: frozenset[str]  # of COLOUR_PARTS; one that is off stays in the draw as "do nothing"
    flip: bool
    crop: bool
    padding: int  # pixels
    erase: bool
    cc_released: bool = False  # the released code's exchanged height and width


def augment(
    images: Tensor, modalities: Tensor, recipe: Recipe, generator: torch.Generator, own: Tensor | None = None
) -> Tensor:
    """A training batch, [B, 3, H, W] uint8 on any device -> normalised float32 on the same device.

    modalities: [B] int64, on the CPU as they come from the loader; infrared images never get the colour part.
    generator: of the CPU; a batch takes the same number of values from it whatever is switched on. own: [b] int64, the
    rows of the batch that `images` holds; they get their random numbers of the whole batch. None: all rows.
    """
    draws = Draws(len(modalities), generator, own)
    modalities = modalities if own is None else modalities[own]
    if on_cpu(images):
        return in_one_pass(images, modalities, recipe, draws)
    out = colour(images, modalities, recipe, draws)
    out = shift_window(out, recipe, draws)
    return erase(normalise(out), recipe, draws)


class Draws:
    """Uniform random numbers in [0, 1) for each image of a batch, or for its rows `own`, taken by name."""

    COLUMNS = {
        "part": 1, "fires": 1, "amounts": 4, "channels": 2, "cc_tries": 2 * TRIES, "cc_place": 2,
        "flip": 1, "window": 2, "erases": 1, "erase_tries": 2 * TRIES, "erase_place": 2,
    }  # fmt: skip

    def __init__(self, count: int, generator: torch.Generator, own: Tensor | None = None):
        widths = list(self.COLUMNS.values())
        table = torch.rand(count, sum(widths), generator=generator, dtype=torch.float64)
        table = table if own is None else table[own]
        self.columns = dict(zip(self.COLUMNS, table.split(widths, dim=1)))

    def __getitem__(self, name: str) -> Tensor:
        """[B, n] float64, or [B] where the entry has one column."""
        return self.columns[name].squeeze(1)


class Colours(NamedTuple):
    """What the colour part of each of B images would be, whether it has one or not; on the CPU."""

    turns: Tensor  # [B] float64, of the hue
    weights: Tensor  # [B, 3] float64, of the channels in a grey image
    channels: Tensor  # [B, 2] int64, two different ones
    keep: Tensor  # [B] float64, of the image in a spectrum jitter
    patches: Tensor  # [B, 4] int64, rectangles of a cutmix


def draw_colours(recipe: Recipe, draws: Draws, height: int, width: int) -> Colours:
    """Colours [B] from `draws`; which parts are switched on has no influence."""
    amounts = draws["amounts"]
    first = (draws["channels"][:, 0] * 3).long()
    other = (first + 1 + (draws["channels"][:, 1] * 2).long()) % 3
    frame = (width, height) if recipe.cc_released else (height, width)
    return Colours(
        turns=(2 * amounts[:, 0] - 1) * HUE_TURN,
        weights=amounts[:, :3] / amounts[:, :3].sum(dim=1, keepdim=True),
        channels=torch.stack([first, other], dim=1),
        keep=amounts[:, 3],
        patches=draw_boxes(draws["cc_tries"], draws["cc_place"], *frame, CUTMIX_AREA),
    )


def draw_parts(modalities: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """[B] int64, which of COLOUR_PARTS, chosen uniformly, acts on an image: with p = 0.5 on visible ones; -1: none."""
    chosen = (draws["part"] * len(COLOUR_PARTS)).long()
    on = torch.tensor([part in recipe.colour for part in COLOUR_PARTS])[chosen]
    visible = modalities == int(Modality.VISIBLE)  # torch.compile takes a tensor and an IntEnum for never equal
    return torch.where(on & (draws["fires"] < 0.5) & visible, chosen, -1)


def colour(images: Tensor, modalities: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Apply one of four colour parts to some visible images, [B, 3, H, W] uint8 -> the same shape and type.

    Each part is computed for the images that it acts on, whose number changes from batch to batch; computing all
    four for all images would keep every shape, as torch.compile likes it, and take eight times as long without it.
    """
    acting, colours = draw_parts(modalities, recipe, draws), draw_colours(recipe, draws, *images.shape[-2:])
    out = images.clone()
    for number, part in enumerate(COLOUR_PARTS):
        rows = torch.nonzero(acting == number)[:, 0]
        if len(rows):
            there = rows.to(images.device, non_blocking=True)
            given = Colours(*(values[rows].to(images.device, non_blocking=True) for values in colours))
            out[there] = _apply(part, images[there], given)
    return out


def _apply(part: str, images: Tensor, given: Colours) -> Tensor:
    if part == "hue":
        return shift_hue(images, given.turns)
    if part == "wg":
        return weighted_grayscale(images, given.weights)
    if part == "sj":
        return spectrum_jitter(images, given.channels[:, 0], given.keep)
    return cross_channel_cutmix(images, given.channels, given.patches)


def draw_boxes(tries: Tensor, place: Tensor, height: int, width: int, area: tuple[float, float]) -> Tensor:
    """Random rectangles, the first of ten tries smaller than the frame: [B, 4] int64 (top, left, height, width).

    tries: [B, 2 * TRIES] and place: [B, 2], uniform in [0, 1). The area is a uniform fraction of the frame, the aspect
    (height / width) log-uniform in ASPECT; an empty rectangle where no try fits.
    """
    fraction, aspect = tries.view(-1, 2, TRIES).unbind(1)
    pixels = (area[0] + fraction * (area[1] - area[0])) * height * width
    low, high = map(math.log, ASPECT)
    ratio = torch.exp(low + aspect * (high - low))
    tall, wide = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.long().argmax(dim=1, keepdim=True)
    tall, wide = ((side * fits).gather(1, first)[:, 0] for side in (tall, wide))
    top = (place[:, 0] * (height - tall + 1)).floor()
    left = (place[:, 1] * (width - wide + 1)).floor()
    return torch.stack([top, left, tall, wide], dim=1).long()


def draw_windows(recipe: Recipe, draws: Draws) -> tuple[int, Tensor, Tensor]:
    """Padding; corners [B, 2] int64 of the windows in the padded images; which images are flipped, [B] bool."""
    padding = recipe.padding if recipe.crop else 0
    return padding, (draws["window"] * (2 * padding + 1)).long(), (draws["flip"] < 0.5) & recipe.flip


def shift_window(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Flip (p = 0.5), pad with grey and crop a random window, in one gather: [B, 3, H, W] uint8 -> the same."""
    height, width = images.shape[-2:]
    padding, offsets, flips = draw_windows(recipe, draws)
    rows = torch.arange(height) + offsets[:, :1]
    columns = torch.arange(width) + offsets[:, 1:]
    columns = torch.where(flips[:, None], width + 2 * padding - 1 - columns, columns)
    padded = F.pad(images, (padding,) * 4, value=PAD_GRAY)
    rows, columns = (index.to(images.device, non_blocking=True) for index in (rows, columns))
    rows = rows[:, None, :, None].expand(-1, 3, -1, padded.shape[-1])
    columns = columns[:, None, None, :].expand(-1, 3, height, -1)
    return padded.gather(2, rows).gather(3, columns)


def draw_erased(recipe: Recipe, draws: Draws, height: int, width: int) -> Tensor:
    """[B, 4] int64, the rectangle that is erased with p = 0.5; empty ones where none is."""
    boxes = draw_boxes(draws["erase_tries"], draws["erase_place"], height, width, ERASE_AREA)
    return boxes * ((draws["erases"] < 0.5) & recipe.erase)[:, None]


def erase(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Set a rectangle of each normalised image to 0: [B, 3, H, W] float32, boxes [B, 4] int64 -> [B, 3, H, W]."""
    if not recipe.erase:
        return images
    boxes = draw_erased(recipe, draws, *images.shape[-2:]).to(images.device, non_blocking=True)
    return images.masked_fill(box_mask(boxes, *images.shape[-2:]), 0)


def on_cpu(images: Tensor) -> bool:
    """Whether the compiled loop can take these images."""
    return images.device.type == "cpu" and not torch.compiler.is_compiling()


def in_one_pass(images: Tensor, modalities: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """What `augment` does, by the compiled loop: [B, 3, H, W] uint8 -> float32, with the same bits."""
    height, width = images.shape[-2:]
    colours, acting = draw_colours(recipe, draws, height, width), draw_parts(modalities, recipe, draws)
    colours = colours._replace(turns=colours.turns.float(), keep=colours.keep.float())
    padding, offsets, flips = draw_windows(recipe, draws)
    levels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    tables = (acting, *colours, offsets, flips, draw_erased(recipe, draws, height, width))
    # numpy's memory: it requests large pages, which the system provides several times faster than torch's small ones.
    out = np.empty(images.shape, np.float32)
    kernels.augment_images(
        images.contiguous().numpy(),
        *(table.contiguous().numpy() for table in tables),
        padding,
        PAD_GRAY,
        normalise(levels)[0, :, 0].contiguous().numpy(),
        out,
    )
    return torch.from_numpy(out)

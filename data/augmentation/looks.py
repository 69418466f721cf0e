"""Several looks at each record: the augmentations of the two-stream family (AGW, CAJ, MCLNet, DEEN, IV-REID, DJANet).

A look is grey, brightness, a padded window, flip, normalisation, erasing and a mixing of channels, in this order.
Random numbers are one table for each look, drawn on the CPU for the whole batch, whatever is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.augmentation import cpu_looks as look_kernels
from data.augmentation.colour import box_mask
from data.augmentation.mcja import on_cpu
from utils.device import constant
from utils.images import normalise
from utils.types import Batch, Modality, Views

LUMA = (0.2989, 0.5870, 0.1140)  # of a normalised image
LUMA_8_BIT = (19595.0, 38470.0, 7471.0)  # of a uint8 image, in 65536ths, as PIL rounds them
TRIES = 100
COLUMNS = 13 + 2 * TRIES  # random numbers of one look at one record
RATIO = 0.3  # the smallest height / width of an erased rectangle, and the inverse of the largest
SCALES = (0.02, 1.0)  # of a channel in "scaled"
CHANCE = 0.5  # of the second decision of "adaptive", "reduced" and "scaled"
# What mixes the channels of the normalised image: nothing; one channel copied to all; that, or luma or nothing (1 in 8
# each); green copied to all (1 in 2), or luma or nothing; each channel times its own factor (1 in 2).
MIXINGS = ("same", "exchange", "adaptive", "reduced", "scaled")


class Erasing(NamedTuple):
    """A rectangle of a constant in each channel of the normalised image."""

    area: tuple[float, float] = (0.02, 0.4)  # share of the image
    fill: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    chance: float = 0.5


class Look(NamedTuple):
    """How one view of a record comes about."""

    stream: int  # the entrance of the network that it takes
    grey: float = 0.0  # chance that the image is grey
    brightness: float = 0.0  # how far its factor may be from 1
    erasing: Erasing | None = None
    mixing: str = "same"  # of MIXINGS


class Looks(NamedTuple):
    """The looks at the records of each modality."""

    visible: tuple[Look, ...]
    infrared: tuple[Look, ...]
    padding: int = 10  # black pixels on each side before the crop
    flip: bool = True


class Choices(NamedTuple):
    """What happens to each of n images of one look."""

    grey: Tensor  # [n] bool
    brightness: Tensor  # [n] float32
    corners: Tensor  # [n, 2] int64, (row, column) of the window in the padded image
    flips: Tensor  # [n] bool, after the crop
    boxes: Tensor  # [n, 4] int64 (top, left, height, width), empty where nothing is erased
    mixing: Tensor  # [n, 3, 3] float32, new channels of old ones


class Block(NamedTuple):
    """The images of one look."""

    picks: Tensor  # [n] int64, which of the batch's
    choices: Choices
    erasing: Erasing | None


def make_views(batch: Batch, looks: Looks, generator: torch.Generator) -> Views:
    """Look by look: the visible records' looks, then the infrared ones'. generator: of the CPU.

    In a process that has the images of some records only, the views of those are what they are in the whole batch.
    """
    blocks, rows, streams = [], [], []
    held = torch.arange(len(batch.pids)) if batch.own is None else batch.own
    place = torch.full((len(batch.pids),), -1).scatter(0, held, torch.arange(len(held)))
    for modality, each in ((Modality.VISIBLE, looks.visible), (Modality.INFRARED, looks.infrared)):
        records = (batch.modalities == modality).nonzero()[:, 0]
        for look in each:
            table = torch.rand(len(records), COLUMNS, generator=generator, dtype=torch.float64)
            there = place[records] >= 0
            choices = choose(look, looks, table[there], *batch.images.shape[-2:])
            blocks.append(Block(place[records][there], choices, look.erasing))
            rows.append(records)
            streams.append(torch.full_like(records, look.stream))
    shown = in_one_pass if on_cpu(batch.images) else by_tensors
    return Views(shown(batch.images, blocks, looks.padding), torch.cat(rows), torch.cat(streams))


def choose(look: Look, looks: Looks, table: Tensor, height: int, width: int) -> Choices:
    """From uniform random numbers, [n, COLUMNS] float64 in [0, 1)."""
    grey, bright, flip, erases, which, fires = table[:, :6].unbind(1)
    corner, place, scales, tries = table[:, 6:].split([2, 2, 3, 2 * TRIES], dim=1)
    boxes = torch.zeros(len(table), 4, dtype=torch.int64)
    if look.erasing is not None:
        low, high = look.erasing.area
        fraction, ratio = tries.view(-1, 2, TRIES).unbind(1)
        boxes = rectangles(low + fraction * (high - low), RATIO + ratio * (1 / RATIO - RATIO), place, height, width)
        boxes = boxes * (erases <= look.erasing.chance)[:, None]
    return Choices(
        grey=grey < look.grey,
        brightness=(1 + look.brightness * (2 * bright - 1)).float(),
        corners=(corner * (2 * looks.padding + 1)).long(),
        flips=(flip < 0.5) & looks.flip,
        boxes=boxes,
        mixing=mixing(look.mixing, which, fires <= CHANCE, SCALES[0] + scales * (SCALES[1] - SCALES[0])),
    )


def rectangles(fraction: Tensor, ratio: Tensor, place: Tensor, height: int, width: int) -> Tensor:
    """The first try that is smaller than the image, [n, 4] int64 (top, left, height, width); empty where none is.

    fraction: [n, tries], of the image's area; ratio: [n, tries], height / width; place: [n, 2] in [0, 1).
    """
    pixels = fraction * height * width
    tall, wide = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.long().argmax(dim=1, keepdim=True)
    tall, wide = ((side * fits).gather(1, first)[:, 0] for side in (tall, wide))
    top, left = ((place[:, 0] * (height - tall + 1)).floor(), (place[:, 1] * (width - wide + 1)).floor())
    return torch.stack([top, left, tall, wide], dim=1).long()


def mixing(kind: str, which: Tensor, fires: Tensor, scales: Tensor) -> Tensor:
    """[n, 3, 3] float32. which: [n] in [0, 1), the first decision; fires: [n] bool, the second; scales: [n, 3]."""
    same, luma = torch.eye(3), torch.tensor(LUMA).expand(3, 3)
    copies = torch.eye(3)[:, None].expand(3, 3, 3)  # all channels are the first, the second, the third
    second = torch.where(fires[:, None, None], luma, same)
    if kind == "exchange":
        return copies[(which * 3).long()]
    if kind == "adaptive":
        number = (which * 4).long()[:, None, None]
        return torch.where(number < 3, copies[number[:, 0, 0].clamp(max=2)], second)
    if kind == "reduced":
        return torch.where((which < 0.5)[:, None, None], copies[1], second)
    if kind == "scaled":
        return torch.where(fires[:, None, None], torch.diag_embed(scales.float()), same)
    return same.expand(len(which), 3, 3)


def by_tensors(images: Tensor, blocks: Sequence[Block], padding: int) -> Tensor:
    """[B, 3, H, W] uint8 -> the looks of all blocks, float32, normalised, on the images' device."""
    out = []
    for picks, choices, erasing in blocks:
        there = Choices(*(part.to(images.device, non_blocking=True) for part in choices))
        out.append(appear(images[picks.to(images.device, non_blocking=True)], there, padding, erasing))
    return torch.cat(out)


def appear(images: Tensor, choices: Choices, padding: int, erasing: Erasing | None = None) -> Tensor:
    """[n, 3, H, W] uint8 -> one look at each, float32, normalised."""
    out = brightened(greyed(images, choices.grey), choices.brightness)
    out = normalise(window(out, choices.corners, choices.flips, padding))
    if erasing is not None:
        fill = constant(erasing.fill, images.device).view(3, 1, 1)
        out = torch.where(box_mask(choices.boxes, *out.shape[-2:]), fill, out)
    # Three sums instead of a matrix product, whose precision a GPU may lower.
    return sum(choices.mixing[:, :, c, None, None] * out[:, c, None] for c in range(3))


def greyed(images: Tensor, chosen: Tensor) -> Tensor:
    """The chosen images in PIL's luma: [n, 3, H, W] uint8, [n] bool."""
    weights = constant(LUMA_8_BIT, images.device).int().view(3, 1, 1)
    luma = ((images.int() * weights).sum(dim=1, keepdim=True) + 2**15) >> 16
    return torch.where(chosen[:, None, None, None], luma.to(torch.uint8), images)


def brightened(images: Tensor, factors: Tensor) -> Tensor:
    """Each image times its factor, fractions cut off as PIL does: [n, 3, H, W] uint8, [n] float32."""
    return (images.float() * factors[:, None, None, None]).clamp(max=255).to(torch.uint8)


def window(images: Tensor, corners: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pad with black, cut a window, mirror some, in one gather: [n, 3, H, W] -> [n, 3, H, W]."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding,) * 4)
    rows = torch.arange(height, device=images.device) + corners[:, :1]
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = torch.where(flips[:, None], width - 1 - columns, columns) + corners[:, 1:]
    rows = rows[:, None, :, None].expand(-1, 3, -1, padded.shape[-1])
    return padded.gather(2, rows).gather(3, columns[:, None, None, :].expand(-1, 3, height, -1))


def in_one_pass(images: Tensor, blocks: Sequence[Block], padding: int) -> Tensor:
    """What `by_tensors` does, by the compiled loop: [B, 3, H, W] uint8 -> [R, 3, H, W] float32, with the same bits."""
    levels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    values = normalise(levels)[0, :, 0].contiguous().numpy()
    # numpy's memory: it requests large pages, which the system provides several times faster than torch's small ones.
    out = np.empty((sum(len(block.picks) for block in blocks), *images.shape[1:]), np.float32)
    source, start = images.contiguous().numpy(), 0
    for picks, choices, erasing in blocks:
        stop = start + len(picks)
        tables = [part.contiguous().numpy() for part in (picks, *choices)]
        fill = np.array(erasing.fill if erasing else (0, 0, 0), np.float32)
        look_kernels.appear(source, *tables, fill, padding, values, out[start:stop])
        start = stop
    return torch.from_numpy(out)

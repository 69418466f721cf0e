"""Visible-Infrared Modality Coordinator: colour augmentations of visible images (MCJA paper; docs/method.md, 1).

Pure functions of batches, [B, 3, H, W] uint8 -> [B, 3, H, W] uint8, with one set of parameters per image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from utils.device import constant


def weighted_grayscale(images: Tensor, weights: Tensor) -> Tensor:
    """WG: grey = w_r R + w_g G + w_b B, truncated to 8 bits. weights: [B, 3] float, each row summing to at most 1."""
    # float64, because a sum that reaches a whole number must not fall below it before the truncation
    weighted = images.double() * weights.double()[:, :, None, None]
    return _gray(weighted.sum(dim=1).to(torch.uint8))


def cross_channel_cutmix(images: Tensor, channels: Tensor, boxes: Tensor) -> Tensor:
    """CC: channel b with a rectangle of channel f in it, as grey.

    channels: [B, 2] int64, (b, f). boxes: [B, 4] int64, (top, left, height, width); what leaves the image is lost.
    """
    background, foreground = (select_channel(images, channels[:, part]) for part in (0, 1))
    return torch.where(box_mask(boxes, *images.shape[-2:]), foreground, background)


def spectrum_jitter(images: Tensor, channel: Tensor, keep: Tensor) -> Tensor:
    """SJ: (1 - a) * grey image of one channel + a * image, truncated to 8 bits. channel: [B] int64; keep (a): [B]."""
    gray = select_channel(images, channel).float()
    return (gray + keep.float()[:, None, None, None] * (images.float() - gray)).to(torch.uint8)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn every pixel's hue by `shift` [B] (1 = a full turn), keeping HSV saturation and value."""
    rgb = images.float()
    value, brightest = rgb.max(dim=1)
    chroma = value - rgb.amin(dim=1)
    # the hue, in sixths of a turn, from the two channels that follow the brightest one
    after, before = ((brightest + step) % 3 for step in (1, 2))
    slope = (_at(rgb, after) - _at(rgb, before)) / chroma.clamp(min=1)
    hue = 2 * brightest + slope + 6 * shift.float()[:, None, None]
    offsets = constant((5.0, 3.0, 1.0), images.device)[:, None, None]
    sector = (hue[:, None] + offsets) % 6
    drop = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return (value[:, None] - chroma[:, None] * drop + 0.5).to(torch.uint8)


def select_channel(images: Tensor, channel: Tensor) -> Tensor:
    """Channel `channel` [B] int64 of each image, copied to three: its spectrum as a grey image."""
    return _gray(images[torch.arange(len(images), device=images.device), channel])


def spectra(images: Tensor) -> list[Tensor]:
    """The four spectra that MSER compares, each [B, 3, H, W] uint8: the images, and R, G and B as grey images."""
    return [images, *(images[:, c : c + 1].expand_as(images) for c in range(3))]


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """[B, 4] int64 (top, left, height, width) -> [B, 1, H, W] bool, True inside."""
    top, left, tall, wide = (column[:, None] for column in boxes.unbind(1))
    rows, columns = (torch.arange(size, device=boxes.device) for size in (height, width))
    inside_rows = (rows >= top) & (rows < top + tall)
    inside_columns = (columns >= left) & (columns < left + wide)
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def _gray(plane: Tensor) -> Tensor:
    return plane[:, None].expand(-1, 3, -1, -1)


def _at(images: Tensor, channel: Tensor) -> Tensor:
    """The value of `channel` [B, H, W] at every pixel."""
    return images.gather(1, channel[:, None])[:, 0]

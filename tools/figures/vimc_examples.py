"""What the visible-infrared modality coordinator (VIMC) makes of one visible image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from data.augmentation.colour import cross_channel_cutmix, spectrum_jitter, weighted_grayscale
from data.augmentation.mcja import Draws, Recipe, draw_colours
from tools.figures.style import CLOSE, new_figure, show_image, styled

DRAWS = 6
IMAGE_WIDTH = 0.85  # inches of its width
CHANNELS = "RGB"


class Operation(NamedTuple):
    """One operation on one image, drawn several times."""

    name: str
    images: np.ndarray  # [n, H, W, 3] uint8
    parameters: Sequence[str]  # what was drawn, for each


def operations(image: Tensor, recipe: Recipe, seed: int, count: int = DRAWS) -> list[Operation]:
    """The three operations, `count` times each, with random draws as in training; [3, H, W] uint8, visible."""
    images = image.expand(count, *image.shape)
    draws = Draws(count, torch.Generator().manual_seed(seed))
    drawn = draw_colours(recipe, draws, *image.shape[1:])
    pairs = [[CHANNELS[channel] for channel in pair] for pair in drawn.channels.tolist()]
    return [
        Operation(
            "Weighted grayscale: a random mixture of R, G and B (below: shares, %)",
            pixels(weighted_grayscale(images, drawn.weights)),
            ["{:.0f} : {:.0f} : {:.0f}".format(*shares) for shares in (100 * drawn.weights).tolist()],
        ),
        Operation(
            "Cross-channel cutmix: a rectangle of one channel in another channel",
            pixels(cross_channel_cutmix(images, drawn.channels, drawn.patches)),
            [f"{inner} in {outer}" for outer, inner in pairs],
        ),
        Operation(
            "Spectrum jitter: (1 - a) of one channel, a of the image",
            pixels(spectrum_jitter(images, drawn.channels[:, 0], drawn.keep)),
            [f"{channel}, a = {keep:.2f}" for (channel, _), keep in zip(pairs, drawn.keep.tolist())],
        ),
    ]


def pixels(images: Tensor) -> np.ndarray:
    """[..., 3, H, W] uint8 -> [..., H, W, 3] uint8, as images are shown."""
    return images.movedim(-3, -1).cpu().numpy()


@styled
def vimc_figure(original: np.ndarray, shown: Sequence[Operation]) -> Figure:
    """The image, [H, W, 3] uint8, and a row for each operation with what was drawn under each result."""
    height, width = original.shape[:2]
    columns = 1 + len(shown[0].images)
    figure = new_figure(len(shown) * (0.6 + IMAGE_WIDTH * height / width), columns * (IMAGE_WIDTH + 0.1), CLOSE)
    for part, operation in zip(figure.subfigures(len(shown), 1), shown):
        part.suptitle(operation.name, x=0.01, ha="left")
        panels = part.subplots(1, columns)
        show_image(panels[0], original)
        panels[0].set_xlabel("original")
        for axes, image, parameters in zip(panels[1:], operation.images, operation.parameters):
            show_image(axes, image)
            axes.set_xlabel(parameters)
    return figure

"""Where the masks of the modality distribution adapters look, laid over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor, nn

from models.modules.mda import ModalityDistributionAdapter
from tools.figures.style import CLOSE, TEXT, WIDTH, new_figure, show_image, styled

MOST_MASKS = 4  # of one adapter


def collect_masks(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    """The masks of each stage's last adapter for normalised images [N, 3, H, W]: {"stage s": [N, M, h, w] float32}.

    {} for a model without adapters. Each map sums to 1. The model's mode is kept.
    """
    found: dict[str, np.ndarray] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, ModalityDistributionAdapter):
            stage = "stage " + name.split(".")[0].removeprefix("MDA_")  # a later adapter of the stage takes its place
            hooks.append(module.sc_conv.register_forward_hook(partial(_keep, found, stage)))
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@styled
def masks_figure(images: np.ndarray, names: Sequence[str], masks: Mapping[str, np.ndarray]) -> Figure:
    """A row for each image: itself, then every mask of every adapter over it.

    images: [N, H, W, 3] uint8. names: of the images. masks: {adapter's name: [N, M, h, w] float}, each map summing to
    1; the first `MOST_MASKS` are shown, as multiples of a uniform mask's value.
    """
    shown = [
        (f"{name}\nmask {m + 1}", relative(maps[:, m]))
        for name, maps in masks.items()
        for m in range(min(MOST_MASKS, maps.shape[1]))
    ]
    top = max(float(values.max()) for _, values in shown)
    height, width = images.shape[1:3]
    columns = 1 + len(shown)
    size = min(0.85, (WIDTH - 1.3) / columns - 0.05)  # inches of an image's width
    figure = new_figure(0.6 + len(images) * (0.2 + size * height / width), 1.3 + columns * (size + 0.05), CLOSE)
    panels = figure.subplots(len(images), columns, squeeze=False)
    for row, (image, name) in enumerate(zip(images, names)):
        show_image(panels[row, 0], image)
        panels[row, 0].set_ylabel(name)
        for axes, (_, values) in zip(panels[row, 1:], shown):
            layer = overlay(axes, image, values[row], top)
    for axes, title in zip(panels[0], ["image", *(title for title, _ in shown)]):
        axes.set_title(title, fontsize=TEXT)
    draw_bar(figure, panels[:, 1:], layer, top)
    return figure


def draw_bar(figure: Figure, panels: np.ndarray, layer: AxesImage, top: float) -> None:
    """A colour bar that shows each weight as it looks over dark (left) to bright (right) parts of an image."""
    bar = figure.colorbar(layer, ax=panels, shrink=0.7, pad=0.02, aspect=12)
    bar.solids.remove()
    place = {"extent": (0, 1, 0, top), "aspect": "auto", "origin": "lower"}
    bar.ax.imshow(soft(np.linspace(0, 255, 64))[None], cmap="gray", vmin=0, vmax=255, **place)
    bar.ax.imshow(np.linspace(0, top, 256)[:, None], cmap=layer.cmap, norm=layer.norm, **place)
    bar.ax.grid(False)
    bar.set_label("weight, in multiples of a uniform mask's")


def soft(grey: np.ndarray) -> np.ndarray:
    """Grey values [H, W] in 0..255 with less contrast, so that the colours over them stay apart."""
    return 60 + 0.6 * grey


def relative(masks: np.ndarray) -> np.ndarray:
    """Masks [..., h, w], each summing to 1, as multiples of the uniform mask's value 1 / (h w)."""
    return masks * masks.shape[-2] * masks.shape[-1]


def glow() -> ListedColormap:
    """From transparent to bright: where a weight is small, the image is seen."""
    colours = matplotlib.colormaps["plasma"](np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(0, 0.85, 256)
    return ListedColormap(colours)


def overlay(axes: Axes, image: np.ndarray, values: np.ndarray, top: float) -> AxesImage:
    """The image in grey [H, W, 3] with values [h, w] in 0..top over it; returns the layer of values."""
    height, width = image.shape[:2]
    show_image(axes, soft(image.mean(axis=2)), cmap="gray", vmin=0, vmax=255)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    return axes.imshow(values, cmap=glow(), vmin=0, vmax=top, extent=extent, interpolation="nearest")


def _keep(found: dict[str, np.ndarray], stage: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    """A forward hook: what the adapter makes of its convolution's output."""
    found[stage] = output.flatten(2).softmax(dim=2).view_as(output).float().cpu().numpy()

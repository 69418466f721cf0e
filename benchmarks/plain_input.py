"""Training images the way they are usually prepared: one at a time, PIL images through a chain of transforms."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from data.augmentation.mcja import ASPECT, CUTMIX_AREA, ERASE_AREA, HUE_TURN, PAD_GRAY, TRIES
from utils.images import IMAGENET_MEAN, IMAGENET_STD

PADDING = 10


def load(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def resize(size: tuple[int, int]) -> T.Resize:
    return T.Resize(size)


def augmentation(size: tuple[int, int]) -> Callable[[Image.Image], Tensor]:
    """What follows the resize in training, for visible images."""
    colour = (T.ColorJitter(hue=HUE_TURN), weighted_grayscale, cross_channel_cutmix, spectrum_jitter)
    return T.Compose([
        T.RandomChoice([T.RandomApply([part], p=0.5) for part in colour]),
        T.RandomHorizontalFlip(),
        T.Pad(PADDING, fill=PAD_GRAY),
        T.RandomCrop(size),
        T.ToTensor(),
        T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        T.RandomErasing(p=0.5, scale=ERASE_AREA, ratio=ASPECT),
    ])  # fmt: skip


def batch(paths: Sequence[str], size: tuple[int, int]) -> Tensor:
    """[B, 3, H, W] float32."""
    return torch.stack([T.Compose([resize(size), augmentation(size)])(load(path)) for path in paths])


def weighted_grayscale(image: Image.Image) -> Image.Image:
    weights = np.random.rand(3)
    return gray((np.asarray(image) * (weights / weights.sum())).sum(axis=2).astype(np.uint8))


def cross_channel_cutmix(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    back, front = random.sample(range(3), 2)
    out = pixels[:, :, back].copy()
    top, left, tall, wide = rectangle(*out.shape)
    out[top : top + tall, left : left + wide] = pixels[top : top + tall, left : left + wide, front]
    return gray(out)


def spectrum_jitter(image: Image.Image) -> Image.Image:
    return Image.blend(gray(np.asarray(image)[:, :, random.randrange(3)]), image, random.random())


def rectangle(height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width), drawn anew until it fits, ten times at most."""
    for _ in range(TRIES):
        area = random.uniform(*CUTMIX_AREA) * height * width
        ratio = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if tall < height and wide < width:
            return random.randint(0, height - tall), random.randint(0, width - wide), tall, wide
    return 0, 0, 0, 0


def gray(plane: np.ndarray) -> Image.Image:
    """[H, W] uint8 -> an RGB image of three equal channels."""
    return Image.fromarray(np.stack([plane] * 3, axis=2))

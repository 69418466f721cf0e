"""From uint8 images to what networks take."""

from __future__ import annotations

from torch import Tensor

from utils.device import constant

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """[B, 3, H, W] uint8 -> float32, scaled to [0, 1] and normalised with ImageNet's mean and deviation."""
    mean, std = (constant(values, images.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return images.float().div_(255).sub_(mean).div_(std)

"""The looks of data/augmentation/looks.py on a CPU, with the same bits, by numba: images are read and written once."""

from __future__ import annotations

import numpy as np

from data.augmentation.cpu_augment import shift_window
from utils.compiled import compiled


@compiled
def appear(images, picks, grey, brightness, corners, flips, boxes, mixing, fill, padding, table, out):
    """images [B, 3, H, W] uint8, picks [n] of them -> out [n, 3, H, W] float32; the rest as looks.Choices.

    table: [3, 256] float32, the value of each pixel, normalised.
    """
    scratch = np.empty_like(images[0])
    for n in range(len(picks)):
        source = images[picks[n]]
        if grey[n] or brightness[n] != 1:
            recolour(source, grey[n], brightness[n], scratch)
            source = scratch
        down, right = corners[n, 0] - padding, corners[n, 1] - padding
        top, left, tall, wide = boxes[n]
        for c in range(3):
            # A mirrored window is the window of the mirrored image on the other side.
            shift_window(source[c], down, -right if flips[n] else right, flips[n], 0, table[c], out[n, c])
            out[n, c, top : top + tall, left : left + wide] = fill[c]
        mix(mixing[n], out[n])


@compiled
def recolour(source, grey, brightness, out):
    """PIL's luma and brightness of one image, [3, H, W] uint8."""
    for y in range(source.shape[1]):
        for x in range(source.shape[2]):
            red, green, blue = np.int32(source[0, y, x]), np.int32(source[1, y, x]), np.int32(source[2, y, x])
            if grey:
                red = green = blue = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
            out[0, y, x] = np.uint8(min(np.float32(red) * brightness, np.float32(255)))
            out[1, y, x] = np.uint8(min(np.float32(green) * brightness, np.float32(255)))
            out[2, y, x] = np.uint8(min(np.float32(blue) * brightness, np.float32(255)))


@compiled
def mix(matrix, image):
    """New channels of old ones, in place: [3, 3], [3, H, W] float32."""
    if (
        matrix[0, 0] == 1 and matrix[1, 1] == 1 and matrix[2, 2] == 1
        and matrix[0, 1] == 0 and matrix[0, 2] == 0 and matrix[1, 0] == 0
    ):  # fmt: skip
        return
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            first, second, third = image[0, y, x], image[1, y, x], image[2, y, x]
            for c in range(3):
                image[c, y, x] = (matrix[c, 0] * first + matrix[c, 1] * second) + matrix[c, 2] * third

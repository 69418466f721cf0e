"""The augmentation of a batch on a CPU, compiled by numba: every image is read once and written once.

data/augmentation/mcja.py does the same by tensor operations, which go through the whole batch in memory again and
again; both give the same bits.
"""

from __future__ import annotations

import numpy as np

from utils.compiled import compiled

HUE, WG, CC, SJ = range(4)  # in the order of COLOUR_PARTS of data/augmentation/mcja.py


@compiled
def augment_images(
    images, part, turns, weights, channels, keep, patches, offsets, flips, erased, padding, grey, table, out
):
    """images [B, 3, H, W] uint8 -> out [B, 3, H, W] float32.

    part [B] int64: HUE to SJ, below 0 for none; turns, keep [B] float32, weights [B, 3] float64, channels [B, 2] and
    patches, erased [B, 4] int64: as data/augmentation/colour.py takes them; offsets [B, 2] int64: of the window in the
    padded image; flips [B] bool; grey: of the padding; table [3, 256] float32: the value of each pixel, normalised.
    """
    scratch = np.empty_like(images[0])
    for b in range(len(images)):
        source = images[b]
        if part[b] >= 0:
            recolour(source, part[b], turns[b], weights[b], channels[b], keep[b], patches[b], scratch)
            source = scratch
        down, right = offsets[b, 0] - padding, offsets[b, 1] - padding
        top, left, tall, wide = erased[b]
        for c in range(3):
            shift_window(source[c], down, right, flips[b], grey, table[c], out[b, c])
            out[b, c, top : top + tall, left : left + wide] = 0


@compiled
def recolour(source, part, turn, weights, channels, keep, patch, out):
    """One colour part on one image, [3, H, W] uint8."""
    if part == HUE:
        shift_hue(source, turn, out)
    elif part == WG:
        weighted_grayscale(source, weights, out)
    elif part == SJ:
        spectrum_jitter(source, source[channels[0]], keep, out)
    else:
        cross_channel_cutmix(source[channels[0]], source[channels[1]], patch, out)


@compiled
def shift_hue(source, turn, out):
    """|turn| below a third of a turn. The operations have the order of colour.shift_hue, for the same bits."""
    half, one, two, four, six = np.float32(0.5), np.float32(1), np.float32(2), np.float32(4), np.float32(6)
    shift = six * turn
    for y in range(source.shape[1]):
        for x in range(source.shape[2]):
            red, green, blue = np.float32(source[0, y, x]), np.float32(source[1, y, x]), np.float32(source[2, y, x])
            value, least = max(red, green, blue), min(red, green, blue)
            chroma = value - least
            if red == value:
                brightest, difference = np.float32(0), green - blue
            elif green == value:
                brightest, difference = two, blue - red
            else:
                brightest, difference = four, red - green
            hue = brightest + difference / max(chroma, one) + shift
            for c in range(3):
                sector = hue + np.float32(5 - 2 * c)
                # modulo six
                if sector < 0:
                    sector += six
                elif sector >= six:
                    sector -= six
                drop = min(max(min(sector, four - sector), np.float32(0)), one)
                out[c, y, x] = np.uint8(value - chroma * drop + half)


@compiled
def weighted_grayscale(source, weights, out):
    for y in range(source.shape[1]):
        for x in range(source.shape[2]):
            red, green, blue = source[0, y, x] * weights[0], source[1, y, x] * weights[1], source[2, y, x] * weights[2]
            out[0, y, x] = out[1, y, x] = out[2, y, x] = np.uint8(red + green + blue)


@compiled
def cross_channel_cutmix(back, front, patch, out):
    top, left, tall, wide = patch
    for c in range(3):
        out[c] = back
        out[c, top : top + tall, left : left + wide] = front[top : top + tall, left : left + wide]


@compiled
def spectrum_jitter(source, channel, keep, out):
    for c in range(3):
        for y in range(source.shape[1]):
            for x in range(source.shape[2]):
                gray = np.float32(channel[y, x])
                out[c, y, x] = np.uint8(gray + keep * (np.float32(source[c, y, x]) - gray))


@compiled
def shift_window(plane, down, right, flip, grey, values, out):
    """The window that lies `down` and `right` of one channel [H, W], flipped before if `flip`; grey outside of it."""
    height, width = plane.shape
    first = max(0, -right)
    last = max(first, min(width, width - right))
    for y in range(height):
        row = out[y]
        if not 0 <= y + down < height:
            row[:] = values[grey]
            continue
        row[:first], row[last:] = values[grey], values[grey]
        line, inside = plane[y + down], row[first:last]
        if flip:
            start = np.uintp(width - 1 - right - first)
            for x in range(np.uintp(len(inside))):
                inside[x] = values[line[start - x]]
        else:
            start = np.uintp(first + right)
            for x in range(np.uintp(len(inside))):
                inside[x] = values[line[start + x]]

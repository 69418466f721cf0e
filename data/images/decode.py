"""Images from disk to batches of uint8 tensors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from utils.errors import UserError, reason, shown
from utils.files import require_regular
from utils.sharding import split_by_identity
from utils.types import Batch, Record

PIXEL_LIMIT = 50_000_000  # of an image; those of a surveillance camera have a hundredth of that
BYTE_LIMIT = 256 * 2**20
BILINEAR = "bilinear"
INTERPOLATIONS = {BILINEAR: Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
ORIENTATION = 0x0112  # EXIF's number of how a camera was held


def load_image(path: str, size: tuple[int, int], interpolation: str = BILINEAR) -> Tensor:
    """Decode an image as RGB and resize it to (height, width), see `resized`: [3, H, W] uint8.

    Raises UserError naming an image that cannot be read.
    """
    return resized(decoded(path), size, interpolation)


def resized(image: Image.Image, size: tuple[int, int], interpolation: str = BILINEAR) -> Tensor:
    """An RGB image at (height, width), anti-aliased, by an interpolation of INTERPOLATIONS: [3, H, W] uint8."""
    way = INTERPOLATIONS[interpolation]
    if interpolation != BILINEAR:
        # Horizontally first, as any Pillow did when AGW was released. Later ones choose, and what overshoots is cut in
        # between.
        image = image.resize((size[1], image.height), way)
    return torch.from_numpy(np.array(image.resize(size[::-1], way))).permute(2, 0, 1)


def decoded(path: str) -> Image.Image:
    """A file's image as RGB, in its own size; see `read_image`."""
    require_regular(Path(path), BYTE_LIMIT, hint="replace the file")
    return read_image(path, shown(path), "replace the file")


def read_image(source: str | BinaryIO, name: str, hint: str, formats: Sequence[str] | None = None) -> Image.Image:
    """An image as RGB, in its own size. formats: that may be read; None for all that Pillow knows.

    One-channel images get three equal channels; those with more than 8 bits are stretched (`eight_bits`), those of a
    turned camera are turned upright. Raises UserError, which starts with `name` and ends in `hint`, for one that cannot
    be read or has too many pixels.
    """
    try:
        with _opened(source, formats) as image:
            return eight_bits(upright(image)).convert("RGB")
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a readable image (its content is of no known format); {hint}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise UserError(f"{name}: not a readable image ({reason(error)}); {hint}") from None


def eight_bits(image: Image.Image) -> Image.Image:
    """The image; one of 16 or 32 bits a pixel in 8, its darkest value as 0 and its brightest as 255.

    Thermal cameras write 16 bits and use a few thousand of the values: Pillow's own conversion makes them white, and
    the upper 8 bits alone nearly one grey. ValueError for values that are not finite.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        raise ValueError("its values are not finite")
    levels = np.rint((values - low) * (255 / max(high - low, 1e-300)))
    return Image.fromarray(levels.astype(np.uint8))


def upright(image: Image.Image) -> Image.Image:
    """The image; turned or mirrored where its EXIF data say that the camera was."""
    try:
        return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
    except Exception:  # Pillow raises many kinds on damaged EXIF data; damaged pixels are found again
        return image


def _opened(source: str | BinaryIO, formats: Sequence[str] | None = None) -> Image.Image:
    """Open an image and read its header. ValueError for one that claims more than PIXEL_LIMIT pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF data, for instance, of which nothing is shown
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # ours is one line, and comes sooner
            image = Image.open(source, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"more than {PIXEL_LIMIT / 1e6:.0f} million pixels") from None
    if image.width * image.height > PIXEL_LIMIT:
        image.close()
        raise ValueError(f"more than {PIXEL_LIMIT / 1e6:.0f} million pixels")
    return image


class Pixels(Protocol):
    """Images of one size, by their rows in a list of records, wherever they are kept."""

    def __len__(self) -> int: ...

    @property
    def image_bytes(self) -> int:
        """Of one image."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """[B] int64 on the CPU -> [B, 3, H, W] uint8, a copy."""


class ImageFiles:
    """The pixels of image files, decoded each time: kept nowhere."""

    def __init__(self, paths: Sequence[str], size: tuple[int, int], interpolation: str = BILINEAR):
        self.paths = list(paths)
        self.size = tuple(size)
        self.interpolation = interpolation

    @property
    def image_bytes(self) -> int:
        return 3 * self.size[0] * self.size[1]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.stack([load_image(self.paths[row], self.size, self.interpolation) for row in rows.tolist()])


class ImageDataset(Dataset):
    """Records as images; a loader with `collate_fn=as_it_is` gets whole `Batch`es of them.

    pixels: of these records, in their order. rank, world: with several processes, a batch has the images of this one.
    """

    def __init__(self, records: Sequence[Record], pixels: Pixels, rank: int = 0, world: int = 1):
        self.labels = torch.tensor([record[1:] for record in records], dtype=torch.int64)
        self.pixels = pixels
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> Batch:
        """A batch of the given rows; the images are where the pixels are, everything else on the CPU."""
        rows = torch.tensor(indices, dtype=torch.int64)
        pids, cameras, modalities = self.labels[rows].unbind(1)
        if self.world == 1:
            return Batch(self.pixels[rows], pids, cameras, modalities, rows)
        shares = split_by_identity(pids, self.world)
        own = shares[self.rank]
        return Batch(self.pixels[rows[own]], pids, cameras, modalities, rows, shares, own)


def as_it_is(batch: Batch) -> Batch:
    """Collate function for data that come as batches."""
    return batch

"""What a search looks among: a gallery folder, or a collection in Milvus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.embed import MODALITIES
from engine.gallery.folder import Gallery, open_gallery
from engine.gallery.milvus import Collection, connected, open_collection
from utils.errors import UserError

SHOWN = 20  # names in an error


@contextmanager
def opened(place: Path, milvus: str | None) -> Iterator[Gallery | Collection]:
    """A gallery folder, or the collection of this name, whose connection ends with the block. milvus: the URI."""
    if milvus is None:
        yield open_gallery(place)
    else:
        with connected(milvus, existing=True) as client:
            yield open_collection(client, str(place))


def rows_of(gallery: Gallery | Collection, names: set[str]) -> defaultdict[str, list[int]]:
    """The rows that each of these paths has."""
    rows = defaultdict(list)
    if isinstance(gallery, Collection):
        rows.update(gallery.rows_of(names))
        return rows
    for row, path in enumerate(gallery.paths):
        if path in names:
            rows[path].append(row)
    return rows


def absent_modality(gallery: Gallery | Collection) -> str | None:
    """The modality that no image of a folder has; None where both have some, or for a collection, which is not read."""
    there = set() if isinstance(gallery, Collection) else set(gallery.modalities)
    return MODALITIES[there.pop()].other.name.lower() if len(there) == 1 else None


def among(gallery: Gallery | Collection, modality: str | None, cameras: Sequence[str]) -> np.ndarray | str | None:
    """What a search is told of the rows that it may find: see `allowed_rows` and `Collection.condition`."""
    if isinstance(gallery, Collection):
        return gallery.condition(modality, cameras)
    return allowed_rows(gallery, modality, cameras)


def allowed_rows(gallery: Gallery, modality: str | None, cameras: Sequence[str]) -> np.ndarray | None:
    """The rows of this modality and these cameras, [N] bool; None where that is no condition.

    UserError for a camera that the gallery does not have, and where no row is left.
    """
    known = sorted(set(gallery.cameras) - {""}, key=lambda name: (len(name), name))
    for camera in cameras:
        if camera not in known:
            there = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "") or "none that is known"
            raise UserError(f"{gallery.root}: no image is of camera {camera!r}; its cameras: {there}")
    kept = [set(cameras) or None, {modality} if modality else None]
    columns = [(column, values) for column, values in zip((gallery.cameras, gallery.modalities), kept) if values]
    allowed = np.ones(len(gallery), dtype=bool)
    for column, values in columns:
        allowed &= np.fromiter((value in values for value in column), bool, len(gallery))
    if not allowed.any():
        which = f" of {' of '.join(filter(None, (modality, cameras and 'these cameras')))}" if columns else ""
        raise UserError(f"{gallery.root}: there is no image{which} to search among")
    return allowed if columns else None

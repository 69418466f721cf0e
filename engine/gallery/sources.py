"""Which images a gallery is made of: files and folders, or the test images of a data set."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data.sets import DATASETS
from data.sets.common import is_image
from data.sets.own_lists import CAMERA, SIDES, THUMBNAILS
from engine.gallery.folder import Row
from utils.errors import reason, shown
from utils.logging import logger

FROM_NAMES = "name"  # a camera that is read from the names of a file and of the two folders above it
PARENT = "parent"  # an identity that is the name of the folder an image lies in


def rows_of_files(paths: Iterable[Path], modality: str, identity: str = "", camera: str = "") -> Iterator[Row]:
    """Every image file of folders, and files as they are named. Whether one is there and readable, nobody has looked.

    modality: of all; images in a folder named after the other one are logged. identity: PARENT, or empty where nobody
    knows. camera: of all, or FROM_NAMES.
    """
    doubtful, example = 0, ""
    for path in map(os.path.abspath, paths):
        for name in walk(path) if os.path.isdir(path) else (path,):
            parts = name.split(os.sep)
            seen = camera_in(parts[:-4:-1]) if camera == FROM_NAMES else camera
            if next((part for part in reversed(parts[:-1]) if part in SIDES), modality) != modality:
                doubtful, example = doubtful + 1, example or name
            yield Row(name, parts[-2] if identity == PARENT else "", seen, modality)
    if doubtful:
        logger.warning(
            f"{doubtful} images lie in a folder named {SIDES[modality].other.name.lower()}, {shown(example)} first; "
            f"they count as {modality}, because --modality says so"
        )


def camera_in(names: Iterable[str]) -> str:
    """The camera's number in the first of the names that holds c<number> or cam<number>; empty where none does."""
    found = filter(None, map(CAMERA.search, names))
    return next((str(int(match[1])) for match in found), "")


def rows_of_dataset(name: str, root: Path, card: Mapping[str, Any]) -> Iterator[Row]:
    """The test images of a data set, visible ones first, with its own names or numbers of identities, and its cameras.

    card: of the model; of its own data set these are the images that it was not trained on. UserError as of the reader;
    what differs from the published data set is logged.
    """
    trial = card["dataset"] == name and card["trial"] or 1
    benchmark = DATASETS[name].load(str(root), trial=trial, seed=card["seed"])
    for line in benchmark.warnings:
        logger.warning(line)
    for modality, records in benchmark.test.records.items():
        for record in records:
            identity = benchmark.names[record.pid] if benchmark.names else str(record.pid)
            yield Row(os.path.abspath(record.path), identity, str(record.camera), modality.name.lower())


def walk(folder: str) -> Iterator[str]:
    """Image files in a folder and in those below it, each folder's in the order of names, hidden ones left out.

    Links to folders are followed, but never back into a folder that they lie in. Holds the names of
    one folder at each depth.
    """
    open_folders = [(_key(folder), _entries(folder))]
    while open_folders:
        for path, is_folder in open_folders[-1][1]:
            if not is_folder:
                yield path
            elif (key := _key(path)) not in [above for above, _ in open_folders]:
                open_folders.append((key, _entries(path)))
                break
        else:
            open_folders.pop()


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a folder) of the images and folders that are not hidden, by name. Warns of a shut folder."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        logger.warning(f"{shown(folder)}: cannot be read ({error.strerror or reason(error)}); left out")
        return
    for path, name in zip(map(partial(os.path.join, folder), names), names):
        if os.path.isdir(path):
            if not name.startswith(".") and name not in THUMBNAILS:
                yield path, True
        elif is_image(name):
            yield path, False


def _key(folder: str) -> tuple[int, int]:
    """What tells a folder from all others, whatever its name."""
    try:
        found = os.stat(folder)
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino


def size_of(path: str) -> int:
    """Bytes of a file; -1 for whatever is no file that can be seen."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1

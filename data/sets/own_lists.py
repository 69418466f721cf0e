"""Own images as their folders, or a file images.csv, list them. Opens no image."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from data.sets.common import SUFFIXES
from utils.errors import UserError, brief, shown
from utils.files import read_text
from utils.types import Modality

CSV = "images.csv"
COLUMNS = ("path", "identity", "camera", "modality", "part")
OPTIONAL = ("camera", "part")
PARTS = ("train", "test")
SIDES = {modality.name.lower(): modality for modality in Modality}
LAYOUT = f"train/ and test/ with visible/IDENTITY/* and infrared/IDENTITY/* in each, these two alone, or {CSV}"
THUMBNAILS = ("@eaDir", "__MACOSX")  # folders that network disks and archives put beside images
# c3, cam3 or c03 as a word of its own, also with a sequence as in 0002_c1s1_000451.jpg.
CAMERA = re.compile(r"(?<![^\W_])c(?:am)?_?([0-9]{1,4})(?=s[0-9]|[^\w]|_|$)", re.IGNORECASE)


class Listed(NamedTuple):
    """An image, as its place or its line says."""

    path: Path
    identity: str
    camera: str  # empty: not said
    modality: Modality
    part: str  # train, test, or empty: not said


def read_images(root: Path) -> tuple[list[Listed], list[str]]:
    """Every image below `root`, and what is probably not meant, a line each. UserError for a fault, with its place."""
    return read_csv(root) if (root / CSV).exists() else read_folders(root)


# -------------------------------------------------------------------------------------------------------------- folders


def read_folders(root: Path) -> tuple[list[Listed], list[str]]:
    """The images of root/PART/SIDE/IDENTITY/, or, where there is no PART, of root/SIDE/IDENTITY/."""
    parts = {part: root / part for part in PARTS if (root / part).is_dir()} or {"": root}
    sides = [(part, side, folder / side) for part, folder in parts.items() for side in SIDES]
    if not any(folder.is_dir() for *_, folder in sides):
        raise UserError(f"{shown(root)}: holds no {LAYOUT}; check data_root")
    found, lines = [], []
    if "" not in parts:
        beside = [root / side for side in SIDES if (root / side).is_dir()]
        lines += [f"{shown(folder)}: not read, because {' and '.join(parts)} are" for folder in beside]
    for part, side, folder in sides:
        if not folder.is_dir():
            raise UserError(f"{shown(folder)} is missing: own images are in {LAYOUT}")
        images = {person: images_below(person, shut=_refuse) for person in identity_folders(folder)}
        found += [Listed(path, p.name, "", SIDES[side], part) for p, own in images.items() for path in own]
        lines += oddities(folder, images)
    return found, lines


def identity_folders(folder: Path) -> list[Path]:
    """The folders of the identities, sorted. UserError for an image beside them, which belongs to nobody."""
    entries = sorted(entry for entry in folder.iterdir() if not _hidden(entry.name))
    stray = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
    if stray:
        raise UserError(
            f"{shown(stray[0])}: is in no identity's folder, and neither are {len(stray) - 1} more; move them to "
            f"{shown(folder)}/IDENTITY/, or list all images in {CSV}"
        )
    return [entry for entry in entries if entry.is_dir()]


def images_below(
    folder: Path, suffixes: Collection[str] = SUFFIXES, shut: Callable[[OSError], object] | None = None
) -> list[Path]:
    """Image files in a folder and the folders in it, sorted; hidden ones are left out, links to folders not followed.

    shut: called with the error of each folder that cannot be read; None: these are left out.
    """
    found = []
    for where, folders, names in os.walk(folder, onerror=shut):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(where, name) for name in names if Path(name).suffix.lower() in suffixes and not _hidden(name)]
    return sorted(found)


def oddities(folder: Path, images: Mapping[Path, Sequence[Path]]) -> list[str]:
    """What may be meant otherwise about the identities of one folder, a line each."""
    empty = [person for person, own in images.items() if not own]
    deeper = [path for person, own in images.items() for path in own if path.parent != person]
    lines = []
    if empty:
        lines.append(f"{shown(folder)}: {len(empty)} folders hold no image, {shown(empty[0].name)} first")
    if deeper:
        inside = deeper[0].relative_to(folder)
        lines.append(
            f"{shown(folder)}: {len(deeper)} images are in folders of an identity's folder, {shown(inside)} first; "
            f"they count as identity {shown(inside.parts[0])} there"
        )
    return lines


def _refuse(error: OSError) -> NoReturn:
    raise error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in THUMBNAILS


# ----------------------------------------------------------------------------------------------------------- images.csv


def read_csv(root: Path) -> tuple[list[Listed], list[str]]:
    """The images that root/images.csv lists, in the order of its lines."""
    path = root / CSV
    rows = csv_rows(path)
    columns, lines = read_header(path, next(rows, (1, []))[1])
    found: dict[str, tuple[int, Listed]] = {}
    for number, values in rows:
        where = f"{shown(path)}, line {number}"
        if len(values) != len(columns):
            raise UserError(
                f"{where}: has {len(values)} values, the first line {len(columns)}; quote values with commas"
            )
        image = listed(root, where, dict(zip(columns, values)))
        key = os.path.normpath(image.path)
        if key in found:
            raise UserError(f"{where}: {brief(image.path)} is listed in line {found[key][0]} already; keep one")
        found[key] = number, image
    if not found:
        raise UserError(f"{shown(path)}: lists no image; its columns are {', '.join(COLUMNS)}")
    require_parts(path, list(found.values()))
    return [image for _, image in found.values()], lines


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, values) of each row that is not empty; separated by commas, or as the header is."""
    text = read_text(path, f"save it as CSV in UTF-8, with the columns {', '.join(COLUMNS)}").removeprefix("\ufeff")
    if "\0" in text:
        line = text.partition("\0")[0].count("\n") + 1
        raise UserError(f"{shown(path)}, line {line}: holds a zero byte, which is no text; save it as CSV in UTF-8")
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, values
    except csv.Error as error:
        raise UserError(f"{shown(path)}, line {reader.line_num}: not CSV ({error}); a quote may be open") from None


def read_header(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns, and a line about those that mean nothing. UserError where one is missing or comes twice."""
    columns = [name.strip().lower() for name in names]
    missing = [name for name in COLUMNS if name not in columns and name not in OPTIONAL]
    if missing:
        raise UserError(f"{shown(path)}, line 1: has no column {', '.join(missing)}; give {', '.join(COLUMNS)}")
    for name in filter(None, columns):
        if columns.count(name) > 1:
            raise UserError(f"{shown(path)}, line 1: has the column {brief(name)} twice; keep one")
    other = [brief(name) for name in columns if name not in ("", *COLUMNS)]
    lines = [f"{shown(path)}: columns that mean nothing here: {', '.join(other)}"] if other else []
    return columns, lines


def listed(root: Path, where: str, row: Mapping[str, str]) -> Listed:
    """The image of one row, values by column."""
    name, stripped = row["path"], {column: value.strip() for column, value in row.items()}
    identity, camera, side, part = (stripped.get(column, "") for column in COLUMNS[1:])
    if not name:
        raise UserError(f"{where}: path is empty")
    if os.path.isabs(name) or Path(os.path.normpath(name)).parts[:1] == ("..",):
        raise UserError(f"{where}: path {brief(name)!r} leaves data_root; paths are relative to it")
    if not identity:
        raise UserError(f"{where}: identity is empty; give each image the name or number of its person")
    if side.lower() not in SIDES:
        raise UserError(f"{where}: modality {brief(side)!r} is unknown; choose {' or '.join(SIDES)}")
    if part.lower() not in ("", *PARTS):
        raise UserError(f"{where}: part {brief(part)!r} is unknown; choose {' or '.join(PARTS)}, or leave it out")
    if not os.path.isfile(root / name):
        raise UserError(
            f"{where}: {brief(root / name)}: no such file; paths are relative to data_root, with / between folders"
        )
    return Listed(root / name, identity, camera, SIDES[side.lower()], part.lower())


def require_parts(path: Path, found: Sequence[tuple[int, Listed]]) -> None:
    """UserError where some rows are for the test and others do not say what for. found: (line, image) of each."""
    unsaid = [number for number, image in found if not image.part]
    if unsaid and any(image.part == "test" for _, image in found):
        raise UserError(f"{shown(path)}, line {unsaid[0]}: part is empty, but other lines say test; fill all, or none")


# -------------------------------------------------------------------------------------------------------------- cameras


def camera_numbers(images: Sequence[Listed]) -> tuple[list[int], list[str]]:
    """The number of each image's camera, and a line for each modality whose names tell only most of them.

    A camera that is said counts; else the one in the file's name, if all such names of the modality hold one; else the
    modality has one camera. Whole numbers are kept; other names get the numbers above them, in sorted order.
    """
    names = [image.camera for image in images]
    rows = defaultdict(list)
    for row, image in enumerate(images):
        if not image.camera:
            rows[image.modality].append(row)
    lines = []
    for modality, own in sorted(rows.items()):
        told = {row: found[1] for row in own if (found := CAMERA.search(images[row].path.stem))}
        for row in own:
            names[row] = told[row] if len(told) == len(own) else f"\0{int(modality)}"  # no name begins like this
        if len(own) / 2 < len(told) < len(own):
            first = next(images[row].path for row in own if row not in told)
            lines.append(
                f"{len(own) - len(told)} of {len(own)} {modality.name.lower()} images have no c<number> in their name, "
                f"{shown(first)} first; all of these images count as one camera's"
            )
    numbers = {name: int(name) for name in names if re.fullmatch("[0-9]{1,9}", name)}
    others = sorted(set(names) - numbers.keys())
    numbers |= {name: number for number, name in enumerate(others, max(numbers.values(), default=0) + 1)}
    return [numbers[name] for name in names], lines

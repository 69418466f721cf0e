"""Own images: two folders of images, or a list of them (docs/own_images.md). Opens no image.

`root/{train,test}/{visible,infrared}/{identity}/*`, the same without train and test, or `root/images.csv`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.sets.common import require_folder, require_records, says_shut
from data.sets.llcm import excluded
from data.sets.own_lists import CSV, PARTS, SIDES, Listed, camera_numbers, read_images
from data.sets.regdb import divide, evaluation_split, protocol_settings
from data.sets.value import DataSet, Foreign, Listing
from utils.errors import UserError, shown
from utils.types import Benchmark, Modality, Record, Setting, Split

NO_MATCH = "no query has an image of its identity in the other modality from another camera"
REDRAW = "; another --seed draws other identities"
# What a split is called, and what to do where it has one identity.
OF_TEST = ("test", "give it more")
OF_VALIDATION = ("validation", "train on more identities, or leave `select val` out")


@says_shut
def load(root: str, trial: int = 1, hold_out: bool = False, seed: int = 0) -> Benchmark:
    """Read own images below `root`.

    An identity's number is the rank of its name among all. Where no image is for the test, a quarter of the identities
    with both modalities is, drawn with `seed`. hold_out: keep a tenth of those that are left, drawn in the same way,
    out of training as the validation split. `trial` is not used. Raises UserError for a missing or unreadable part.
    """
    folder = require_folder(root, "", "own images")
    images, lines = read_images(folder)
    cameras, unclear = camera_numbers(images)
    names = sorted({image.identity for image in images})
    number = {name: position for position, name in enumerate(names)}
    records = sorted(Record(str(i.path), number[i.identity], c, i.modality) for i, c in zip(images, cameras))
    given = {number[image.identity] for image in images if image.part == "test"}
    if given:
        require_apart(folder, images)
    tested = given or a_quarter(in_both(records), seed)
    learned = [record for record in records if record.pid not in tested]
    held = divide(in_both(learned), seed)[1] if hold_out else set()
    train = [record for record in learned if record.pid not in held]
    require_records(in_both(train), f"{shown(folder)}: no identity has visible and infrared images to train on")
    labels = {pid: label for label, pid in enumerate(sorted({record.pid for record in train}))}
    test = checked_split(folder, "folder", [r for r in records if r.pid in tested], "" if given else REDRAW)
    val = checked_split(folder, "folder-val", [r for r in learned if r.pid in held], REDRAW) if hold_out else None
    return Benchmark(
        name="folder",
        trial=None,
        num_ids=len(labels),
        train=[record._replace(pid=labels[record.pid]) for record in train],
        test=test,
        validation=val,
        excluded=excluded,
        mser=None,
        warnings=[*lines, *unclear, *weaknesses(test, *OF_TEST), *weaknesses(val, *OF_VALIDATION)],
        drawn=None if given else seed,
        names=names,
    )


def in_both(records: Iterable[Record]) -> list[int]:
    """The identities that have visible and infrared images, ascending."""
    seen = {modality: {r.pid for r in records if r.modality == modality} for modality in Modality}
    return sorted(set.intersection(*seen.values()))


def a_quarter(identities: Sequence[int], seed: int) -> set[int]:
    """Drawn with `seed`; rounded up, because a test of one identity says nothing."""
    drawn = np.random.default_rng(seed).permutation(identities)[: math.ceil(len(identities) / 4)]
    return set(drawn.tolist())


def require_apart(folder: Path, images: Sequence[Listed]) -> None:
    """UserError where an identity is trained on and tested."""
    learned = {image.identity for image in images if image.part != "test"}
    for image in images:
        if image.part == "test" and image.identity in learned:
            raise UserError(
                f"{shown(folder)}: identity {shown(image.identity)!r} is among training and test, there "
                f"{shown(image.path)}; no model may be tested on whom it was trained on: remove it from one, or give "
                "another person another name"
            )


def checked_split(folder: Path, name: str, records: Sequence[Record], way: str) -> Split:
    """All images of some identities in both directions.

    UserError, which ends in `way`, where no query can find its identity.
    """
    for modality in Modality:
        if not any(record.modality == modality for record in records):
            raise UserError(f"{shown(folder)}: no {modality.name.lower()} images to evaluate ({name}){way}")
    if not any(matched(records).values()):
        raise UserError(f"{shown(folder)}: {NO_MATCH} ({name}); docs/own_images.md says what tells cameras apart{way}")
    return evaluation_split(name, records)


def matched(records: Sequence[Record]) -> Mapping[Record, bool]:
    """Whether each image, as a query, has one of its identity in the other modality, from another camera."""
    seen: dict[tuple[int, Modality], set[int]] = {}
    for record in records:
        seen.setdefault((record.pid, record.modality), set()).add(record.camera)
    return {r: bool(seen.get((r.pid, r.modality.other), set()) - {r.camera}) for r in records}


def weaknesses(split: Split | None, name: str, way: str) -> list[str]:
    """What makes the scores of a split say less than they seem to, a line each. way: what to do about one identity."""
    if split is None:
        return []
    found = matched([*split.visible, *split.infrared])
    lacking, identities = sum(not has for has in found.values()), {record.pid for record in found}
    lines = []
    if lacking:
        lines.append(
            f"{lacking} of {len(found)} {name} images do not count as queries: they have no image of their identity in "
            "the other modality from another camera"
        )
    if len(identities) == 1:
        lines.append(f"the {name} has one identity, so every score is 100 %: {way}")
    return lines


def foreign_settings(listing: Listing, trials_file: Path | None) -> tuple[list[Setting], list[str]]:
    """Both directions, of images that a file of embeddings lists."""
    return protocol_settings("folder", *(len(listing.pids[modality]) for modality in Modality)), []


DATASET = DataSet(
    name="folder",
    label="own images",
    root="datasets/own",
    load=load,
    protocols=("folder/i2v", "folder/v2i"),
    excluded=excluded,
    foreign={"folder": Foreign(foreign_settings)},
    marks=(*PARTS, *SIDES, CSV),
)

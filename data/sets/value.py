"""A data set as a value: what can be asked about it before its folder is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.types import Benchmark, Exclusion, Modality, MserDefaults, Record, Setting


class Listing(NamedTuple):
    """The test images that a file of embeddings lists, in the order of its rows. No image is at hand."""

    where: str  # the file, as messages name it
    pids: Mapping[Modality, Sequence[int]]
    cameras: Mapping[Modality, Sequence[int]]
    names: Mapping[Modality, Sequence[str]]  # of the modalities that are `named`


class Foreign(NamedTuple):
    """How embeddings that other code extracted are judged.

    settings: (listing, file of the trials, None unless there is one) -> every setting, and what differs from the
    published test set, a line each. UserError for a row that cannot be one of the data set.
    """

    settings: Callable[[Listing, Path | None], tuple[list[Setting], list[str]]]
    named: tuple[Modality, ...] = ()  # whose images have to be named
    trials: str = ""  # which file holds the trials, and where it is from; empty: none does


def counted(benchmark: Benchmark) -> dict[str, int]:
    """How many identities and images a data set has for training and for the test."""
    test = benchmark.test
    own = {
        "training": (benchmark.num_ids, benchmark.train),
        "test": (len({record.pid for record in (*test.visible, *test.infrared)}), [*test.visible, *test.infrared]),
    }
    found = {}
    for part, (identities, records) in own.items():
        found[f"{part} identities"] = identities
        for modality in Modality:
            found[f"{part} {modality.name.lower()} images"] = sum(record.modality == modality for record in records)
    return found


class DataSet(NamedTuple):
    """A data set. Its validation split has the same protocols, under NAME-val/ in the place of NAME/."""

    name: str  # the value of the key `dataset`
    label: str  # as people write it
    root: str  # the folder where it is looked for
    load: Callable[
        ..., Benchmark
    ]  # (root, trial=, hold_out=, seed=); UserError for a part that is missing or unreadable
    protocols: tuple[str, ...]  # names of the settings of its test split, in the order of a table
    excluded: Exclusion
    foreign: Mapping[str, Foreign]  # by the name of their protocol for tools.evaluate, such as sysu-agw
    extra: tuple[str, ...] = ()  # further settings of its test split, which the key `extra_protocols` asks for
    splits: Sequence[int] = ()  # values of the key `trial`, ascending; empty: it has one split
    mser: MserDefaults | None = None  # None: nobody published parameters for it
    marks: tuple[str, ...] = ()  # what lies in its folder and tells it from other data sets
    published: Mapping[str, int] = {}  # what is counted of it, and how many its authors say there are
    counted: Callable[[Benchmark], Mapping[str, int]] = (
        counted  # the same of one that is read, all identities in training
    )


def require_split(dataset: DataSet, split: int, said: str) -> None:
    """UserError for a split that the data set does not have; one with a single split takes any. said: "trial = 11"."""
    if dataset.splits and split not in dataset.splits:
        first, last = dataset.splits[0], dataset.splits[-1]
        raise UserError(f"{said}: {dataset.label} has the splits {first} to {last}")


def named_records(listing: Listing, modality: Modality, name: re.Pattern, form: str) -> list[Record]:
    """The images of one modality by their names, as records with paths cam{c}/{identity:04d}/{image}.

    name: of an image, with the groups camera, identity and image; form: the same in words. UserError for a name that is
    none, that its labels contradict, or that comes twice.
    """
    side = modality.name.lower()
    records, rows = [], {}
    labels = zip(listing.names[modality], listing.pids[modality], listing.cameras[modality])
    for row, (given, pid, camera) in enumerate(labels):
        where, found = f"{listing.where}: {side}_names, row {row}: {given!r}", name.fullmatch(given)
        if not found:
            raise UserError(f"{where}; expected {form}")
        record = Record(
            f"cam{int(found['camera'])}/{found['identity']}/{found['image']}",
            int(found["identity"]),
            int(found["camera"]),
            modality,
        )
        if (record.pid, record.camera) != (pid, camera):
            raise UserError(
                f"{where}, but {side}_cameras says {camera} and {side}_pids {pid}; "
                "pids must be the data set's own identity numbers, not training labels"
            )
        if record.path in rows:
            raise UserError(f"{where} is the image of row {rows[record.path]} again")
        rows[record.path] = row
        records.append(record)
    return records


def require_cameras(listing: Listing, modality: Modality, cameras: Sequence[int]) -> None:
    """UserError for a row of a camera that has no images of this modality."""
    for row, camera in enumerate(listing.cameras[modality]):
        if camera not in cameras:
            expected = ", ".join(map(str, cameras))
            raise UserError(
                f"{listing.where}: {modality.name.lower()}_cameras, row {row}: {camera}; expected one of {expected}"
            )

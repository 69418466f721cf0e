"""The checks of a data set: from what its reader says and what its images are to findings, one line each."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from data.sets.common import differences
from data.sets.own_lists import images_below
from data.sets.value import DataSet
from tools.checkup.examine import Examined
from utils.errors import UserError, shown
from utils.types import Benchmark, Record

FOREIGN = {".gif", ".heic", ".heif", ".avif", ".jp2", ".pgm", ".ppm"}
SMALLEST = (16, 32)  # width and height in pixels below which nobody is to be told from another
LISTS, COUNTS, THERE, OPEN, SIZE, BOTH, TWICE, APART = (
    "lists and folders", "published counts", "images are there", "images open", "images are large enough",
    "both modalities", "no image twice", "training and test apart",
)  # fmt: skip
CHECKS = (LISTS, COUNTS, THERE, OPEN, SIZE, BOTH, TWICE, APART)
CONTENT = (OPEN, SIZE, TWICE, APART)  # those that need the images opened


class Finding(NamedTuple):
    """What a check found."""

    check: str
    serious: bool  # training, or its scores, would not be what people think
    said: str
    way: str  # what to do; empty where the text says it


class Reading(NamedTuple):
    """A data set, read in each of its splits."""

    dataset: DataSet
    root: Path
    benchmarks: Mapping[int, Benchmark]  # by split, of those that could be read
    findings: list[Finding]

    @property
    def records(self) -> list[Record]:
        """Every image that is listed, once."""
        found = {r.path: r for b in self.benchmarks.values() for r in (*b.train, *b.test.visible, *b.test.infrared)}
        return list(found.values())


def read_all_splits(dataset: DataSet, root: Path, seed: int) -> Reading:
    """What the data set's own reader says of each split; the same line of several splits is one finding.

    seed: of the training, which draws the identities of a test that nobody gave.
    """
    benchmarks, said = {}, defaultdict(list)
    for split in dataset.splits or (1,):
        try:
            benchmark = dataset.load(str(root), trial=split, seed=seed)
        except UserError as error:
            said[LISTS, str(error)].append(split)
            continue
        benchmarks[split] = benchmark
        wrong = differences(dataset.label, dataset.published, dataset.counted(benchmark))
        for check, lines in ((LISTS, set(benchmark.warnings) - set(wrong)), (COUNTS, wrong)):
            for line in sorted(lines):
                said[check, line].append(split)
    way = {COUNTS: "complete the data set, or do not compare with published scores"}
    findings = [
        Finding(check, True, f"{_of_splits(dataset, splits)}{line}", way.get(check, ""))
        for (check, line), splits in said.items()
    ]
    return Reading(dataset, root, benchmarks, findings)


def _of_splits(dataset: DataSet, splits: Sequence[int]) -> str:
    return "" if splits == list(dataset.splits) or not dataset.splits else f"split {', '.join(map(str, splits))}: "


def image_paths(reading: Reading) -> list[str]:
    """The images to look at: those that the data set lists, or, where it cannot be read, all below its folder."""
    listed = [record.path for record in reading.records if os.path.exists(record.path)]
    return sorted(listed) if reading.benchmarks else [str(path) for path in images_below(reading.root)]


def checked(reading: Reading, images: Sequence[Examined] | None) -> list[Finding]:
    """All findings. images: the files of `image_paths`, None where they were not opened."""
    found = [*reading.findings, *absent(reading), *one_modality(reading)]
    if images is not None:
        found += [*unreadable(images), *small(images), *repeated(reading, images)]
    return found


def absent(reading: Reading) -> Iterator[Finding]:
    """Images that are listed and not there, and images that are there and not listed."""
    listed = {os.path.realpath(record.path) for record in reading.records}
    missing = [record.path for record in reading.records if not os.path.exists(record.path)]
    if missing:
        yield Finding(THERE, True, f"{how_many(missing, 'listed image')} missing: {some(missing)}", "copy them again")
    foreign = images_below(reading.root, FOREIGN)
    if foreign:
        said = f"{how_many(foreign, 'image')} of a kind that is not read: {some(map(str, foreign))}"
        yield Finding(THERE, True, said, "convert them to PNG or JPEG")
    other = [str(path) for path in images_below(reading.root) if os.path.realpath(path) not in listed]
    if reading.benchmarks and other:
        yield Finding(THERE, False, f"{how_many(other, 'image file')} not used, because not listed: {some(other)}", "")


def one_modality(reading: Reading) -> Iterator[Finding]:
    """Training identities that have images of one modality alone."""
    alone: dict[str, str] = {}
    for benchmark in reading.benchmarks.values():
        seen = defaultdict(dict)
        for record in benchmark.train:
            seen[record.pid].setdefault(record.modality, record.path)
        alone |= {
            path: f"{side.name.lower()} only" for own in seen.values() if len(own) == 1 for side, path in own.items()
        }
    if alone:
        some_ones = some(f"{path} ({side})" for path, side in alone.items())
        people = how_many(alone, "training identity", "training identities")
        way = "add images of the other modality, or take these out: samplers that need both leave them out"
        yield Finding(BOTH, True, f"{people} with images of one modality: those of {some_ones}", way)


def unreadable(images: Sequence[Examined]) -> Iterator[Finding]:
    bad = [f"{image.path} ({image.fault})" for image in images if image.fault]
    if bad:
        yield Finding(
            OPEN, True, f"{how_many(bad, 'unreadable image')}: {some(bad)}", "copy them again, or remove them"
        )


def small(images: Sequence[Examined]) -> Iterator[Finding]:
    tiny = [
        f"{image.path} ({image.width} x {image.height})"
        for image in images
        if not image.fault and (image.width < SMALLEST[0] or image.height < SMALLEST[1])
    ]
    if tiny:
        limit = f"{SMALLEST[0]} x {SMALLEST[1]} pixels"
        yield Finding(SIZE, True, f"{how_many(tiny, 'image')} below {limit}: {some(tiny)}", "replace or remove them")


def repeated(reading: Reading, images: Sequence[Examined]) -> Iterator[Finding]:
    """Files of the same content, by what that does to training and test."""
    same = defaultdict(list)
    for image in images:
        if image.digest:
            same[image.digest].append(image.path)
    parts = [parts_of(benchmark) for benchmark in reading.benchmarks.values()]
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for paths in same.values():
        if len(paths) > 1:
            kind = kind_of(paths, parts)
            alike = (pair for pair in combinations(paths, 2) if kind_of(pair, parts) == kind)
            kinds[kind].append(" = ".join(next(alike, paths[:2])))
    for kind, found in kinds.items():
        if found:
            check, serious, said, way = KINDS[kind]
            yield Finding(check, serious, f"{how_many(found, 'image')} {said}: {some(found)}", way)


KINDS = {
    "apart": (APART, True, "both in training and in the test", "remove one of each"),
    "sides": (
        TWICE,
        True,
        "both as visible and as infrared",
        "a wrong folder was copied; replace one side",
    ),
    "identities": (TWICE, True, "under two identities", "give each to the right one"),
    "harmless": (TWICE, False, "twice, of one identity", "remove one of each, unless they come so"),
}


def parts_of(benchmark: Benchmark) -> dict[str, tuple[bool, Record]]:
    """By path: whether an image is for training, and its record."""
    test = {r.path: (False, r) for r in (*benchmark.test.visible, *benchmark.test.infrared)}
    return {**test, **{r.path: (True, r) for r in benchmark.train}}


def kind_of(paths: Sequence[str], parts: Sequence[Mapping[str, tuple[bool, Record]]]) -> str:
    """Which of KINDS files of the same content are, the worst in any split."""
    kinds = set()
    for own in parts:
        found = [own[path] for path in paths if path in own]
        if len({trained for trained, _ in found}) > 1:
            kinds.add("apart")
        elif len({record.modality for _, record in found}) > 1:
            kinds.add("sides")
        elif len({record.pid for _, record in found}) > 1:
            kinds.add("identities")
    return next((kind for kind in KINDS if kind in kinds), "harmless")


def how_many(found: Sized, noun: str, nouns: str = "") -> str:
    """1 image, 2 images."""
    return f"{len(found)} {noun if len(found) == 1 else nouns or noun + 's'}"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names."""
    found = list(names)
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(map(shown, found[:most])) + rest

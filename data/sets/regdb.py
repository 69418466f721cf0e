"""RegDB (Nguyen et al., Sensors 2017), from its published layout. Opens no image.

`root/{Visible,Thermal}/{identity}/*.bmp`; `root/idx/{train,test}_{visible,thermal}_{1..10}.txt` list ten random
halvings of the identities, lines `relative/path.bmp label`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.sets.common import differences, require_disjoint, require_folder, require_records, says_shut
from data.sets.value import DataSet, Foreign, Listing
from utils.errors import UserError, brief
from utils.files import read_text
from utils.types import Benchmark, Modality, MserDefaults, Record, Setting, Split, Trial

MSER = MserDefaults(k1=50, k2=10, lam=0.2, queries_only=False)
CAMERAS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
SPLITS = range(1, 11)
FILES = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
PUBLISHED = {
    f"{part} {what}": number
    for part in ("training", "test")
    for what, number in (("identities", 206), ("visible images", 2060), ("infrared images", 2060))
}


class Entry(NamedTuple):
    """A line of a list."""

    name: str  # relative to the data set's folder
    identity: int
    label: int
    modality: Modality
    where: str  # "PATH, line NUMBER"


@says_shut
def load(root: str, trial: int = 1, hold_out: bool = False, seed: int = 0) -> Benchmark:
    """Read split `trial` (1..10) of RegDB below `root`.

    hold_out: keep a tenth of the training identities, drawn with `seed`, out of training as the validation split.
    An identity is an image's folder number; training labels are ranks of the sorted numbers.
    Raises UserError for a missing or unreadable part.
    """
    folder = require_folder(root, "idx", "RegDB")
    lists = {part: read_part(folder, part, trial) for part in ("train", "test")}
    require_disjoint(
        f"{folder / 'idx'}, split {trial}", **{part: {e.identity for e in own} for part, own in lists.items()}
    )
    require_once(entry for entries in lists.values() for entry in entries)
    listed = {part: records_of(folder, entries) for part, entries in lists.items()}
    kept, held = divide(sorted({record.pid for record in listed["train"]}), seed if hold_out else None)
    labels = {identity: label for label, identity in enumerate(kept)}
    train = [record._replace(pid=labels[record.pid]) for record in listed["train"] if record.pid in labels]
    warnings = (
        []
        if hold_out
        else differences("RegDB", PUBLISHED, {**counts("training", train), **counts("test", listed["test"])})
    )
    return Benchmark(
        name="regdb",
        trial=trial,
        num_ids=len(kept),
        train=train,
        test=evaluation_split("regdb", listed["test"]),
        validation=evaluation_split("regdb-val", [r for r in listed["train"] if r.pid in held]) if hold_out else None,
        excluded=excluded,
        mser=MSER,
        warnings=[*warnings, *(line for entries in lists.values() for line in contradictions(entries))],
    )


def excluded(query_pids: Tensor, query_cameras: Tensor, gallery_pids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Gallery images that a query skips, [Q], [Q], [G], [G] int64 -> [Q, G] bool: none."""
    return torch.zeros(len(query_pids), len(gallery_pids), dtype=torch.bool, device=query_pids.device)


def read_part(folder: Path, part: str, trial: int) -> list[Entry]:
    """The lines of the visible and the thermal list of one part ("train" or "test")."""
    entries = []
    for modality in CAMERAS:
        path = folder / "idx" / f"{part}_{FILES[modality]}_{trial}.txt"
        found = read_list(path, modality)
        require_records(found, f"{path}: lists no images; restore the file")
        entries += found
    return entries


def read_list(path: Path, modality: Modality) -> list[Entry]:
    """Every line of one list. UserError naming the file, and the line that is none."""
    if not path.exists():
        raise UserError(f"{path} is missing: RegDB comes with idx/*_1.txt to *_10.txt; check data_root and trial")
    lines = enumerate(
        read_text(path, hint="it should list `relative/path.bmp label`; restore the file").splitlines(), 1
    )
    return [read_line(line, f"{path}, line {number}", modality) for number, line in lines if line.strip()]


def read_line(line: str, where: str, modality: Modality, suffix: str = "bmp") -> Entry:
    """`relative/path.SUFFIX label`; the image lies below data_root, in a folder named by its identity's number."""
    try:
        name, label = line.replace("\\", "/").rsplit(maxsplit=1)
        label = int(label)
    except ValueError:
        raise UserError(f"{where}: {line[:80]!r} is not `relative/path.{suffix} label`; restore the file") from None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UserError(f"{where}: {name[:80]!r} leaves data_root; names are relative to it")
    if not re.fullmatch("[0-9]{1,9}", path.parent.name):
        raise UserError(f"{where}: {name[:80]!r} is not in a folder named by its identity's number")
    return Entry(name, int(path.parent.name), label, modality, where)


def require_once(entries: Iterable[Entry]) -> None:
    """UserError where an image is in two lines of a split, of one list or of two."""
    seen: dict[str, str] = {}
    for entry in entries:
        name = str(PurePosixPath(entry.name))
        if name in seen:
            raise UserError(
                f"{entry.where}: {brief(entry.name)!r} was listed before, in {seen[name]}; restore the lists"
            )
        seen[name] = entry.where


def records_of(folder: Path, entries: Iterable[Entry]) -> list[Record]:
    """Sorted by path."""
    return sorted(Record(str(folder / e.name), e.identity, CAMERAS[e.modality], e.modality) for e in entries)


def divide(identities: Sequence[int], seed: int | None) -> tuple[list[int], set[int]]:
    """(kept, held): a tenth, at least one, held out by `seed`; none where seed is None."""
    if seed is None:
        return list(identities), set()
    drawn = np.random.default_rng(seed).permutation(identities)[: max(1, len(identities) // 10)]
    held = set(drawn.tolist())
    return [identity for identity in identities if identity not in held], held


def evaluation_split(name: str, records: Sequence[Record]) -> Split:
    """Both directions, one trial each: every image of one modality against every image of the other."""
    visible = [record for record in records if record.modality == Modality.VISIBLE]
    infrared = [record for record in records if record.modality == Modality.INFRARED]
    settings = protocol_settings(name, len(visible), len(infrared))
    return Split(visible, infrared, settings, quick=tuple(setting.protocol for setting in settings))


def protocol_settings(name: str, num_visible: int, num_infrared: int) -> list[Setting]:
    """Infrared against visible and the reverse, everything in one trial."""
    v2i = Trial(np.arange(num_visible), np.arange(num_infrared))
    return [
        Setting(f"{name}/i2v", Modality.INFRARED, [Trial(v2i.gallery, v2i.query)]),
        Setting(f"{name}/v2i", Modality.VISIBLE, [v2i]),
    ]


def counts(part: str, records: Sequence[Record]) -> dict[str, int]:
    visible = sum(record.modality == Modality.VISIBLE for record in records)
    values = (len({record.pid for record in records}), visible, len(records) - visible)
    return dict(zip((name for name in PUBLISHED if name.startswith(part)), values))


def contradictions(entries: Sequence[Entry]) -> list[str]:
    """One line per list, a part's of one modality, whose label column is not the rank of the sorted folder numbers."""
    lines = []
    for modality in CAMERAS:
        own = [entry for entry in entries if entry.modality == modality]
        rank = {identity: position for position, identity in enumerate(sorted({entry.identity for entry in own}))}
        wrong = [entry for entry in own if entry.label != rank[entry.identity]]
        if wrong:
            first, path = wrong[0], wrong[0].where.rpartition(", line ")[0]
            lines.append(
                f"{path}: {len(wrong)} labels contradict the folder numbers, first {first.name}: {first.label}, "
                f"not {rank[first.identity]}; the folder counts"
            )
    return lines


def foreign_settings(listing: Listing, trials_file: Path | None) -> tuple[list[Setting], list[str]]:
    """Both directions, of images that a file of embeddings lists."""
    return protocol_settings("regdb", *(len(listing.pids[modality]) for modality in Modality)), []


DATASET = DataSet(
    name="regdb",
    label="RegDB",
    root="datasets/RegDB",
    load=load,
    protocols=("regdb/i2v", "regdb/v2i"),
    excluded=excluded,
    foreign={"regdb": Foreign(foreign_settings)},
    splits=SPLITS,
    mser=MSER,
    marks=("Visible", "Thermal", "idx"),
    published=PUBLISHED,
)

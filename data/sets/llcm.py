"""LLCM (Zhang and Wang, CVPR 2023), from its published layout. Opens no image.

`root/idx/train_{vis,nir}.txt` list the training images, lines `vis/{identity:04d}/name.jpg label`;
`root/idx/test_id.txt` the test identities, whose images are `root/test_{vis,nir}/cam{1..9}/{identity:04d}/*.jpg`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from data.sets.common import differences, list_images, require_disjoint, require_folder, require_records, says_shut
from data.sets.draws import NUM_TRIALS, one_of_each
from data.sets.regdb import Entry, divide, read_line, require_once
from data.sets.value import DataSet, Foreign, Listing, counted, named_records
from utils.errors import UserError
from utils.files import read_text
from utils.types import Benchmark, Modality, Record, Setting, Split, Trial

CAMERAS = range(1, 10)  # every one has both modalities, except 3, which is visible only
FILES = {Modality.VISIBLE: "vis", Modality.INFRARED: "nir"}
RESTORE = "restore the file, which comes with the data set"
PUBLISHED = {"training identities": 713, "training images": 30921, "test identities": 351}
IMAGE = re.compile(r"(?:.*[/\\])?cam(?P<camera>[1-9])[/\\](?P<identity>[0-9]{4})[/\\](?P<image>[^/\\]+)", re.DOTALL)


@says_shut
def load(root: str, trial: int = 1, hold_out: bool = False, seed: int = 0) -> Benchmark:
    """Read LLCM below `root`.

    hold_out: keep a tenth of the training identities, drawn with `seed`, out of training as the validation split.
    An identity is an image's folder number; training labels are the listed ones, numbered anew where some are missing.
    `trial` is not used: the data set has one split. Raises UserError for a missing or unreadable part.
    """
    folder = require_folder(root, "idx", "LLCM")
    entries = [entry for modality in FILES for entry in read_list(folder, modality)]
    require_once(entries)
    tested = read_ids(folder / "idx" / "test_id.txt")
    known = sorted({entry.identity for entry in entries})
    require_disjoint(str(folder / "idx"), train=known, test_id=tested)
    kept, held = divide(known, seed if hold_out else None)
    given = {entry.identity: entry.label for entry in reversed(entries)}
    labels = {identity: label for label, identity in enumerate(sorted(kept, key=lambda who: (given[who], who)))}
    listed = sorted(record_of(folder, entry) for entry in entries)
    train = [record._replace(pid=labels[record.pid]) for record in listed if record.pid in labels]
    counts = dict(zip(PUBLISHED, (len(known), len(listed), len(tested))))
    return Benchmark(
        name="llcm",
        trial=None,
        num_ids=len(kept),
        train=train,
        test=evaluation_split("llcm", test_records(folder, tested), str(folder)),
        validation=evaluation_split("llcm-val", [r for r in listed if r.pid in held], str(folder))
        if hold_out
        else None,
        excluded=excluded,
        mser=None,
        warnings=[*differences("LLCM", PUBLISHED, counts), *contradictions(entries)],
    )


def excluded(query_pids: Tensor, query_cameras: Tensor, gallery_pids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Gallery images that a query skips: its own identity from its own camera.

    [Q], [Q], [G], [G] int64 -> [Q, G] bool.
    """
    same = query_pids[:, None] == gallery_pids[None, :]
    return same & (query_cameras[:, None] == gallery_cameras[None, :])


def read_list(folder: Path, modality: Modality) -> list[Entry]:
    """Every line of the training list of one modality. UserError naming the file, and the line that is none."""
    path = folder / "idx" / f"train_{FILES[modality]}.txt"
    if not path.exists():
        raise UserError(f"{path} is missing: it comes with LLCM; check data_root")
    lines = enumerate(read_text(path, hint=RESTORE).splitlines(), 1)
    entries = [read_line(line, f"{path}, line {number}", modality, "jpg") for number, line in lines if line.strip()]
    require_records(entries, f"{path}: lists no images; {RESTORE}")
    return entries


def read_ids(path: Path) -> list[int]:
    """The comma-separated identities of a file. UserError where it is missing, or holds none or something else."""
    if not path.exists():
        raise UserError(f"{path} is missing: it comes with LLCM; check data_root")
    words = read_text(path, RESTORE).replace(",", " ").split()
    for word in words:
        if not re.fullmatch("[0-9]{1,4}", word):
            raise UserError(f"{path}: {word[:40]!r} is no identity, a whole number from 0 to 9999; {RESTORE}")
    require_records(words, f"{path}: lists no identities; {RESTORE}")
    return [int(word) for word in words]


def record_of(folder: Path, entry: Entry) -> Record:
    """A training image. Its name tells its camera, as in 0003_c05_s171429_f12990_nir.jpg; 0 where it does not."""
    found = re.search("_c([0-9]{1,2})_", Path(entry.name).name)
    return Record(str(folder / entry.name), entry.identity, int(found[1]) if found else 0, entry.modality)


def test_records(folder: Path, identities: Sequence[int]) -> list[Record]:
    """Every test image of the identities, sorted by path."""
    return sorted(
        Record(str(path), identity, camera, modality)
        for modality, name in FILES.items()
        for camera in CAMERAS
        for identity in identities
        for path in list_images(folder / f"test_{name}" / f"cam{camera}" / f"{identity:04d}")
    )


def evaluation_split(name: str, records: Sequence[Record], where: str) -> Split:
    """All images of some identities, and the settings of `protocol_settings`."""
    sides = {modality: [record for record in records if record.modality == modality] for modality in Modality}
    for modality, part in sides.items():
        require_records(part, f"{where}: no {modality.name.lower()} images to evaluate ({name})")
    visible, infrared = sides.values()
    settings = protocol_settings(name, sides)
    return Split(visible, infrared, settings, quick=tuple(setting.protocol for setting in settings[:2]))


def protocol_settings(name: str, sides: Mapping[Modality, Sequence[Record]]) -> list[Setting]:
    """Every image of one modality against ten drawn galleries of the other, in both directions; and `v2i-released`.

    The released test script means the last as visible to infrared, but exchanges both sides: the drawn infrared images
    are its queries, and all visible images its gallery.
    """
    drawn = {modality: [gallery_of(own, trial) for trial in range(NUM_TRIALS)] for modality, own in sides.items()}
    visible, infrared = (np.arange(len(sides[modality])) for modality in Modality)
    of_visible, of_infrared = (drawn[modality] for modality in Modality)
    return [
        Setting(f"{name}/i2v", Modality.INFRARED, [Trial(infrared, gallery) for gallery in of_visible]),
        Setting(f"{name}/v2i", Modality.VISIBLE, [Trial(visible, gallery) for gallery in of_infrared]),
        Setting(f"{name}/v2i-released", Modality.INFRARED, [Trial(query, visible) for query in of_infrared]),
    ]


def gallery_of(records: Sequence[Record], trial: int) -> np.ndarray:
    """The drawn rows of one modality, [G] int64: an image of each identity and camera."""
    cameras = sorted({record.camera for record in records})
    return np.array(one_of_each(records, {record.pid for record in records}, cameras, trial), dtype=np.int64)


def contradictions(entries: Sequence[Entry]) -> list[str]:
    """One line where the label column gives an identity two labels, or two identities one."""
    label_of, owner_of = {}, {}
    wrong = [
        entry
        for entry in entries
        if label_of.setdefault(entry.identity, entry.label) != entry.label
        or owner_of.setdefault(entry.label, entry.identity) != entry.identity
    ]
    if not wrong:
        return []
    return [f"{wrong[0].where}: {len(wrong)} labels contradict the folder numbers, this the first; the folder counts"]


def foreign_settings(listing: Listing, trials_file: Path | None) -> tuple[list[Setting], list[str]]:
    """The trials of images that a file of embeddings lists; and how they differ from the published test set."""
    form = "cam{c}/{identity:04d}/{name}, such as cam1/0003/0003_c01_s185734_f3195_nir.jpg"
    sides = {modality: named_records(listing, modality, IMAGE, form) for modality in Modality}
    found = {"test identities": len({record.pid for own in sides.values() for record in own})}
    published = {what: PUBLISHED[what] for what in found}
    return protocol_settings("llcm", sides), differences("LLCM", published, found)


DATASET = DataSet(
    name="llcm",
    label="LLCM",
    root="datasets/LLCM",
    load=load,
    protocols=("llcm/i2v", "llcm/v2i", "llcm/v2i-released"),
    excluded=excluded,
    foreign={"llcm": Foreign(foreign_settings, named=tuple(Modality))},
    marks=("vis", "nir", "test_vis", "test_nir", "idx"),
    published=PUBLISHED,
    counted=lambda benchmark: {"training images": len(benchmark.train), **counted(benchmark)},
)

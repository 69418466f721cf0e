"""SYSU-MM01 (Wu et al., ICCV 2017), from its published layout and official evaluation split. Opens no image.

`root/cam{1..6}/{identity:04d}/{number:04d}.jpg`; cameras 1, 2, 4, 5 are visible, 3 and 6 infrared.
`root/exp/{train,val,test}_id.{txt,mat}` list identities; `root/exp/rand_perm_cam.mat` fixes the ten trials.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from data.sets.common import differences, list_images, require_disjoint, require_folder, require_records, says_shut
from data.sets.draws import NUM_TRIALS, one_of_each
from data.sets.sysu_lists import RESTORE, Permutations, list_file, read_ids, read_permutations
from data.sets.value import DataSet, Foreign, Listing, named_records, require_cameras
from utils.errors import UserError
from utils.types import Benchmark, Modality, MserDefaults, Record, Setting, Split, Trial

MSER = MserDefaults(k1=40, k2=20, lam=0.3, queries_only=True)
VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)
MODES = {"all": VISIBLE_CAMERAS, "indoor": (1, 2)}
SHOTS = (1, 10)
CAMERAS = range(1, 7)
PROTOCOLS = tuple(f"sysu/{mode}/{shots}-shot" for mode in MODES for shots in SHOTS)
IMAGE = re.compile(
    r"(?:.*[/\\])?cam(?P<camera>[0-9]+)[/\\](?P<identity>[0-9]{4})[/\\](?P<image>[0-9]{4})(?:\.\w+)?", re.DOTALL
)
PUBLISHED = {
    "training identities": 395,
    "visible training images": 22258,
    "infrared training images": 11909,
    "queries": 3803,
    "single-shot all-search gallery images": 301,
}


@says_shut
def load(root: str, trial: int = 1, hold_out: bool = False, seed: int = 0) -> Benchmark:
    """Read SYSU-MM01 below `root`.

    hold_out: keep the identities of val_id out of training and return them as the validation split; else they follow
    those of train_id in the training set, as is common practice. A training label is the position in that list.
    `trial` and `seed` are not used: the data set has one split. Raises UserError for a missing or unreadable part.
    """
    folder = require_folder(root, "exp", "SYSU-MM01")
    train_ids, val_ids, test_ids = (read_ids(folder / "exp", name) for name in ("train_id", "val_id", "test_id"))
    permutations = read_permutations(folder / "exp" / "rand_perm_cam.mat")
    for name, identities in (("train_id", train_ids), ("test_id", test_ids)):
        require_records(identities, f"{list_file(folder / 'exp', name)}: lists no identities; {RESTORE}")
    require_disjoint(str(folder / "exp"), train_id=train_ids, val_id=val_ids, test_id=test_ids)
    learned = train_ids if hold_out else train_ids + val_ids
    train = records_of(folder, {identity: label for label, identity in enumerate(learned)})
    require_records(train, f"{folder}: no training images cam*/{{identity:04d}}/*.jpg of the identities in exp/")
    test = evaluation_split(folder, "sysu", test_ids, permutations)
    published = [] if hold_out else differences("SYSU-MM01", PUBLISHED, counts(train, len(learned), test))
    return Benchmark(
        name="sysu",
        trial=None,
        num_ids=len(learned),
        train=train,
        test=test,
        validation=evaluation_split(folder, "sysu-val", val_ids, permutations) if hold_out else None,
        excluded=excluded,
        mser=MSER,
        warnings=[*published, *unseen(folder, learned, test_ids)],
    )


def excluded(query_pids: Tensor, query_cameras: Tensor, gallery_pids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Gallery images that a query skips, [Q], [Q], [G], [G] int64 -> [Q, G] bool.

    A query skips everything from its own camera's place; cameras 2 and 3 look at the same place (the protocol's rule).
    """
    return place(query_cameras)[:, None] == place(gallery_cameras)[None, :]


def place(cameras: Tensor) -> Tensor:
    """What a camera looks at, as the number of the first camera that does."""
    return cameras.masked_fill(cameras == 3, 2)


def unseen(folder: Path, learned: Sequence[int], tested: Sequence[int]) -> list[str]:
    """One line that says which identities of the lists no camera saw; no line if there are none."""
    present = {name for camera in CAMERAS for name in folders(folder, camera)}
    absent = [identity for identity in (*learned, *tested) if f"{identity:04d}" not in present]
    if not absent:
        return []
    return [f"{folder}: no images of {len(absent)} identities that exp/ lists, the first of them {absent[0]:04d}"]


def folders(folder: Path, camera: int) -> set[str]:
    """Names of the identities' folders of one camera."""
    own = folder / f"cam{camera}"
    return set(os.listdir(own)) if own.is_dir() else set()


def records_of(folder: Path, labels: Mapping[int, int]) -> list[Record]:
    """Every image of the given identities (identity -> pid), all cameras, sorted by path."""
    records = []
    for camera in CAMERAS:
        modality = Modality.INFRARED if camera in INFRARED_CAMERAS else Modality.VISIBLE
        present = folders(folder, camera)
        for identity, pid in labels.items():
            name = f"{identity:04d}"
            paths = list_images(folder / f"cam{camera}" / name) if name in present else []
            # An image's name is its number in rand_perm_cam.mat; other files are none of the data set's.
            records += [Record(str(path), pid, camera, modality) for path in paths if path.stem.isdecimal()]
    return sorted(records)


def evaluation_split(folder: Path, name: str, identities: Sequence[int], permutations: Permutations) -> Split:
    """Images and the four settings (all, indoor; 1 and 10 shots) of some identities; ten trials each."""
    records = records_of(folder, {identity: identity for identity in identities})
    visible = [record for record in records if record.modality == Modality.VISIBLE]
    infrared = [record for record in records if record.modality == Modality.INFRARED]
    for modality, part in (("visible", visible), ("infrared", infrared)):
        require_records(
            part, f"{folder}: no {modality} images of the {len(identities)} identities to evaluate ({name})"
        )
    settings = protocol_settings(name, visible, len(infrared), permutations)
    for setting in settings:
        if not all(len(trial.gallery) for trial in setting.trials):
            raise UserError(
                f"{folder}: a gallery of {setting.protocol} has no image; {permutations.path} names none that is there"
            )
    extra = agw_settings(visible, len(infrared)) if name == "sysu" else []
    return Split(visible, infrared, settings, quick=(f"{name}/all/1-shot",), extra=extra)


def protocol_settings(
    name: str, visible: Sequence[Record], num_queries: int, permutations: Permutations
) -> list[Setting]:
    """All and indoor search, 1 and 10 shots: every infrared image against galleries drawn from the visible ones."""
    return [
        Setting(f"{name}/{mode}/{n}-shot", Modality.INFRARED, trials(visible, num_queries, cameras, n, permutations))
        for mode, cameras in MODES.items()
        for n in SHOTS
    ]


def trials(
    visible: Sequence[Record], num_queries: int, cameras: Iterable[int], shots: int, permutations: Permutations
) -> list[Trial]:
    """The ten official galleries: the first `shots` numbers of a trial's row, of each identity and camera."""
    row_of = defaultdict(dict)
    for row, record in enumerate(visible):
        if record.camera in cameras:
            row_of[record.camera, record.pid][int(Path(record.path).stem)] = row
    galleries = [[] for _ in range(NUM_TRIALS)]
    for key, rows in row_of.items():
        if key not in permutations.orders:
            raise UserError(f"{permutations.path} has no entry for camera {key[0]}, identity {key[1]}: wrong file?")
        for gallery, numbers in zip(galleries, permutations.orders[key]):
            gallery += [rows[number] for number in numbers[:shots].tolist() if number in rows]
    query = np.arange(num_queries)
    return [Trial(query, np.array(sorted(gallery), dtype=np.int64)) for gallery in galleries]


def agw_settings(visible: Sequence[Record], num_queries: int) -> list[Setting]:
    """All and indoor search, 1 shot, in the galleries that the code of AGW, and of what grew out of it, draws."""
    identities, query = {record.pid for record in visible}, np.arange(num_queries)
    return [
        Setting(
            f"sysu-agw/{mode}/1-shot",
            Modality.INFRARED,
            [
                Trial(query, np.array(one_of_each(visible, identities, cameras, trial), dtype=np.int64))
                for trial in range(NUM_TRIALS)
            ],
        )
        for mode, cameras in MODES.items()
    ]


def agw_gallery(paths: Sequence[str], identities: Iterable[int], cameras: Iterable[int], trial: int) -> list[int]:
    """The gallery of trial 0..9 in AGW's code: rows of paths, [N] names such as cam4/0233/0009.jpg, in its order.

    UserError for a path that is none of the data set's.
    """
    records = []
    for path in paths:
        found = IMAGE.fullmatch(str(path))
        if not found:
            raise UserError(f"{path}: not cam{{c}}/{{identity:04d}}/{{number:04d}}.jpg")
        records.append(Record(str(path), int(found["identity"]), int(found["camera"]), Modality.VISIBLE))
    return one_of_each(records, identities, cameras, trial)


def counts(train: Sequence[Record], num_ids: int, test: Split) -> dict[str, int]:
    """The numbers that PUBLISHED gives for the whole data set."""
    visible = sum(record.modality == Modality.VISIBLE for record in train)
    learned = dict(zip(PUBLISHED, (num_ids, visible, len(train) - visible)))
    return {**learned, **evaluation_counts(len(test.infrared), test.settings)}


def evaluation_counts(num_queries: int, settings: Sequence[Setting]) -> dict[str, int]:
    """Those of them that belong to the test split."""
    single_shot = next(setting for setting in settings if setting.protocol == "sysu/all/1-shot")
    return {"queries": num_queries, "single-shot all-search gallery images": len(single_shot.trials[0].gallery)}


def foreign_agw_settings(listing: Listing, trials_file: Path | None) -> tuple[list[Setting], list[str]]:
    """The galleries that the code of the AGW family draws, of images that a file of embeddings lists."""
    visible, queries = foreign_images(listing)
    published = {"queries": PUBLISHED["queries"]}
    return agw_settings(visible, queries), differences("SYSU-MM01", published, {"queries": queries})


def foreign_images(listing: Listing) -> tuple[list[Record], int]:
    """The visible images of a file of embeddings, and the number of its queries."""
    for modality, cameras in ((Modality.VISIBLE, VISIBLE_CAMERAS), (Modality.INFRARED, INFRARED_CAMERAS)):
        require_cameras(listing, modality, cameras)
    form = "cam{c}/{identity:04d}/{number:04d}, such as cam1/0006/0001"
    return named_records(listing, Modality.VISIBLE, IMAGE, form), len(listing.pids[Modality.INFRARED])


def foreign_settings(listing: Listing, trials_file: Path | None) -> tuple[list[Setting], list[str]]:
    """The official trials of images that a file of embeddings lists; how they differ from the published test set."""
    assert trials_file is not None  # DATASET requires it
    permutations, (visible, queries) = read_permutations(trials_file), foreign_images(listing)
    settings = protocol_settings("sysu", visible, queries, permutations)
    found = evaluation_counts(queries, settings)
    return settings, differences("SYSU-MM01", {what: PUBLISHED[what] for what in found}, found)


DATASET = DataSet(
    name="sysu",
    label="SYSU-MM01",
    root="datasets/SYSU-MM01",
    load=load,
    protocols=PROTOCOLS,
    excluded=excluded,
    extra=tuple(f"sysu-agw/{mode}/1-shot" for mode in MODES),
    foreign={
        "sysu": Foreign(
            foreign_settings,
            named=(Modality.VISIBLE,),
            trials="exp/rand_perm_cam.mat of the data set, which its authors publish in their repository "
            "wuancong/SYSU-MM01 under evaluation/data_split/",
        ),
        "sysu-agw": Foreign(foreign_agw_settings, named=(Modality.VISIBLE,)),
    },
    mser=MSER,
    marks=(*(f"cam{camera}" for camera in CAMERAS), "exp"),
    published=PUBLISHED,
    counted=lambda benchmark: counts(benchmark.train, benchmark.num_ids, benchmark.test),
)

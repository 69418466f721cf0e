"""Where the published data sets keep their images and lists: what to draw, and the bytes of every list file.

SYSU-MM01   cam{1..6}/{identity:04d}/{number:04d}.jpg, exp/{train,val,test}_id.{txt,mat}, exp/rand_perm_cam.mat
RegDB       {Visible,Thermal}/{identity}/*.bmp, idx/{train,test}_{visible,thermal}_{1..10}.txt
LLCM        {vis,nir}/{identity:04d}/*.jpg, test_{vis,nir}/cam{1..9}/{identity:04d}/*.jpg, idx/train_{vis,nir}.txt,
            idx/test_id.txt
folder      {train,test}/{visible,infrared}/{identity:04d}/{identity:04d}_c{camera}_{number:04d}.jpg
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from data.sets import llcm
from data.sets.sysu import INFRARED_CAMERAS, VISIBLE_CAMERAS
from data.sets.sysu_lists import NUM_TRIALS
from tools.synthetic.planned import CameraSpec, Plan, PlannedImage, generator
from tools.synthetic.sysu_layout import SYSU_CAMERAS, sysu
from utils.types import Modality

LLCM_INFRARED = tuple(c for c in llcm.CAMERAS if c != 3)


class Layout(NamedTuple):
    """How a data set is stored, as make_synthetic requests it."""

    options: Mapping[str, Any]  # those that it takes, by key, with their defaults
    plan: Callable[[int, Mapping[str, Any]], Plan]  # (seed, value of each option) -> what to draw
    visible: tuple[int, ...] = ()  # numbers of the cameras that may be chosen
    infrared: tuple[int, ...] = ()


# ---------------------------------------------------------------------------------------------------------------- RegDB

REGDB_FOLDERS = {1: "Visible", 2: "Thermal"}


def regdb(seed: int, ids: int, images: int) -> Plan:
    """A made-up RegDB: every identity has `images` images of either kind; ten random halvings into train and test."""
    rng = generator(seed, 2)
    cameras = {c: CameraSpec(c, folder == "Thermal", 1) for c, folder in REGDB_FOLDERS.items()}
    planned = [
        PlannedImage(f"{folder}/{i}/{folder.lower()}_{i:04d}_{n:02d}.bmp", i, c, n)
        for c, folder in REGDB_FOLDERS.items()
        for i in range(1, ids + 1)
        for n in range(1, images + 1)
    ]
    paths: dict[tuple[int, int], list[str]] = {}
    for p in planned:
        paths.setdefault((p.camera, p.identity), []).append(p.path)
    files = {}
    for trial in range(1, NUM_TRIALS + 1):
        order = rng.permutation(ids) + 1
        for split, chosen in (("train", sorted(order[: ids // 2])), ("test", sorted(order[ids // 2 :]))):
            for c, folder in REGDB_FOLDERS.items():
                lines = [f"{path} {label}\n" for label, i in enumerate(chosen) for path in paths[c, int(i)]]
                files[f"idx/{split}_{folder.lower()}_{trial}.txt"] = "".join(lines).encode()
    summary = (
        f"{len(planned)} images of {ids} identities: {ids * images} visible, {ids * images} thermal; "
        f"{NUM_TRIALS} splits of {ids // 2} training and {ids - ids // 2} test identities"
    )
    return Plan(cameras, planned, files, summary)


# ----------------------------------------------------------------------------------------------------------------- LLCM


def plan_llcm(seed: int, train: int, test: int, images: int, cameras: tuple[int, ...]) -> Plan:
    """A made-up LLCM: identities 0.. are for training, then for test; each was seen by every camera of `cameras`.

    Every camera is two sensors at one place, one of either modality; camera 3 has no infrared one.
    """
    specs, planned = {}, []
    lists: dict[str, list[str]] = {kind: [] for kind in llcm.FILES.values()}
    for modality, kind in llcm.FILES.items():
        for c in cameras:
            if modality == Modality.INFRARED and c not in LLCM_INFRARED:
                continue
            spec = CameraSpec(100 * modality + c, modality == Modality.INFRARED, c)
            specs[spec.number] = spec
            for identity in range(train + test):
                folder = f"{kind}/{identity:04d}" if identity < train else f"test_{kind}/cam{c}/{identity:04d}"
                for n in range(1, images + 1):
                    path = f"{folder}/{identity:04d}_c{c:02d}_s{n:06d}_f{n}_{kind}.jpg"
                    planned.append(PlannedImage(path, identity + 1, spec.number, n))
                    if identity < train:
                        lists[kind].append(f"{path} {identity}\n")
    files = {f"idx/train_{kind}.txt": "".join(sorted(lines)).encode() for kind, lines in lists.items()}
    files["idx/test_id.txt"] = (",".join(map(str, range(train, train + test))) + "\n").encode()
    summary = f"{len(planned)} images of {train} training and {test} test identities, {len(specs)} sensors"
    return Plan(specs, planned, files, summary)


# ----------------------------------------------------------------------------------------------------------- own images

OWN_VISIBLE, OWN_INFRARED = (1, 2), (3, 4)


def plan_own(train: int, test: int, images: int, cameras: tuple[int, ...]) -> Plan:
    """Images as people put them into two folders: identities 1.. are for training, then for test."""
    specs = {c: CameraSpec(c, c in OWN_INFRARED, c) for c in cameras}
    planned = [
        PlannedImage(
            f"{'train' if i <= train else 'test'}/{'infrared' if spec.infrared else 'visible'}/"
            f"{i:04d}/{i:04d}_c{c}_{n:04d}.jpg",
            i,
            c,
            n,
        )
        for c, spec in specs.items()
        for i in range(1, train + test + 1)
        for n in range(1, images + 1)
    ]
    said = f"{len(planned)} images of {train} training and {test} test identities, {len(specs)} cameras"
    return Plan(specs, planned, {}, said)


# -------------------------------------------------------------------------------------------------------------- by name

LAYOUTS = {
    "sysu": Layout(
        {"train_ids": 64, "val_ids": 8, "test_ids": 40, "images": 4, "cameras": SYSU_CAMERAS},
        lambda seed, own: sysu(seed, own["train_ids"], own["val_ids"], own["test_ids"], own["images"], own["cameras"]),
        VISIBLE_CAMERAS,
        INFRARED_CAMERAS,
    ),
    "regdb": Layout({"ids": 104, "images": 10}, lambda seed, own: regdb(seed, own["ids"], own["images"])),
    "llcm": Layout(
        {"train_ids": 64, "test_ids": 40, "images": 2, "cameras": [1, 2, 3, 4]},
        lambda seed, own: plan_llcm(seed, own["train_ids"], own["test_ids"], own["images"], own["cameras"]),
        tuple(llcm.CAMERAS),
        LLCM_INFRARED,
    ),
    "folder": Layout(
        {"train_ids": 64, "test_ids": 40, "images": 2, "cameras": [*OWN_VISIBLE, *OWN_INFRARED]},
        lambda seed, own: plan_own(own["train_ids"], own["test_ids"], own["images"], own["cameras"]),
        OWN_VISIBLE,
        OWN_INFRARED,
    ),
}

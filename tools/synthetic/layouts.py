"""Where the published data sets keep their images and lists: what to draw, and the bytes of every list file.

SYSU-MM01   cam{1..6}/{identity:04d}/{number:04d}.jpg, exp/{train,val,test}_id.{txt,mat}, exp/rand_perm_cam.mat
RegDB       {Visible,Thermal}/{identity}/*.bmp, idx/{train,test}_{visible,thermal}_{1..10}.txt
LLCM        {vis,nir}/{identity:04d}/*.jpg, test_{vis,nir}/cam{1..9}/{identity:04d}/*.jpg, idx/train_{vis,nir}.txt,
            idx/test_id.txt
folder      {train,test}/{visible,infrared}/{identity:04d}/{identity:04d}_c{camera}_{number:04d}.jpg
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.io import savemat

from data.sets import llcm
from data.sets.sysu import INFRARED_CAMERAS, VISIBLE_CAMERAS
from data.sets.sysu_lists import NUM_TRIALS, identity_of, load_variable
from utils.errors import UserError
from utils.types import Modality

SYSU_CAMERAS = sorted(VISIBLE_CAMERAS + INFRARED_CAMERAS)
LLCM_INFRARED = tuple(c for c in llcm.CAMERAS if c != 3)
_MAT_HEADER = b"MATLAB 5.0 MAT-file, written by tools.make_synthetic".ljust(116)


class CameraSpec(NamedTuple):
    """One camera of a layout; cameras of one `place` look at the same scene."""

    number: int
    infrared: bool
    place: int


class Picture(NamedTuple):
    """One file to draw."""

    path: str  # relative to the data set's root
    identity: int  # from 1
    camera: int
    number: int  # from 1, within identity and camera


class Plan(NamedTuple):
    """A whole data set before it is drawn."""

    cameras: dict[int, CameraSpec]
    pictures: list[Picture]
    files: dict[str, bytes]  # lists, by path relative to the root
    summary: str  # one line of counts


class Layout(NamedTuple):
    """How a data set is stored, as make_synthetic requests it."""

    options: Mapping[str, Any]  # those that it takes, by key, with their defaults
    plan: Callable[[int, Mapping[str, Any]], Plan]  # (seed, value of each option) -> what to draw
    visible: tuple[int, ...] = ()  # numbers of the cameras that may be chosen
    infrared: tuple[int, ...] = ()


def mat_bytes(**variables) -> bytes:
    """A MATLAB 5 file. Its header holds a constant text where scipy writes the time of day."""
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return _MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER) :]


def _cell(items: list) -> np.ndarray:
    """A MATLAB cell of shape (n, 1)."""
    cell = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        cell[i, 0] = item
    return cell


def _generator(seed: int, purpose: int) -> np.random.Generator:
    # Identity 0 does not exist: these draws are nobody's images.
    return np.random.default_rng((seed, 0, 0, purpose))


# ---------------------------------------------------------------------------------------------------- SYSU-MM01


def plan_sysu(permutations: list[list[np.ndarray]], train: list[int], val: list[int], test: list[int]) -> Plan:
    """The layout of SYSU-MM01.

    permutations[camera - 1][identity - 1] is (NUM_TRIALS, images) of 1-based numbers, (NUM_TRIALS, 0) where the camera
    never saw the identity.
    """
    cameras = {c: CameraSpec(c, c in INFRARED_CAMERAS, 2 if c == 3 else c) for c in SYSU_CAMERAS}
    pictures = [
        Picture(f"cam{c}/{i:04d}/{n:04d}.jpg", i, c, n)
        for c in SYSU_CAMERAS
        for i, rows in enumerate(permutations[c - 1], 1)
        for n in range(1, rows.shape[1] + 1)
    ]
    files = {"exp/rand_perm_cam.mat": mat_bytes(rand_perm_cam=_cell([_cell(cells) for cells in permutations]))}
    for name, ids in (("train_id", train), ("val_id", val), ("test_id", test)):
        files[f"exp/{name}.txt"] = (",".join(map(str, ids)) + "\n").encode()
        files[f"exp/{name}.mat"] = mat_bytes(id=np.array(ids, np.uint16)[None, :])
    return Plan(cameras, pictures, files, _sysu_summary(pictures, train, val, test))


def _sysu_summary(pictures: list[Picture], train: list[int], val: list[int], test: list[int]) -> str:
    kept, tested = set(train) | set(val), set(test)
    counts = {(split, infrared): 0 for split in ("train", "test") for infrared in (False, True)}
    for p in pictures:
        if p.identity in kept or p.identity in tested:
            counts["train" if p.identity in kept else "test", p.camera in INFRARED_CAMERAS] += 1
    return (
        f"{len(pictures)} images; {len(kept)} training identities ({len(val)} of them for validation): "
        f"{counts['train', False]} visible, {counts['train', True]} infrared; {len(tested)} test identities: "
        f"{counts['test', False]} visible, {counts['test', True]} infrared"
    )


def sysu(seed: int, train: int, val: int, test: int, images: int, cameras: tuple[int, ...]) -> Plan:
    """A made-up SYSU-MM01: identities 1.. are for training, then validation, then test.

    Some identities miss one visible or one infrared camera. Two visible cameras are left to each if there were
    two, so that a query of camera 3 has an answer outside camera 2, which looks at the same place.
    """
    rng, total = _generator(seed, 1), train + val + test
    seen = np.zeros((len(SYSU_CAMERAS), total), bool)
    for i in range(total):
        for group, least, chance in ((False, 3, 0.4), (True, 2, 0.15)):
            own = [c for c in cameras if (c in INFRARED_CAMERAS) == group]
            if len(own) >= least and rng.random() < chance:
                own.remove(rng.choice(own))
            seen[np.array(own) - 1, i] = True
    dtype = np.uint8 if images < 256 else np.uint16
    permutations = [
        [np.stack([rng.permutation(images * int(s)) + 1 for _ in range(NUM_TRIALS)]).astype(dtype) for s in row]
        for row in seen
    ]
    ids = list(range(1, total + 1))
    return plan_sysu(permutations, ids[:train], ids[train : train + val], ids[train + val :])


def like_sysu(folder: Path) -> Plan:
    """The identities, cameras, counts and permutations of the split in `folder`.

    Validation identities are those outside both lists that a visible and an infrared camera saw.
    """
    cells = load_variable(folder / "rand_perm_cam.mat", "rand_perm_cam")
    try:
        permutations = [[cell.reshape(NUM_TRIALS, -1) for cell in camera[:, 0]] for camera in cells.reshape(6)]
    except (AttributeError, IndexError, ValueError):
        raise UserError(
            f"{folder / 'rand_perm_cam.mat'}: rand_perm_cam must be a (6, 1) cell of cells of ({NUM_TRIALS}, images) arrays"
        ) from None
    train, test = (
        [identity_of(i, folder / name) for i in load_variable(folder / name, "id").ravel().tolist()]
        for name in ("train_id.mat", "test_id.mat")
    )
    seen = {
        infrared: {
            i
            for c in SYSU_CAMERAS
            if (c in INFRARED_CAMERAS) == infrared
            for i, rows in enumerate(permutations[c - 1], 1)
            if rows.size
        }
        for infrared in (False, True)
    }
    val = sorted((seen[False] & seen[True]) - set(train) - set(test))
    return plan_sysu(permutations, train, val, test)


# -------------------------------------------------------------------------------------------------------- RegDB

REGDB_FOLDERS = {1: "Visible", 2: "Thermal"}


def regdb(seed: int, ids: int, images: int) -> Plan:
    """A made-up RegDB: every identity has `images` images of either kind; ten random halvings into train and test."""
    rng = _generator(seed, 2)
    cameras = {c: CameraSpec(c, folder == "Thermal", 1) for c, folder in REGDB_FOLDERS.items()}
    pictures = [
        Picture(f"{folder}/{i}/{folder.lower()}_{i:04d}_{n:02d}.bmp", i, c, n)
        for c, folder in REGDB_FOLDERS.items()
        for i in range(1, ids + 1)
        for n in range(1, images + 1)
    ]
    paths: dict[tuple[int, int], list[str]] = {}
    for p in pictures:
        paths.setdefault((p.camera, p.identity), []).append(p.path)
    files = {}
    for trial in range(1, NUM_TRIALS + 1):
        order = rng.permutation(ids) + 1
        for split, chosen in (("train", sorted(order[: ids // 2])), ("test", sorted(order[ids // 2 :]))):
            for c, folder in REGDB_FOLDERS.items():
                lines = [f"{path} {label}\n" for label, i in enumerate(chosen) for path in paths[c, int(i)]]
                files[f"idx/{split}_{folder.lower()}_{trial}.txt"] = "".join(lines).encode()
    summary = (
        f"{len(pictures)} images of {ids} identities: {ids * images} visible, {ids * images} thermal; "
        f"{NUM_TRIALS} splits of {ids // 2} training and {ids - ids // 2} test identities"
    )
    return Plan(cameras, pictures, files, summary)


# --------------------------------------------------------------------------------------------------------- LLCM


def plan_llcm(seed: int, train: int, test: int, images: int, cameras: tuple[int, ...]) -> Plan:
    """A made-up LLCM: identities 0.. are for training, then for test; each was seen by every camera of `cameras`.

    Every camera is two sensors at one place, one of either modality; camera 3 has no infrared one.
    """
    specs, pictures = {}, []
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
                    pictures.append(Picture(path, identity + 1, spec.number, n))
                    if identity < train:
                        lists[kind].append(f"{path} {identity}\n")
    files = {f"idx/train_{kind}.txt": "".join(sorted(lines)).encode() for kind, lines in lists.items()}
    files["idx/test_id.txt"] = (",".join(map(str, range(train, train + test))) + "\n").encode()
    summary = f"{len(pictures)} images of {train} training and {test} test identities, {len(specs)} sensors"
    return Plan(specs, pictures, files, summary)


# --------------------------------------------------------------------------------------------------- own images

OWN_VISIBLE, OWN_INFRARED = (1, 2), (3, 4)


def plan_own(train: int, test: int, images: int, cameras: tuple[int, ...]) -> Plan:
    """Images as people put them into two folders: identities 1.. are for training, then for test."""
    specs = {c: CameraSpec(c, c in OWN_INFRARED, c) for c in cameras}
    pictures = [
        Picture(
            f"{'train' if i <= train else 'test'}/{'infrared' if spec.infrared else 'visible'}/{i:04d}/{i:04d}_c{c}_{n:04d}.jpg",
            i,
            c,
            n,
        )
        for c, spec in specs.items()
        for i in range(1, train + test + 1)
        for n in range(1, images + 1)
    ]
    return Plan(specs, pictures, {}, f"{len(pictures)} images of {train} training and {test} test identities, {len(specs)} cameras")  # fmt: skip


# ------------------------------------------------------------------------------------------------------ by name

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

"""SYSU-MM01's layout: of made-up identities, or with the counts of the official split."""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from data.sets.sysu import INFRARED_CAMERAS, VISIBLE_CAMERAS
from data.sets.sysu_lists import NUM_TRIALS, identity_of, load_variable
from tools.synthetic.planned import CameraSpec, Plan, PlannedImage, generator
from utils.errors import UserError

SYSU_CAMERAS = sorted(VISIBLE_CAMERAS + INFRARED_CAMERAS)
_MAT_HEADER = b"MATLAB 5.0 MAT-file, written by tools.make_synthetic".ljust(116)


def mat_bytes(**variables) -> bytes:
    """A MATLAB 5 file. Its header holds a constant text where scipy writes the time of day."""
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return _MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER) :]


def cell_of(items: list) -> np.ndarray:
    """A MATLAB cell of shape (n, 1)."""
    cell = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        cell[i, 0] = item
    return cell


def plan_sysu(permutations: list[list[np.ndarray]], train: list[int], val: list[int], test: list[int]) -> Plan:
    """The layout of SYSU-MM01.

    permutations[camera - 1][identity - 1] is (NUM_TRIALS, images) of 1-based numbers, (NUM_TRIALS, 0) where the camera
    never saw the identity.
    """
    cameras = {c: CameraSpec(c, c in INFRARED_CAMERAS, 2 if c == 3 else c) for c in SYSU_CAMERAS}
    planned = [
        PlannedImage(f"cam{c}/{i:04d}/{n:04d}.jpg", i, c, n)
        for c in SYSU_CAMERAS
        for i, rows in enumerate(permutations[c - 1], 1)
        for n in range(1, rows.shape[1] + 1)
    ]
    files = {"exp/rand_perm_cam.mat": mat_bytes(rand_perm_cam=cell_of([cell_of(cells) for cells in permutations]))}
    for name, ids in (("train_id", train), ("val_id", val), ("test_id", test)):
        files[f"exp/{name}.txt"] = (",".join(map(str, ids)) + "\n").encode()
        files[f"exp/{name}.mat"] = mat_bytes(id=np.array(ids, np.uint16)[None, :])
    return Plan(cameras, planned, files, _sysu_summary(planned, train, val, test))


def _sysu_summary(planned: list[PlannedImage], train: list[int], val: list[int], test: list[int]) -> str:
    kept, tested = set(train) | set(val), set(test)
    counts = {(split, infrared): 0 for split in ("train", "test") for infrared in (False, True)}
    for p in planned:
        if p.identity in kept or p.identity in tested:
            counts["train" if p.identity in kept else "test", p.camera in INFRARED_CAMERAS] += 1
    return (
        f"{len(planned)} images; {len(kept)} training identities ({len(val)} of them for validation): "
        f"{counts['train', False]} visible, {counts['train', True]} infrared; {len(tested)} test identities: "
        f"{counts['test', False]} visible, {counts['test', True]} infrared"
    )


def sysu(seed: int, train: int, val: int, test: int, images: int, cameras: tuple[int, ...]) -> Plan:
    """A made-up SYSU-MM01: identities 1.. are for training, then validation, then test.

    Some identities miss one visible or one infrared camera. Two visible cameras are left to each if there were
    two, so that a query of camera 3 has an answer outside camera 2, which looks at the same place.
    """
    rng, total = generator(seed, 1), train + val + test
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
            f"{folder / 'rand_perm_cam.mat'}: rand_perm_cam must be a (6, 1) cell of cells of ({NUM_TRIALS}, images) "
            "arrays"
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

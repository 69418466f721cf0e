"""SYSU-MM01: what is read from the folder, the official galleries, and what a damaged folder says."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from configs import load_config
from data.build import build_benchmark, describe
from data.sets import sysu
from tools.synthetic.sysu_layout import mat_bytes
from utils.errors import UserError
from utils.logging import logger
from utils.types import Modality, Record


@pytest.fixture
def editable(sysu_root, tmp_path) -> Path:
    """The synthetic data set again; its exp/ may be changed, its images are links."""
    root = tmp_path / "set"
    (root / "exp").mkdir(parents=True)
    for source in (sysu_root / "exp").iterdir():
        (root / "exp" / source.name).write_bytes(source.read_bytes())
    for camera in sysu_root.glob("cam*"):
        (root / camera.name).symlink_to(camera)
    return root


def image_paths(root: Path, identities, cameras=range(1, 7)) -> list[str]:
    return sorted(str(p) for c in cameras for i in identities for p in (root / f"cam{c}" / f"{i:04d}").glob("*.jpg"))


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        sysu.load(str(root))
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------------- reading


def test_training_is_train_ids_and_then_val_ids_from_every_camera(sysu_root):
    benchmark = sysu.load(str(sysu_root))
    assert (benchmark.name, benchmark.trial, benchmark.num_ids, benchmark.validation) == ("sysu", None, 8, None)
    assert [record.path for record in benchmark.train] == image_paths(sysu_root, range(1, 9)) != []
    assert {record.camera for record in benchmark.train} == {1, 2, 3, 4, 5, 6}


def test_a_label_is_the_position_in_the_lists(editable):
    (editable / "exp" / "train_id.txt").write_text("5,2,6\n")
    (editable / "exp" / "val_id.txt").write_text("1\n")
    benchmark = sysu.load(str(editable))
    labels = {int(Path(record.path).parent.name): record.pid for record in benchmark.train}
    assert labels == {5: 0, 2: 1, 6: 2, 1: 3} and benchmark.num_ids == 4
    assert [record.path for record in benchmark.train] == image_paths(editable, [1, 2, 5, 6])


def test_camera_and_modality_come_from_the_folder(sysu_root):
    benchmark = sysu.load(str(sysu_root))
    for record in [*benchmark.train, *benchmark.test.visible, *benchmark.test.infrared]:
        assert Path(record.path).parts[-3] == f"cam{record.camera}"
        assert record.modality == (Modality.INFRARED if record.camera in (3, 6) else Modality.VISIBLE)


def test_the_test_split_keeps_the_data_sets_identities(sysu_root):
    test = sysu.load(str(sysu_root)).test
    assert [record.path for record in test.visible] == image_paths(sysu_root, range(9, 13), (1, 2, 4, 5))
    assert [record.path for record in test.infrared] == image_paths(sysu_root, range(9, 13), (3, 6))
    assert all(record.pid == int(Path(record.path).parent.name) for record in [*test.visible, *test.infrared])
    assert [s.protocol for s in test.settings] == [
        f"sysu/{mode}/{n}-shot" for mode in ("all", "indoor") for n in (1, 10)
    ]
    assert all(s.query_modality == Modality.INFRARED and len(s.trials) == 10 for s in test.settings)
    assert test.quick == ("sysu/all/1-shot",)


def test_gallery_sizes_of_the_synthetic_set(sysu_root):
    test = sysu.load(str(sysu_root)).test
    seen = {
        cameras: len({(r.camera, r.pid) for r in test.visible if r.camera in cameras})
        for cameras in ((1, 2, 4, 5), (1, 2))
    }
    sizes = {s.protocol: {len(t.gallery) for t in s.trials} for s in test.settings}
    assert sizes == {  # two images of each person and camera, so ten shots take both
        "sysu/all/1-shot": {seen[1, 2, 4, 5]}, "sysu/all/10-shot": {2 * seen[1, 2, 4, 5]},
        "sysu/indoor/1-shot": {seen[1, 2]}, "sysu/indoor/10-shot": {2 * seen[1, 2]},
    }  # fmt: skip
    assert all(t.query.tolist() == list(range(len(test.infrared))) for s in test.settings for t in s.trials)


def test_hold_out_keeps_the_val_identities_for_selection(sysu_root):
    benchmark = sysu.load(str(sysu_root), hold_out=True)
    assert benchmark.num_ids == 6 and [r.path for r in benchmark.train] == image_paths(sysu_root, range(1, 7))
    assert {record.pid for record in benchmark.train} == set(range(6))
    validation = benchmark.validation
    assert [r.path for r in validation.visible] == image_paths(sysu_root, (7, 8), (1, 2, 4, 5))
    assert [r.path for r in validation.infrared] == image_paths(sysu_root, (7, 8), (3, 6))
    assert {record.pid for record in [*validation.visible, *validation.infrared]} == {7, 8}
    assert validation.settings[0].protocol == "sysu-val/all/1-shot" == validation.quick[0]
    assert {s.protocol.split("/")[0] for s in validation.settings} == {"sysu-val"}
    whole = sysu.load(str(sysu_root))
    assert benchmark.test.visible == whole.test.visible and benchmark.test.infrared == whole.test.infrared


def test_mser_defaults():
    assert tuple(sysu.MSER) == (40, 20, 0.3, True)


def test_ids_come_from_mat_files_where_there_is_no_text(editable):
    before = sysu.load(str(editable))
    for name in ("train_id", "val_id", "test_id"):
        (editable / "exp" / f"{name}.txt").unlink()
    after = sysu.load(str(editable))
    assert after.train == before.train and after.test.visible == before.test.visible


@pytest.mark.parametrize("text", ["3,1,2\n", "3, 1, 2", "3 1 2", "3,1,2,\n"])
def test_styles_of_an_id_list(tmp_path, text):
    (tmp_path / "train_id.txt").write_text(text)
    assert sysu.read_ids(tmp_path, "train_id") == [3, 1, 2]


# ---------------------------------------------------------------------------------------------------------------- rules


def test_a_query_skips_its_own_place_and_cameras_2_and_3_are_one():
    people, query, gallery = torch.zeros(6).long(), torch.tensor([3, 6]), torch.tensor([1, 2, 3, 4, 5, 6])
    skipped = sysu.excluded(people[:2], query, people, gallery)
    assert [gallery[row].tolist() for row in skipped] == [[2, 3], [6]]
    assert (query.tolist(), gallery.tolist()) == ([3, 6], [1, 2, 3, 4, 5, 6])  # the caller's cameras are untouched


def test_trials_by_hand():
    visible = [Record(f"cam{c}/0007/{n:04d}.jpg", 7, c, Modality.VISIBLE) for c in (1, 4) for n in (1, 2, 3)]
    order = sysu.Permutations(
        Path("x.mat"), {(1, 7): np.array([[2, 1, 3]] * 9 + [[3, 2, 1]]), (4, 7): np.array([[1, 3, 2]] * 10)}
    )
    first, *_, last = sysu.trials(visible, 2, (1, 2, 4, 5), 1, order)
    assert first.gallery.tolist() == [1, 3]  # number 2 of camera 1, number 1 of camera 4
    assert last.gallery.tolist() == [2, 3]
    assert first.query.tolist() == [0, 1]
    indoor = sysu.trials(visible, 2, (1, 2), 2, order)
    assert [t.gallery.tolist() for t in (indoor[0], indoor[9])] == [[0, 1], [1, 2]]


# ------------------------------------------------------------------------------------------------ damaged and different


def test_other_counts_are_one_warning_line(sysu_root):
    (line,) = sysu.load(str(sysu_root)).warnings
    assert line.startswith("not the published SYSU-MM01: 8 training identities (published: 395), ")
    assert "queries (published: 3803)" in line and "\n" not in line


def test_a_different_num_id_or_num_cam_is_a_warning(sysu_root, caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    build_benchmark(load_config(None, ["data_root", str(sysu_root), "num_id", "395", "num_cam", "6"]), seed=0)
    build_benchmark(load_config(None, ["data_root", str(sysu_root), "num_cam", "9"]), seed=0)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "num_id = 395, but the data have 8; 8 is used" in lines
    assert [line for line in lines if "num_cam" in line] == ["num_cam = 9, but the data have 6"]


def test_the_fingerprint_knows_a_changed_file_and_not_the_folder(sysu_root, tmp_path):
    def fingerprint(root):
        cfg = load_config(None, ["data_root", str(root)])
        return describe(cfg, build_benchmark(cfg, 0), {})["fingerprint"]

    (tmp_path / "moved").symlink_to(sysu_root)
    first = fingerprint(sysu_root)
    assert fingerprint(tmp_path / "moved") == first and len(first) == 64
    other = tmp_path / "other"
    other.mkdir()
    for part in sysu_root.iterdir():
        if part.name != "cam6":
            (other / part.name).symlink_to(part)
    assert fingerprint(other) != first


def test_a_missing_root_and_a_folder_that_is_something_else(tmp_path):
    message = refusal(tmp_path / "absent")
    assert str(tmp_path / "absent") in message and "no such folder" in message and "data_root" in message
    assert refusal(tmp_path) == f"data_root {tmp_path}: not SYSU-MM01, exp/ is missing in it"


def test_missing_permutations_say_where_they_are_published(editable):
    (editable / "exp" / "rand_perm_cam.mat").unlink()
    message = refusal(editable)
    assert message.startswith(str(editable / "exp" / "rand_perm_cam.mat")) and "evaluation/data_split" in message


def test_no_images(editable):
    for camera in editable.glob("cam*"):
        camera.unlink()
    assert "no training images" in refusal(editable)


def test_no_test_images(editable):
    (editable / "exp" / "test_id.txt").write_text("13,14\n")
    assert "no visible images of the 2 identities to evaluate (sysu)" in refusal(editable)


def test_nothing_to_hold_out(editable):
    (editable / "exp" / "val_id.txt").write_text("\n")
    assert sysu.load(str(editable)).num_ids == 6
    with pytest.raises(UserError, match=r"of the 0 identities to evaluate \(sysu-val\)"):
        sysu.load(str(editable), hold_out=True)


@pytest.mark.parametrize("name", ["train_id", "val_id", "test_id"])
def test_a_missing_id_list_is_named(editable, name):
    for suffix in (".txt", ".mat"):
        (editable / "exp" / f"{name}{suffix}").unlink()
    message = refusal(editable)
    assert str(editable / "exp" / f"{name}.txt") in message and "missing" in message


DAMAGE = {
    "empty": b"", "text": b"1,2,3\n" * 50, "cut off": mat_bytes(id=np.arange(300), rand_perm_cam=np.arange(300))[:-20],
    "other variable": mat_bytes(numbers=np.arange(9)), "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + b"\x89HDF" * 9,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_id_file_is_named(editable, damage):
    (editable / "exp" / "train_id.txt").unlink()
    (editable / "exp" / "train_id.mat").write_bytes(DAMAGE[damage])
    assert str(editable / "exp" / "train_id.mat") in refusal(editable)


@pytest.mark.parametrize("damage", [*DAMAGE, "no cells"])
def test_a_damaged_permutation_file_is_named(editable, damage):
    content = DAMAGE.get(damage) if damage in DAMAGE else mat_bytes(rand_perm_cam=np.ones((6, 1)))
    (editable / "exp" / "rand_perm_cam.mat").write_bytes(content)
    assert str(editable / "exp" / "rand_perm_cam.mat") in refusal(editable)


@pytest.mark.parametrize(
    "content", [b"1,two,3\n", b"\xff\xfe1,2", b"1.5,2", b"-1,2", b"0,2", b"1e3", b"10000", b"9" * 5000]
)
def test_a_damaged_id_text_is_named(editable, content):
    (editable / "exp" / "test_id.txt").write_bytes(content)
    assert str(editable / "exp" / "test_id.txt") in refusal(editable)


@pytest.mark.parametrize("value", [1.7, -3.0, 0.0, np.inf, np.nan, 1 + 1j])
def test_a_number_that_is_no_identity_is_refused(editable, value):
    (editable / "exp" / "train_id.txt").unlink()
    (editable / "exp" / "train_id.mat").write_bytes(mat_bytes(id=np.array([2, value])))
    message = refusal(editable)
    assert message.startswith(f"{editable / 'exp' / 'train_id.mat'}: ") and "is no identity, a whole number" in message


@pytest.mark.parametrize("name", ["train_id", "test_id"])
def test_an_empty_list_is_refused(editable, name):
    (editable / "exp" / f"{name}.txt").write_text("\n")
    assert refusal(editable).startswith(f"{editable / 'exp' / name}.txt: lists no identities")


def test_identities_without_images_are_a_warning(editable):
    with open(editable / "exp" / "train_id.txt", "a") as lists:
        lists.write(",4444,4445")
    line = sysu.load(str(editable)).warnings[-1]
    assert line == f"{editable}: no images of 2 identities that exp/ lists, the first of them 4444"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize("name", ["train_id.txt", "rand_perm_cam.mat"])
def test_what_is_no_file_is_not_read(editable, name, make):
    path = editable / "exp" / name
    path.unlink()
    make(path)
    assert refusal(editable).startswith(f"{path}: cannot be read (a ")


def permutations_with(editable: Path, numbers) -> Path:
    """The official file with one cell changed, that of camera 1 and identity 1."""
    path = editable / "exp" / "rand_perm_cam.mat"
    cells = loadmat(path)["rand_perm_cam"]
    cells[0, 0][0, 0] = numbers
    path.write_bytes(mat_bytes(rand_perm_cam=cells))
    return path


@pytest.mark.parametrize("numbers", [
    np.array([[2, 1]]), np.array([[1, 2]] * 9), np.array([[0, 1]] * 10), np.array([[1, 1]] * 10), np.array([[1, 3]] * 10),
    np.array([[1, 2]] * 10).T, np.array([[1, np.nan]] * 10), np.array([[-1, 2]] * 10), np.array([[1, 2]] * 9 + [[2, 3]]),
    np.array([["1", "2"]] * 10),
], ids=str)  # fmt: skip
def test_numbers_that_are_no_ten_permutations_are_refused(editable, numbers):
    path = permutations_with(editable, numbers)
    message = refusal(editable)
    assert message.startswith(f"{path}: camera 1, identity 1: not 10 rows of which each is a permutation of 1..n")


def test_permutations_in_floating_point_are_permutations(editable):
    before = sysu.load(str(editable)).test.settings
    cells = loadmat(editable / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    permutations_with(editable, cells[0, 0][0, 0].astype(float))
    for one, other in zip(before, sysu.load(str(editable)).test.settings, strict=True):
        assert all(np.array_equal(a.gallery, b.gallery) for a, b in zip(one.trials, other.trials, strict=True))


def test_an_empty_gallery_is_refused(editable):
    for camera in (1, 2):
        (editable / f"cam{camera}").unlink()
    message = refusal(editable)
    assert message.startswith(f"{editable}: a gallery of sysu/indoor/1-shot has no image; {editable / 'exp'}")


def test_a_permutation_file_of_other_identities(editable):
    cells = np.empty((6, 1), object)
    for camera in range(6):
        cells[camera, 0] = np.empty((1, 1), object)
        cells[camera, 0][0, 0] = np.ones((10, 1), np.uint8)
    (editable / "exp" / "rand_perm_cam.mat").write_bytes(mat_bytes(rand_perm_cam=cells))
    assert "rand_perm_cam.mat has no entry for camera" in refusal(editable)


def test_an_image_with_a_foreign_name_is_no_traceback(editable):
    person = min(editable.glob("cam*/0009")).resolve()  # of a visible camera
    camera = editable / person.parent.name
    camera.unlink()
    (camera / "0009").mkdir(parents=True)
    (camera / "0009" / "0001.jpg").touch()
    (camera / "0009" / "._0001.jpg").touch()  # what macOS leaves beside every file
    try:
        test = sysu.load(str(editable)).test
    except UserError as error:
        assert "._0001.jpg" in str(error)
    else:
        assert not any("._0001.jpg" in record.path for record in [*test.visible, *test.infrared])


def test_no_image_is_opened(editable, sysu_root):
    for camera in editable.glob("cam*"):
        camera.unlink()
    for path in image_paths(sysu_root, range(1, 13)):
        copy = editable / Path(path).relative_to(sysu_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    assert len(sysu.load(str(editable)).train) == len(sysu.load(str(sysu_root)).train)


def test_an_identity_in_two_lists_is_refused(editable):
    first = (editable / "exp" / "train_id.txt").read_text().split(",")[0]
    with open(editable / "exp" / "test_id.txt", "a") as lists:
        lists.write(f",{first}")
    assert f"identity {first} is in train_id and again in test_id" in refusal(editable)

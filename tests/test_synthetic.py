"""The synthetic data sets: layouts as published, the same bytes every time, colour that says nothing of infrared."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from data.sets import llcm
from tools import make_synthetic
from tools.synthetic import making, sysu_layout, writing
from tools.synthetic.person import LAMPS, Slot, luminance, sample_identity
from utils.errors import UserError
from utils.locks import lock

SMALL = ["--size", "48", "24", "--train-ids", "3", "--val-ids", "1", "--test-ids", "2", "--images", "2"]


def contents(root):
    """Every file below `root`: relative path -> bytes."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def sysu_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "sysu"
    assert make_synthetic.main([str(root), *SMALL, "--workers", "1"]) == 0
    return root


@pytest.fixture(scope="module")
def regdb_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "regdb"
    assert (
        make_synthetic.main([str(root), "--layout", "regdb", "--ids", "5", "--images", "3", "--size", "48", "24"]) == 0
    )
    return root


# ---------------------------------------------------------------------------------------------------------------- bytes


def test_same_bytes_with_two_workers_and_others_with_another_seed(sysu_root, tmp_path):
    assert make_synthetic.main([str(tmp_path / "again"), *SMALL, "--workers", "2"]) == 0
    again, first = contents(tmp_path / "again"), contents(sysu_root)
    assert again == first
    assert make_synthetic.main([str(tmp_path / "other"), *SMALL, "--seed", "1", "--workers", "1"]) == 0
    other = contents(tmp_path / "other")
    shared = [name for name in first if name.endswith(".jpg") and name in other]
    assert len(shared) > 20
    assert not any(first[name] == other[name] for name in shared)
    assert first["exp/rand_perm_cam.mat"] != other["exp/rand_perm_cam.mat"]


def test_an_image_depends_on_its_own_numbers_only(sysu_root, tmp_path):
    more = [*SMALL, "--test-ids", "5"]  # the last value counts
    assert make_synthetic.main([str(tmp_path / "more"), *more, "--workers", "1"]) == 0
    name = "cam6/0001/0002.jpg"
    assert (tmp_path / "more" / name).read_bytes() == (sysu_root / name).read_bytes()


# ----------------------------------------------------------------------------------------------------------------- SYSU


def test_sysu_lists_agree_and_split_the_identities(sysu_root):
    ids = {}
    for name in ("train_id", "val_id", "test_id"):
        text = (sysu_root / "exp" / f"{name}.txt").read_text()
        assert text.count("\n") == 1 and text.endswith("\n")
        ids[name] = [int(i) for i in text.strip().split(",")]
        stored = loadmat(sysu_root / "exp" / f"{name}.mat")["id"]
        assert stored.shape == (1, len(ids[name])) and stored[0].tolist() == ids[name]
    assert ids == {"train_id": [1, 2, 3], "val_id": [4], "test_id": [5, 6]}


def test_rand_perm_cam_has_the_published_nesting_and_names_every_file(sysu_root):
    assert b"Created on" not in (sysu_root / "exp" / "rand_perm_cam.mat").read_bytes()  # scipy's time stamp
    cells = loadmat(sysu_root / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    assert cells.shape == (6, 1) and cells.dtype == object
    named = set()
    for camera in range(1, 7):
        cell = cells[camera - 1, 0]
        assert cell.shape == (6, 1) and cell.dtype == object
        for identity in range(1, 7):
            rows = cell[identity - 1, 0]
            assert rows.dtype == np.uint8 and rows.shape in ((10, 2), (10, 0))
            assert (np.sort(rows, axis=1) == np.arange(1, rows.shape[1] + 1)).all()
            named |= {f"cam{camera}/{identity:04d}/{n:04d}.jpg" for n in rows.ravel()}
    assert named == {name for name in contents(sysu_root) if name.endswith(".jpg")}


def test_every_identity_is_seen_in_both_spectra_and_some_miss_a_camera():
    plan = sysu_layout.sysu(seed=0, train=30, val=0, test=10, images=1, cameras=sysu_layout.SYSU_CAMERAS)
    seen = {i: {p.camera for p in plan.images if p.identity == i} for i in range(1, 41)}
    assert all(s & {3, 6} and len(s & {1, 2, 4, 5}) >= 2 for s in seen.values())
    assert any(len(s) < 6 for s in seen.values())
    few = sysu_layout.sysu(seed=0, train=3, val=0, test=2, images=1, cameras=(1, 6))
    assert {p.camera for p in few.images} == {1, 6} and len(few.images) == 10


@pytest.mark.parametrize("camera, mode", [(1, "RGB"), (2, "RGB"), (3, "L"), (4, "RGB"), (5, "RGB"), (6, "L")])
def test_sysu_images_have_the_channels_of_their_camera(sysu_root, camera, mode):
    paths = list(sysu_root.glob(f"cam{camera}/*/*.jpg"))
    assert paths
    for path in paths:
        with Image.open(path) as image:
            assert (image.mode, image.size, image.format) == (mode, (24, 48), "JPEG")
            assert np.asarray(image).std() > 5


# ---------------------------------------------------------------------------------------------------------------- RegDB


def test_regdb_lists_halve_the_identities_in_every_trial(regdb_root):
    halves = set()
    for trial in range(1, 11):
        ids = {}
        for split, size in (("train", 2), ("test", 3)):
            for kind, folder in (("visible", "Visible"), ("thermal", "Thermal")):
                lines = (regdb_root / "idx" / f"{split}_{kind}_{trial}.txt").read_text().splitlines()
                rows = [(path.split("/"), int(label)) for path, label in (line.split(" ") for line in lines)]
                assert len(rows) == 3 * size and all((regdb_root / "/".join(path)).is_file() for path, _ in rows)
                assert {path[0] for path, _ in rows} == {folder}
                people = sorted({int(path[1]) for path, _ in rows})
                assert all(label == people.index(int(path[1])) for path, label in rows)
                assert ids.setdefault(split, people) == people and len(people) == size
        assert sorted(ids["train"] + ids["test"]) == [1, 2, 3, 4, 5]
        halves.add(tuple(ids["train"]))
    assert len(halves) > 3


def test_regdb_images(regdb_root):
    for folder, mode in (("Visible", "RGB"), ("Thermal", "L")):
        paths = list(regdb_root.glob(f"{folder}/*/*.bmp"))
        assert len(paths) == 15
        for path in paths:
            with Image.open(path) as image:
                assert (image.mode, image.size, image.format) == (mode, (24, 48), "BMP")


# --------------------------------------------------------------------------------------------------------- independence


def test_infrared_reflectance_says_nothing_about_colour_but_shows_the_texture():
    people = [sample_identity(np.random.default_rng((7, i, 0, 0))) for i in range(300)]
    cloth = [slot for slot in Slot if slot not in (Slot.SKIN, Slot.SCENE)]
    grey = np.concatenate([luminance(p.visible[cloth]) for p in people])
    for lamp in range(LAMPS):
        infrared = np.concatenate([p.infrared[lamp, cloth] for p in people])
        assert abs(np.corrcoef(grey, infrared)[0, 1]) < 0.07  # 3300 pairs: the standard error is 0.017
        contrast = np.array(
            [
                (luminance(p.visible[a]) - luminance(p.visible[b]), p.infrared[lamp, a] - p.infrared[lamp, b])
                for p in people
                for a, b in ((Slot.TOP_A, Slot.TOP_B), (Slot.BOTTOM_A, Slot.BOTTOM_B))
            ]
        )
        assert (np.abs(contrast) > [0.3, 0.4]).all()
        assert abs(np.sign(contrast).prod(axis=1).mean()) < 0.16  # 600 signs: the standard error is 0.04


# ------------------------------------------------------------------------------------------------------------ like SYSU


@pytest.fixture
def split_folder(tmp_path):
    """Five identities; 1 trains, 2 tests, 3 is seen in both spectra, 4 in one, 5 nowhere."""
    images = {
        1: [2, 3, 1, 0, 0],
        2: [0, 2, 0, 4, 0],
        3: [3, 2, 2, 0, 0],
        4: [1, 0, 0, 0, 0],
        5: [0, 1, 0, 3, 0],
        6: [2, 0, 2, 0, 0],
    }
    rng, folder = np.random.default_rng(0), tmp_path / "official"
    folder.mkdir()
    cells = [
        sysu_layout.cell_of([np.stack([rng.permutation(n) + 1 for _ in range(10)]).astype(np.uint8) for n in counts])
        for counts in images.values()
    ]
    (folder / "rand_perm_cam.mat").write_bytes(sysu_layout.mat_bytes(rand_perm_cam=sysu_layout.cell_of(cells)))
    (folder / "train_id.mat").write_bytes(sysu_layout.mat_bytes(id=np.array([[1]], np.uint16)))
    (folder / "test_id.mat").write_bytes(sysu_layout.mat_bytes(id=np.array([[2]], np.uint16)))
    return folder


def test_like_sysu_takes_over_counts_and_permutations(split_folder, tmp_path, capsys):
    out = tmp_path / "data"
    assert make_synthetic.main([str(out), "--like-sysu", str(split_folder), "--size", "48", "24"]) == 0
    assert (
        "28 images; 2 training identities (1 of them for validation): 4 visible, 9 infrared; "
        "1 test identities: 6 visible, 2 infrared"
    ) in capsys.readouterr().out
    assert len(list(out.rglob("*.jpg"))) == 28  # 4 + 9 + 6 + 2, and 7 of the identities in no list
    assert (out / "exp" / "val_id.txt").read_text() == "3\n"
    given, written = (loadmat(p / "rand_perm_cam.mat")["rand_perm_cam"] for p in (split_folder, out / "exp"))
    for camera in range(6):
        for identity in range(5):
            np.testing.assert_array_equal(given[camera, 0][identity, 0], written[camera, 0][identity, 0])


def test_like_sysu_names_the_missing_file(split_folder, tmp_path, capsys):
    (split_folder / "test_id.mat").unlink()
    assert make_synthetic.main([str(tmp_path / "data"), "--like-sysu", str(split_folder)]) == 2
    assert "test_id.mat: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"words", b"MATLAB 5.0 MAT-file".ljust(100)])
def test_like_sysu_names_a_damaged_file(split_folder, tmp_path, capsys, content):
    (split_folder / "test_id.mat").write_bytes(content)
    assert make_synthetic.main([str(tmp_path / "data"), "--like-sysu", str(split_folder)]) == 2
    assert "test_id.mat: no MATLAB 5 file with a variable 'id'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        np.eye(3),
        sysu_layout.cell_of([np.eye(3)] * 6),
        sysu_layout.cell_of([sysu_layout.cell_of([np.eye(3)])] * 6),
    ],
)
def test_like_sysu_refuses_another_nesting(split_folder, tmp_path, capsys, content):
    (split_folder / "rand_perm_cam.mat").write_bytes(sysu_layout.mat_bytes(rand_perm_cam=content))
    assert make_synthetic.main([str(tmp_path / "data"), "--like-sysu", str(split_folder)]) == 2
    assert "must be a (6, 1) cell" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- folders


def test_same_arguments_again_leave_the_folder_alone(sysu_root, capsys):
    before = {p: p.stat().st_mtime_ns for p in sysu_root.rglob("*")}
    assert make_synthetic.main([str(sysu_root), *SMALL]) == 0
    assert "already made" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in sysu_root.rglob("*")} == before


def test_other_arguments_and_foreign_folders_are_refused(sysu_root, tmp_path, capsys):
    before = contents(sysu_root)
    assert make_synthetic.main([str(sysu_root), *SMALL, "--seed", "5"]) == 2
    assert "seed = 0, asked 5" in capsys.readouterr().err
    assert contents(sysu_root) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert make_synthetic.main([str(tmp_path / "mine"), *SMALL]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert contents(tmp_path) == {"mine/thesis.tex": b"years of work"}


def fail_after(monkeypatch, count: int, failure: BaseException) -> list:
    """The images drawn before and with the failure come to the returned list."""
    drawn, render = [], writing.render

    def fail(*args):
        drawn.append(args)
        if len(drawn) > count:
            raise failure
        return render(*args)

    monkeypatch.setattr(writing, "render", fail)
    return drawn


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, capsys):
    drawn = fail_after(monkeypatch, 5, OSError(28, "No space left on device"))
    assert make_synthetic.main([str(tmp_path / "data"), *SMALL, "--workers", "1"]) == 2
    assert "no space left on the disk" in capsys.readouterr().err and len(drawn) == 6
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_is_resumed(sysu_root, tmp_path, monkeypatch, capsys):
    out = tmp_path / "data"
    fail_after(monkeypatch, 5, KeyboardInterrupt())
    assert make_synthetic.main([str(out), *SMALL, "--workers", "1"]) == 130
    assert "the same command resumes it" in capsys.readouterr().err and not out.exists()
    left = sorted((tmp_path / ".data.part").rglob("*.jpg"))
    assert len(left) == 5
    left[0].write_bytes(b"")  # as a power cut may leave it
    monkeypatch.undo()
    drawn = fail_after(monkeypatch, 9999, KeyboardInterrupt())
    assert make_synthetic.main([str(out), *SMALL, "--workers", "1"]) == 0
    expected = contents(sysu_root)
    assert contents(out) == expected and list(tmp_path.iterdir()) == [out]
    assert len(drawn) == len([name for name in expected if name.endswith(".jpg")]) - 4


def test_what_other_arguments_left_is_not_used(sysu_root, tmp_path, monkeypatch):
    fail_after(monkeypatch, 5, KeyboardInterrupt())
    assert make_synthetic.main([str(tmp_path / "data"), *SMALL, "--seed", "1", "--workers", "1"]) == 130
    monkeypatch.undo()
    assert make_synthetic.main([str(tmp_path / "data"), *SMALL, "--workers", "1"]) == 0
    assert contents(tmp_path / "data") == contents(sysu_root)


def test_two_processes_do_not_make_one_data_set(tmp_path, capsys):
    (tmp_path / ".data.part").mkdir()
    with (tmp_path / ".data.part" / making.STATE).open("wb") as state:
        assert lock(state)
        assert make_synthetic.main([str(tmp_path / "data"), *SMALL]) == 2
    assert "another process is making it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad, message",
    [
        (["--layout", "market"], "market"),
        (["--size", "8", "8"], "--size"),
        (["--cameras", "1", "2"], "infrared"),
        (["--cameras", "1", "7"], "1 2 3 4 5 6"),
        (["--images", "0"], "--images"),
        (["--ids", "4"], "--ids"),
        (["--layout", "regdb", "--train-ids", "4"], "--train-ids"),
        (["--seed", "-1"], "--seed"),
        (["--images", "x"], "--images"),
        (["--layout", "regdb", "--ids", "1"], "--ids"),
        (["--workers", "0"], "--workers"),
        (["--like-sysu", "nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_give_one_line_and_code_2(tmp_path, capsys, bad, message):
    assert make_synthetic.main([str(tmp_path / "data"), *bad]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert list(tmp_path.iterdir()) == []
    assert issubclass(UserError, ValueError)


# ----------------------------------------------------------------------------------------------------------------- LLCM


def test_llcm_is_read_back(tmp_path):
    arguments = ["--layout", "llcm", "--train-ids", "3", "--test-ids", "2", "--images", "2", "--cameras", "1", "3"]
    assert make_synthetic.main([str(tmp_path / "data"), *arguments, "--size", "48", "24", "--workers", "1"]) == 0
    benchmark = llcm.load(str(tmp_path / "data"))
    assert benchmark.num_ids == 3 and len(benchmark.train) == 3 * (4 + 2)  # camera 3 has no infrared sensor
    assert {(r.camera, r.modality) for r in benchmark.train} == {(1, 0), (3, 0), (1, 1)}
    assert (len(benchmark.test.visible), len(benchmark.test.infrared)) == (8, 4)
    assert {record.pid for record in benchmark.test.visible} == {3, 4}
    i2v, v2i, released = benchmark.test.settings
    assert [len(setting.trials[0].gallery) for setting in (i2v, v2i, released)] == [4, 2, 8]
    assert not any("contradict" in line for line in benchmark.warnings)
    for path, mode in (("test_vis/cam3/0003", "RGB"), ("test_nir/cam1/0003", "L")):
        with Image.open(next((tmp_path / "data" / path).iterdir())) as image:
            assert image.mode == mode


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cameras", "3"], "--cameras = 3: needs a visible camera (1 2 3 4 5 6 7 8 9) and an infrared one"),
        (["--cameras", "10"], "--cameras = 10: choose from 1 2 3 4 5 6 7 8 9"),
        (["--val-ids", "2"], "--val-ids has no meaning with --layout llcm"),
        (["--like-sysu", "."], "--like-sysu has no meaning with --layout llcm"),
    ],
)
def test_what_llcm_refuses(tmp_path, capsys, arguments, said):
    assert make_synthetic.main([str(tmp_path / "data"), "--layout", "llcm", *arguments]) == 2
    assert said in capsys.readouterr().err

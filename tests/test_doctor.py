"""The doctor: data sets of which one thing at a time is wrong, and what it says of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.command import DEFAULT_SEED
from data.sets import DATASETS, folder
from data.sets.value import counted
from tests.conftest import _draw
from tools import doctor
from tools.checkup import examine
from tools.checkup.checks import CHECKS, checked, read_all_splits

TITLES = "|".join(CHECKS)


@pytest.fixture(scope="module")
def llcm_root(tmp_path_factory) -> Path:
    return _draw(tmp_path_factory, "--layout", "llcm", "--train-ids", "3", "--test-ids", "2", "--images", "1")


@pytest.fixture
def roots(sysu_root, regdb_root, llcm_root, folder_root, monkeypatch) -> dict[str, Path]:
    """A folder of each data set, whose counts are for now the published ones."""
    found = {"sysu": sysu_root, "regdb": regdb_root, "llcm": llcm_root, "folder": folder_root}
    for name, root in found.items():
        own = DATASETS[name]
        if own.published:
            there = own.counted(own.load(str(root)))
            module = __import__(f"data.sets.{name}", fromlist=[name])
            monkeypatch.setattr(module, "PUBLISHED", {what: there[what] for what in own.published})
            monkeypatch.setitem(DATASETS, name, own._replace(published=module.PUBLISHED))
    return found


@pytest.fixture
def look(capsys):
    """look(root, *arguments) -> (exit code, states by check, findings as single lines)."""

    def run(root: Path, *arguments: str) -> tuple[int, dict[str, str], list[str]]:
        code = doctor.main([str(root), *arguments])
        text = capsys.readouterr().out
        states = dict(re.findall(f"^({TITLES}) +(ok|note|WRONG|not known)$", text, flags=re.M))
        parts = [" ".join(part.split()) for part in text.split("\n\n")]
        return code, states, [part for part in parts if part.startswith(("WRONG ", "note "))]

    return run


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm", "folder"])
def test_a_sound_data_set(roots, look, name):
    code, states, findings = look(roots[name])
    assert code == 0 and not findings and set(states.values()) == {"ok"}
    assert set(states) == set(CHECKS) - (set() if DATASETS[name].published else {"published counts"})


def test_the_table(roots, capsys):
    assert doctor.main([str(roots["regdb"])]) == 0
    text = capsys.readouterr().out
    assert text.startswith("RegDB in ") and ": 72 images opened\n" in " ".join(text.split("\n\n")[0].split()) + "\n"
    assert re.search(r"^split 1 +found +published\ntraining identities +6 +6\n", text, flags=re.M)
    assert text.endswith("\n\nRegDB: all is well\n")
    rest = text.partition("\n\n")[2]
    assert max(map(len, rest.splitlines())) <= 80


# -------------------------------------------------------------------------------------------------- one fault at a time


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (64, 32), dtype=np.uint8)


def first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def remove_permutations(root):
    (root / "exp/rand_perm_cam.mat").unlink()


def remove_list(root):
    (root / "idx/train_thermal_7.txt").unlink()


def share_identity(root):
    """Of split 2, whose test list gets a line of its training."""
    line = (root / "idx/train_visible_2.txt").read_text().splitlines()[0]
    with (root / "idx/test_visible_2.txt").open("a") as file:
        file.write(line + "\n")


def contradict(root):
    path = root / "idx/train_vis.txt"
    path.write_text(re.sub(" 0$", " 1", path.read_text(), count=1, flags=re.M))


def remove_listed(root):
    first(root, "vis/0000/*.jpg").unlink()


def remove_identity(root):
    for path in root.glob("cam*/0001"):
        shutil.rmtree(path)


def empty(root):
    first(root, "test/visible/*/*.jpg").write_bytes(b"")


def cut(root):
    path = first(root, "test/visible/*/*.jpg")
    path.write_bytes(path.read_bytes()[:400])


def not_an_image(root):
    first(root, "test/visible/*/*.jpg").write_text("no image")


def shrink(root):
    Image.fromarray(pixels(0, 31, 16)).save(first(root, "train/infrared/*/*.jpg"))


def one_side(root):
    for path in (root / "train/infrared/0002").iterdir():
        path.unlink()


def twice(root):
    path = first(root, "train/visible/0001/*.jpg")
    shutil.copy(path, path.with_name("copy_c1.jpg"))


def of_two(root):
    shutil.copy(first(root, "train/visible/0001/*_c1_*.jpg"), root / "train/visible/0002/copy_c1.jpg")


def of_both_sides(root):
    shutil.copy(first(root, "train/visible/0001/*_c1_*.jpg"), root / "train/infrared/0001/copy_c3.jpg")


def in_both_parts(root):
    shutil.copy(first(root, "train/visible/0001/*.jpg"), root / "test/visible/0007/copy_c1.jpg")


def trained_and_tested(root):
    shutil.copytree(root / "train/visible/0001", root / "test/visible/0001")


def unlisted(root):
    (root / "visible/0001").mkdir(parents=True)
    Image.fromarray(pixels(1)).save(root / "visible/0001/new.png")


def of_a_telephone(root):
    (root / "train/visible/0001/0001_c1_0002.HEIC").touch()


def outside(root):
    shutil.copy(first(root, "train/visible/0001/*.jpg"), root / "train/visible/x.jpg")


FAULTS = [
    ("sysu", remove_permutations, "lists and folders", "WRONG lists and folders: exp/rand_perm_cam.mat is missing: it is not in the data set's archive; its authors publish it in their evaluation repository (wuancong/SYSU-MM01) under evaluation/data_split/; copy it to exp/"),
    ("sysu", remove_identity, "published counts", "WRONG published counts: not the published SYSU-MM01: "),
    ("regdb", remove_list, "lists and folders", "WRONG lists and folders: split 7: idx/train_thermal_7.txt is missing: RegDB comes with idx/*_1.txt to *_10.txt"),
    ("regdb", share_identity, "lists and folders", "WRONG lists and folders: split 2: idx, split 2: identity "),
    ("llcm", contradict, "lists and folders", "WRONG lists and folders: idx/train_vis.txt, line "),
    ("llcm", remove_listed, "images are there", "WRONG images are there: 1 listed image missing: vis/0000/0000_c01_s000001_f1_vis.jpg; copy them again"),
    ("folder", empty, "images open", "WRONG images open: 1 unreadable image: test/visible/0007/0007_c1_0001.jpg (empty); copy them again, or remove them"),
    ("folder", cut, "images open", "WRONG images open: 1 unreadable image: test/visible/0007/0007_c1_0001.jpg ("),
    ("folder", not_an_image, "images open", "0007_c1_0001.jpg (its content is of no known format); copy"),
    ("folder", shrink, "images are large enough", "WRONG images are large enough: 1 image below 16 x 32 pixels: train/infrared/0001/0001_c3_0001.jpg (16 x 31); replace"),
    ("folder", one_side, "both modalities", "WRONG both modalities: 1 training identity with images of one modality: those of train/visible/0002/0002_c1_0001.jpg (visible only)"),
    ("folder", twice, "no image twice", "note no image twice: 1 image twice, of one identity: train/visible/0001/0001_c1_0001.jpg = train/visible/0001/copy_c1.jpg"),
    ("folder", of_two, "no image twice", "WRONG no image twice: 1 image under two identities: train/visible/0001/0001_c1_0001.jpg = train/visible/0002/copy_c1.jpg; give"),
    ("folder", of_both_sides, "no image twice", "WRONG no image twice: 1 image both as visible and as infrared: train/infrared/0001/copy_c3.jpg = train/visible/0001/0001_c1_0001.jpg; a wrong"),
    ("folder", in_both_parts, "training and test apart", "WRONG training and test apart: 1 image both in training and in the test: test/visible/0007/copy_c1.jpg = train/visible/0001/0001_c1_0001.jpg; remove"),
    ("folder", trained_and_tested, "lists and folders", "identity '0001' is among training and test, there test/visible/0001/0001_c1_0001.jpg; no model may be tested on whom it was trained on"),
    ("folder", unlisted, "images are there", "note images are there: 1 image file not used, because not listed: visible/0001/new.png"),
    ("folder", of_a_telephone, "images are there", "WRONG images are there: 1 image of a kind that is not read: train/visible/0001/0001_c1_0002.HEIC; convert them to PNG or JPEG"),
    ("folder", outside, "lists and folders", "train/visible/x.jpg: is in no identity's folder"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "harm", "check", "said"), FAULTS, ids=[fault[1].__name__ for fault in FAULTS])
def test_a_fault_is_found(roots, look, tmp_path, name, harm, check, said):
    root = Path(shutil.copytree(roots[name], tmp_path / "data"))
    harm(root)
    code, states, findings = look(root)
    assert any(said in finding for finding in findings), findings
    serious = [finding for finding in findings if finding.startswith("WRONG ")]
    assert code == int(bool(serious))
    assert states[check] == ("WRONG" if any(f.startswith(f"WRONG {check}:") for f in findings) else "note")


def test_several_splits_say_one_thing_once(roots, look, tmp_path):
    root = Path(shutil.copytree(roots["regdb"], tmp_path / "data"))
    shutil.rmtree(root / "idx")
    code, states, (finding,) = look(root)
    assert code == 1 and "not RegDB, idx/ is missing in it" in finding and "split 1" not in finding
    assert states["both modalities"] == "not known" and states["images open"] == "ok"


def test_damage_is_found_in_what_cannot_be_read(roots, look, tmp_path):
    root = Path(shutil.copytree(roots["sysu"], tmp_path / "data"))
    remove_permutations(root)
    first(root, "cam3/*/*.jpg").write_bytes(b"")
    _, states, findings = look(root)
    assert len(findings) == 2 and states["images open"] == "WRONG"


def test_quick_opens_nothing(roots, look, tmp_path, monkeypatch):
    root = Path(shutil.copytree(roots["folder"], tmp_path / "data"))
    cut(root)
    monkeypatch.setattr(examine, "examine", None)
    code, states, findings = look(root, "--quick")
    assert code == 0 and not findings and states["images open"] == "not known" and states["both modalities"] == "ok"
    one_side(root)
    assert look(root, "--quick")[0] == 1


def test_the_test_is_the_one_that_training_draws(roots, tmp_path, capsys):
    for part in ("train", "test"):
        shutil.copytree(roots["folder"] / part, tmp_path, dirs_exist_ok=True)
    first(tmp_path, "visible/0001/*.jpg").unlink()
    counts = set()
    for words, seed in (([], DEFAULT_SEED), (["--seed", "3"], 3), (["--seed", "5"], 5)):
        assert doctor.main([str(tmp_path), "--quick", *words]) == 0
        text = capsys.readouterr().out
        there = counted(folder.load(str(tmp_path), seed=seed))
        assert re.search(f"^the test drawn with seed {seed} +found$", text, flags=re.M)
        assert all(re.search(f"^{name} +{number}$", text, flags=re.M) for name, number in there.items())
        counts.add(tuple(there.values()))
    assert len(counts) > 1


def test_of_many_equal_images_those_are_named_that_tell_what_is_wrong(roots, look, tmp_path):
    root = Path(shutil.copytree(roots["folder"], tmp_path / "data"))
    twice(root)
    shutil.copy(root / "train/visible/0001/copy_c1.jpg", root / "train/visible/0002/other_c1.jpg")
    (finding,) = look(root)[2]
    assert "under two identities: train/visible/0001/0001_c1_0001.jpg = train/visible/0002/other_c1.jpg" in finding


def test_workers_find_the_same(roots, monkeypatch, tmp_path):
    root = Path(shutil.copytree(roots["folder"], tmp_path / "data"))
    for harm in (cut, shrink, of_two):
        harm(root)
    reading = read_all_splits(DATASETS["folder"], root, seed=8)
    paths = sorted(record.path for record in reading.records)
    alone = examine.examine_all(paths, 0)
    monkeypatch.setattr(examine, "FEW", 0)
    assert examine.examine_all(paths, 2) == alone
    assert [image.path for image in alone] == paths and len(checked(reading, alone)) == 3


# ------------------------------------------------------------------------------------------------------- which data set


@pytest.mark.parametrize(
    ("names", "arguments", "said"),
    [
        ([], [], "looks like no known data set, sysu (cam1, cam2, cam3, cam4, cam5, cam6, exp); regdb (Visible, Thermal, idx); "),
        (["idx"], [], "may be regdb or llcm; say which with --dataset"),
        (["SYSU/cam1", "SYSU/exp"], [], "did you mean {root}/SYSU?"),
        (["idx"], ["--dataset", "duke"], "--dataset = 'duke' is unknown; choose one of: folder, llcm, regdb, sysu"),
        (None, [], "{root}: no such folder; give the folder of a data set"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, capsys, names, arguments, said):
    root = tmp_path / "data"
    for name in [""] + (names or []) if names is not None else []:
        (root / name).mkdir(parents=True, exist_ok=True)
    assert doctor.main([str(root), *arguments]) == 2
    error = capsys.readouterr().err
    assert said.format(root=root) in error and error.count("\n") == 1


def test_a_name_overrides_what_it_looks_like(roots, look):
    code, _, (finding,) = look(roots["folder"], "--dataset", "llcm", "--quick")
    assert code == 1 and "not LLCM, idx/ is missing in it" in finding

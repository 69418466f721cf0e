"""RegDB: ten splits, two directions, folder numbers as identities, and what damaged lists say."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import load_config
from data.build import build_benchmark
from data.sets import regdb
from utils.errors import UserError
from utils.types import Modality


@pytest.fixture
def editable(regdb_root, tmp_path) -> Path:
    """The synthetic data set again; its idx/ may be changed, its images are links."""
    root = tmp_path / "set"
    (root / "idx").mkdir(parents=True)
    for source in (regdb_root / "idx").iterdir():
        (root / "idx" / source.name).write_bytes(source.read_bytes())
    for name in ("Visible", "Thermal"):
        (root / name).symlink_to(regdb_root / name)
    return root


def identities(records) -> set[int]:
    return {int(Path(record.path).parent.name) for record in records}


def listed(root: Path, part: str, kind: str, trial: int) -> list[str]:
    lines = (root / "idx" / f"{part}_{kind}_{trial}.txt").read_text().splitlines()
    return sorted(str(root / line.split()[0]) for line in lines)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(root: Path, trial: int = 1) -> str:
    with pytest.raises(UserError) as caught:
        regdb.load(str(root), trial=trial)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("trial", range(1, 11))
def test_a_split_is_what_its_lists_say(regdb_root, trial):
    benchmark = regdb.load(str(regdb_root), trial=trial)
    visible, infrared = ([r.path for r in benchmark.train if r.modality == m] for m in Modality)
    assert visible == listed(regdb_root, "train", "visible", trial) and len(visible) == 6 * 3
    assert infrared == listed(regdb_root, "train", "thermal", trial) and len(infrared) == 6 * 3
    assert [r.path for r in benchmark.test.visible] == listed(regdb_root, "test", "visible", trial)
    assert [r.path for r in benchmark.test.infrared] == listed(regdb_root, "test", "thermal", trial)
    assert (benchmark.name, benchmark.trial, benchmark.num_ids, benchmark.validation) == ("regdb", trial, 6, None)
    assert not identities(benchmark.train) & identities([*benchmark.test.visible, *benchmark.test.infrared])


def test_splits_differ(regdb_root):
    assert len({tuple(sorted(identities(regdb.load(str(regdb_root), trial=t).train))) for t in range(1, 11)}) > 5


def test_labels_are_ranks_of_the_folder_numbers(regdb_root):
    train = regdb.load(str(regdb_root)).train
    ranks = {identity: rank for rank, identity in enumerate(sorted(identities(train)))}
    assert all(record.pid == ranks[int(Path(record.path).parent.name)] for record in train)
    assert [record.path for record in train] == sorted(record.path for record in train)


def test_test_images_keep_their_folder_number(regdb_root):
    test = regdb.load(str(regdb_root)).test
    assert all(record.pid == int(Path(record.path).parent.name) for record in [*test.visible, *test.infrared])
    assert {r.modality for r in test.visible} == {Modality.VISIBLE} and {r.modality for r in test.infrared} == {
        Modality.INFRARED
    }
    assert {r.camera for r in test.visible}.isdisjoint({r.camera for r in test.infrared})


def test_both_directions_once_each(regdb_root):
    test = regdb.load(str(regdb_root)).test
    i2v, v2i = test.settings
    assert (i2v.protocol, i2v.query_modality) == ("regdb/i2v", Modality.INFRARED)
    assert (v2i.protocol, v2i.query_modality) == ("regdb/v2i", Modality.VISIBLE)
    assert set(test.quick) == {"regdb/i2v", "regdb/v2i"}
    for setting in test.settings:
        (trial,) = setting.trials
        assert trial.query.tolist() == trial.gallery.tolist() == list(range(18))  # 6 people, 3 images


def test_directions_of_unequal_modalities(editable):
    path = editable / "idx" / "test_thermal_1.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # 18 visible, 17 infrared
    i2v, v2i = regdb.load(str(editable)).test.settings
    assert (len(i2v.trials[0].query), len(i2v.trials[0].gallery)) == (17, 18)
    assert (len(v2i.trials[0].query), len(v2i.trials[0].gallery)) == (18, 17)


def test_a_query_skips_nothing():
    same = torch.tensor([1, 1, 2])
    assert regdb.excluded(same, same, same[:2], same[:2]).tolist() == [[False, False]] * 3


def test_mser_defaults():
    assert tuple(regdb.MSER) == (50, 10, 0.2, False)


def test_the_config_chooses_the_split(regdb_root):
    cfg = load_config(None, ["dataset", "regdb", "data_root", str(regdb_root), "trial", "4"])
    assert build_benchmark(cfg, seed=0).train == regdb.load(str(regdb_root), trial=4).train


# ------------------------------------------------------------------------------------------------------------- hold out


def test_hold_out_divides_the_training_identities(regdb_root):
    whole, benchmark = regdb.load(str(regdb_root)), regdb.load(str(regdb_root), hold_out=True, seed=3)
    held = identities(benchmark.validation.visible)
    assert len(held) == 1 and identities(benchmark.validation.infrared) == held  # a tenth of 6, at least one
    assert held | identities(benchmark.train) == identities(whole.train) and not held & identities(benchmark.train)
    assert benchmark.num_ids == 5 and {record.pid for record in benchmark.train} == set(range(5))
    assert {record.pid for record in benchmark.validation.visible} == held
    assert [s.protocol for s in benchmark.validation.settings] == ["regdb-val/i2v", "regdb-val/v2i"]
    assert benchmark.test.visible == whole.test.visible
    assert regdb.load(str(regdb_root), hold_out=True, seed=3).train == benchmark.train


def test_the_held_tenth_is_drawn_by_the_seed():
    people = list(range(100, 306))  # 206 identities, as in RegDB
    kept, held = regdb.divide(people, 3)
    assert len(held) == 20 and sorted([*kept, *held]) == people and kept == sorted(kept)
    assert regdb.divide(people, 3) == (kept, held)
    assert regdb.divide(people, 4)[1] != held
    assert regdb.divide(people, None) == (people, set())
    drawn = np.concatenate([sorted(regdb.divide(people, seed)[1]) for seed in range(200)])
    assert abs(drawn.mean() - 202.5) < 4  # no end of the list is preferred: the standard error is 0.9


# ------------------------------------------------------------------------------------------------ damaged and different


def test_other_counts_are_one_warning_line(regdb_root):
    (line,) = regdb.load(str(regdb_root)).warnings
    assert line.startswith("not the published RegDB: 6 training identities (published: 206), ")
    assert "18 test infrared images (published: 2060)" in line


def test_a_label_that_contradicts_its_folder_is_reported_and_the_folder_counts(editable):
    before = regdb.load(str(editable))
    path = editable / "idx" / "train_thermal_1.txt"
    name = path.read_text().split()[0]
    change(path, f"{name} 0\n", f"{name} 5\n")
    after = regdb.load(str(editable))
    (line,) = set(after.warnings) - set(before.warnings)
    assert line.startswith(f"{path}: 1 labels contradict") and f"{name}: 5, not 0" in line
    assert after.train == before.train


def test_labels_follow_the_numbers_not_the_order_of_the_list(editable):
    for part, more in (("train", 0), ("test", 100)):
        for kind, folder in (("visible", "Visible"), ("thermal", "Thermal")):
            (editable / "idx" / f"{part}_{kind}_1.txt").write_text(
                f"{folder}/{8 + more}/a.bmp 1\n{folder}/{1 + more}/a.bmp 0\n{folder}/{16 + more}/a.bmp 2\n"
            )
    benchmark = regdb.load(str(editable))
    assert not any("contradict" in line for line in benchmark.warnings)
    assert {int(Path(r.path).parent.name): r.pid for r in benchmark.train} == {1: 0, 8: 1, 16: 2}


def test_folders_with_leading_zeros_and_backslashes(editable):
    for name in ("train_visible_1", "train_thermal_1"):
        path = editable / "idx" / f"{name}.txt"
        path.write_text(path.read_text().replace("/", "\\") + "\n\n")
    before = regdb.load(str(editable)).train
    assert [record.path for record in before] == [p for k in ("thermal", "visible") for p in listed_unix(editable, k)]
    assert regdb.read_line("Visible/007/x.bmp 3", "here", Modality.VISIBLE)[:3] == ("Visible/007/x.bmp", 7, 3)


def listed_unix(root: Path, kind: str) -> list[str]:
    lines = (root / "idx" / f"train_{kind}_1.txt").read_text().split("\n")
    return sorted(str(root / line.split()[0].replace("\\", "/")) for line in lines if line)


@pytest.mark.parametrize(
    "name", [f"{part}_{kind}_2.txt" for part in ("train", "test") for kind in ("visible", "thermal")]
)
def test_a_missing_list_is_named(editable, name):
    (editable / "idx" / name).unlink()
    message = refusal(editable, trial=2)
    assert message.startswith(f"{editable / 'idx' / name} is missing") and "trial" in message
    assert regdb.load(str(editable), trial=1).num_ids == 6


@pytest.mark.parametrize(
    "content", [b"Visible/1/x.bmp\n", b"Visible/1/x.bmp one\n", b"\xff\xfe\x00V 1\n", b"Visible/1/x.bmp " + b"9" * 5000]
)
def test_a_damaged_list_is_named(editable, content):
    (editable / "idx" / "test_visible_1.txt").write_bytes(content)
    message = refusal(editable)
    assert str(editable / "idx" / "test_visible_1.txt") in message and "relative/path.bmp label" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Visible/anna/x.bmp 0", "'Visible/anna/x.bmp' is not in a folder named by its identity's number"),
        ("Visible/-3/x.bmp 0", "'Visible/-3/x.bmp' is not in a folder named by"),
        ("Visible/1.5/x.bmp 0", "'Visible/1.5/x.bmp' is not in a folder named by"),
        (f"Visible/{'9' * 5000}/x.bmp 0", "is not in a folder named by"),
        ("x.bmp 0", "'x.bmp' is not in a folder named by"),
        ("../1/x.bmp 0", "'../1/x.bmp' leaves data_root"),
        ("Visible\\..\\..\\1\\x.bmp 0", "leaves data_root"),
        ("/data/Visible/1/x.bmp 0", "'/data/Visible/1/x.bmp' leaves data_root"),
        ("Visible/1/x\0.bmp 0", "leaves data_root"),
    ],
)
def test_a_wrong_line_is_named(editable, line, said):
    path = editable / "idx" / "test_visible_1.txt"
    path.write_text(f"{path.read_text()}\n{line}\n")
    number = len(path.read_text().splitlines())
    message = refusal(editable)
    assert message.startswith(f"{path}, line {number}: ") and said in message and "\n" not in message


def test_an_identity_that_is_trained_and_tested_is_refused(editable):
    for kind in ("visible", "thermal"):
        own = (editable / "idx" / f"train_{kind}_1.txt").read_text()
        (editable / "idx" / f"test_{kind}_1.txt").write_text(own)
    first = min(int(line.split("/")[1]) for line in own.splitlines())
    assert refusal(editable) == (
        f"{editable / 'idx'}, split 1: identity {first} is in train and again in test; restore the lists"
    )


@pytest.mark.parametrize("other", ["visible", "thermal"])
def test_an_image_that_is_listed_twice_is_refused(editable, other):
    first = (editable / "idx" / "train_visible_1.txt").read_text().splitlines()[0]
    path = editable / "idx" / f"train_{other}_1.txt"
    path.write_text(f"{path.read_text()}./{first}\n")
    message = refusal(editable)
    number = len(path.read_text().splitlines())
    assert message.startswith(f"{path}, line {number}: './{first.split()[0]}' was listed before, in ")
    assert message.endswith(f"{editable / 'idx' / 'train_visible_1.txt'}, line 1; restore the lists")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_list_that_is_no_file_is_not_read(editable, make):
    path = editable / "idx" / "test_thermal_1.txt"
    path.unlink()
    make(path)
    assert refusal(editable).startswith(f"{path}: cannot be read (a ")


def test_empty_training_lists(editable):
    for kind in ("visible", "thermal"):
        (editable / "idx" / f"train_{kind}_1.txt").write_text("")
    assert "train_visible_1.txt: lists no images" in refusal(editable)


@pytest.mark.parametrize("kinds", [["visible"], ["thermal"], ["visible", "thermal"]])
def test_empty_test_lists(editable, kinds):
    for kind in kinds:
        (editable / "idx" / f"test_{kind}_1.txt").write_text("")
    assert f"test_{kinds[0]}_1.txt: lists no images" in refusal(editable)


def test_a_missing_root_and_a_folder_that_is_something_else(tmp_path):
    assert "no such folder" in refusal(tmp_path / "absent")
    assert refusal(tmp_path) == f"data_root {tmp_path}: not RegDB, idx/ is missing in it"

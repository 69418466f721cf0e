"""Own images: what is read from folders and images.csv, what is refused, and a run from training to figures."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import main
from data.sets import folder
from data.sets.common import fingerprint
from engine.gallery.sources import rows_of_dataset
from tests.conftest import only_run
from tools import evaluate, reproduce
from utils.cli import exit_code
from utils.errors import UserError
from utils.logging import stop_logging
from utils.results import read_rows
from utils.runs import RESULTS, read_record
from utils.types import Benchmark, Modality

SIDES = ("visible", "infrared")


def plant(root: Path, *names: str) -> Path:
    """Empty files, which are images to whoever opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def both(*places: str) -> list[str]:
    """Names of a visible and an infrared image in each of these places, such as train/SIDE/1/a.png."""
    return [place.replace("SIDE", side) for place in places for side in SIDES]


def names_of(benchmark: Benchmark, root: Path) -> list[str]:
    records = [*benchmark.train, *benchmark.test.visible, *benchmark.test.infrared]
    return sorted(os.path.relpath(record.path, root) for record in records)


# -------------------------------------------------------------------------------------------------------------- folders


def test_two_parts(folder_root):
    benchmark = folder.load(str(folder_root))
    assert (benchmark.name, benchmark.num_ids, benchmark.trial, benchmark.mser) == ("folder", 6, None, None)
    assert (len(benchmark.train), len(benchmark.test.visible), len(benchmark.test.infrared)) == (24, 8, 8)
    assert {record.pid for record in benchmark.train} == set(range(6))
    assert {record.pid for record in benchmark.test.visible} == set(range(6, 10))  # ranks among all names
    assert benchmark.train[0] == (str(folder_root / "train/infrared/0001/0001_c3_0001.jpg"), 0, 3, Modality.INFRARED)
    assert benchmark.drawn is None and not benchmark.warnings
    assert tuple(setting.protocol for setting in benchmark.test.settings) == folder.DATASET.protocols
    for setting in benchmark.test.settings:
        (trial,) = setting.trials
        assert trial.query.tolist() == trial.gallery.tolist() == list(range(8))


def test_a_query_skips_its_own_identity_from_its_own_camera():
    pids, cameras = torch.tensor([1, 1, 2]), torch.tensor([1, 2, 1])
    assert folder.DATASET.excluded(pids[:1], cameras[:1], pids, cameras).tolist() == [[True, False, False]]


def test_names_are_any_text_and_only_images_are_read(tmp_path):
    people = ["Anna", 'O\'Neil "x"', "张 伟", "a\nb", "-1"]
    kept = [
        name
        for i, person in enumerate(people)
        for name in both(f"{'train' if i % 2 else 'test'}/SIDE/{person}/a b.JPG")
    ]
    kept += both(
        "train/SIDE/张 伟2/x.png", "train/SIDE/张 伟2/y.Jpeg", "train/SIDE/张 伟2/z.bmp", "train/SIDE/张 伟2/w.TIFF"
    )
    extra = ["Thumbs.db", ".hidden.jpg", "._a.jpg", "notes.txt", "@eaDir/a.jpg", ".git/b.jpg"]
    plant(
        tmp_path,
        *kept,
        *(f"train/visible/张 伟2/{name}" for name in extra),
        "train/visible/.DS_Store",
        "train/visible/readme.md",
    )
    benchmark = folder.load(str(tmp_path))
    assert names_of(benchmark, tmp_path) == sorted(kept) and not benchmark.warnings
    order = sorted([*people, "张 伟2"])
    tested = {record.pid: record.path for record in benchmark.test.visible}
    assert tested == {order.index(p): str(tmp_path / f"test/visible/{p}/a b.JPG") for p in people[::2]}
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(str(tmp_path), benchmark.train))


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"x-\xff")
    plant(tmp_path, *both("train/SIDE/1/a.png", f"train/SIDE/{name}/a.png", "test/SIDE/3/a.png"))
    assert fingerprint(str(tmp_path), folder.load(str(tmp_path)).train)


def test_links_and_folders_in_folders(tmp_path):
    plant(
        tmp_path,
        "store/1/a.png",
        *both(
            "own/train/SIDE/1/a.png", "own/train/SIDE/2/day 1/a.png", "own/test/SIDE/3/a.png", "own/test/SIDE/5/a.png"
        ),
    )
    own = tmp_path / "own"
    (own / "train/visible/4").symlink_to(tmp_path / "store/1")
    (own / "train/infrared/4").mkdir()
    (own / "train/infrared/4/b.png").symlink_to(tmp_path / "store/1/a.png")
    (own / "train/infrared/4/round").symlink_to(own)  # would never end
    benchmark = folder.load(str(own))
    assert benchmark.num_ids == 3 and len(benchmark.train) == 6
    assert benchmark.warnings == [
        f"{own}/train/{side}: 1 images are in folders of an identity's folder, 2/day 1/a.png first; they count as identity 2 there"
        for side in SIDES
    ]


def test_folders_without_images_are_said(tmp_path):
    plant(
        tmp_path, *both("train/SIDE/1/a.png", "test/SIDE/2/a.png"), "train/visible/7/Thumbs.db", "train/visible/8/x.gif"
    )
    (line,) = folder.load(str(tmp_path)).warnings[:1]
    assert line == f"{tmp_path}/train/visible: 2 folders hold no image, 7 first"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "{root}: holds no train/ and test/ with visible/IDENTITY/* and infrared/IDENTITY/* in each"),
        (["train/visible/1/a.png"], "{root}/train/infrared is missing: own images are in train/ and test/"),
        (
            [*both("train/SIDE/1/a.png"), "test/visible/2/a.png"],
            "{root}/test/infrared is missing",
        ),
        (
            [*both("train/SIDE/1/a.png"), "train/visible/a.png", "train/visible/b.png"],
            "{root}/train/visible/a.png: is in no identity's folder, and neither are 1 more; move them to {root}/train/visible/IDENTITY/",
        ),
        (
            both("train/SIDE/1/a.png", "test/SIDE/1/b.png"),
            "{root}: identity '1' is among training and test, there {root}/test/visible/1/b.png",
        ),
        (
            ["visible/1/a.png", "infrared/2/a.png"],
            "{root}: no identity has visible and infrared images to train on",
        ),
        (both("SIDE/1/a.png"), "{root}: no identity has visible and infrared images to train on"),
        (both("test/SIDE/1/a.png"), "{root}: no identity has visible and infrared images to train on"),
        (
            [*both("train/SIDE/1/a.png"), "test/visible/2/a.png", "test/infrared/3/a.png"],
            "no query has an image of its identity in the other modality from another camera (folder)",
        ),
        (
            both("train/SIDE/1/c1.png", "test/SIDE/2/c1.png"),
            "(folder); docs/own_images.md says what tells cameras apart",
        ),
        (both("SIDE/1/c1.png", "SIDE/2/c1.png"), "tells cameras apart; another --seed draws other identities"),
    ],
)
def test_what_is_refused(tmp_path, names, said):
    plant(tmp_path, *names)
    with pytest.raises(UserError) as caught:
        folder.load(str(tmp_path))
    assert said.format(root=tmp_path) in str(caught.value)


@pytest.mark.parametrize("place", ["train/visible", "train/visible/1"])
def test_a_folder_that_may_not_be_read_is_said(tmp_path, monkeypatch, place):
    """Its images would be missing from the training, and nobody would know."""
    plant(tmp_path, *both("train/SIDE/1/a.png", "train/SIDE/2/a.png", "test/SIDE/3/a.png"))

    def with_one_shut(usual):
        def look(path, *rest):
            if os.fspath(path) == str(tmp_path / place):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return usual(path, *rest)

        return look

    monkeypatch.setattr(os, "scandir", with_one_shut(os.scandir))
    monkeypatch.setattr(Path, "iterdir", with_one_shut(Path.iterdir))
    with pytest.raises(UserError, match=f"^{tmp_path / place}: cannot be read .Permission denied.; check data_root"):
        folder.load(str(tmp_path))


# -------------------------------------------------------------------------------------------------- what nobody divided


@pytest.fixture
def undivided(tmp_path) -> Path:
    """Nine identities with both modalities and two with one."""
    people = [f"{i:02d}" for i in range(9)]
    return plant(tmp_path, *both(*(f"SIDE/{p}/a.png" for p in people)), "visible/20/a.png", "infrared/21/a.png")


def test_a_quarter_of_the_identities_is_tested(undivided):
    found = [folder.load(str(undivided), seed=seed) for seed in (1, 1, 2)]
    tested = [{record.pid for record in benchmark.test.visible} for benchmark in found]
    assert tested[0] == tested[1] != tested[2] and [b.drawn for b in found] == [1, 1, 2]
    for benchmark, pids in zip(found, tested):
        assert len(pids) == 3 and pids <= set(range(9)) and benchmark.num_ids == 8
        assert pids == {record.pid for record in benchmark.test.infrared}
        assert len(names_of(benchmark, undivided)) == 20


def test_train_without_test_is_divided_too(undivided):
    (undivided / "train").mkdir()
    for side in SIDES:
        (undivided / side).rename(undivided / "train" / side)
    assert len(folder.load(str(undivided)).test.visible) == 3
    plant(undivided, "visible/99/a.png")
    assert folder.load(str(undivided)).warnings == [f"{undivided}/visible: not read, because train are"]


def test_a_tenth_of_the_rest_is_held_out(undivided):
    whole, part = (folder.load(str(undivided), hold_out=hold, seed=3) for hold in (False, True))
    assert part.test[:2] == whole.test[:2] and part.num_ids == whole.num_ids - 1
    assert [setting.protocol for setting in part.validation.settings] == ["folder-val/i2v", "folder-val/v2i"]
    (held,) = {record.pid for record in (*part.validation.visible, *part.validation.infrared)}
    assert held not in {record.pid for record in part.test.visible}
    said = (
        "the validation has one identity, so every score is 100 %: train on more identities, or leave `select val` out"
    )
    assert part.warnings == [said] and not whole.warnings
    assert {r.path for r in whole.train} == {
        r.path for r in (*part.train, *part.validation.visible, *part.validation.infrared)
    }


# -------------------------------------------------------------------------------------------------------------- cameras


@pytest.mark.parametrize(
    ("names", "cameras"),
    [
        (["c1.png", "x_c2.png"], {"visible": [1, 2], "infrared": [1, 2]}),
        (["cam3_a.png", "0002_c10s1_0004.png"], {"visible": [3, 10], "infrared": [3, 10]}),
        (["a.png", "c3f9.png"], {"visible": [1], "infrared": [2]}),
    ],
)
def test_cameras_of_names(tmp_path, names, cameras):
    plant(tmp_path, *both(*(f"{part}/SIDE/{part}/{name}" for part in ("train", "test") for name in names)))
    test = folder.load(str(tmp_path)).test
    assert {side: sorted({r.camera for r in getattr(test, side)}) for side in SIDES} == cameras


def test_names_of_which_some_tell_no_camera(tmp_path):
    people = [f"{part}/SIDE/{part}/{name}.png" for part in ("train", "test") for name in ("c1", "x_c2", "alone")]
    plant(tmp_path, *both(*people))
    (tmp_path / "train/infrared/train/alone.png").unlink()
    (tmp_path / "test/infrared/test/alone.png").unlink()
    benchmark = folder.load(str(tmp_path))
    assert {r.camera for r in benchmark.test.visible} == {3} and {r.camera for r in benchmark.test.infrared} == {1, 2}
    assert benchmark.warnings[0].startswith(f"2 of 6 visible images have no c<number> in their name, {tmp_path}/t")


def test_queries_without_a_match_are_said(tmp_path):
    plant(tmp_path, *both("train/SIDE/1/c1.png", "test/SIDE/2/c1.png", "test/SIDE/2/c2.png"), "test/visible/3/c1.png")
    assert folder.load(str(tmp_path)).warnings == [
        "1 of 5 test images do not count as queries: they have no image of their identity in the other modality from another camera"
    ]


# ----------------------------------------------------------------------------------------------------------- images.csv


def listing(root: Path, *lines: str, header: str = "path,identity,modality", encoding: str = "utf-8") -> Path:
    """images.csv of these lines, and every file that they name."""
    (root / "images.csv").write_bytes("\n".join([header, *lines, ""]).encode(encoding))
    return root


def test_a_list_of_any_layout(tmp_path):
    plant(tmp_path, "a/1.png", "a/2.png", "b c/人.png", "d.png", "e\nf.png", 'g"h.png')
    listing(
        tmp_path,
        "a/1.png,Anna,door,visible,train",
        "a/2.png,Anna,2,Infrared,train",
        "",
        "./b c/人.png,7,door,visible,train",
        "d.png,7,7,infrared,TRAIN",
        '"e\nf.png", 张 ,door,visible,test',
        '"g""h.png",张,hall,infrared,test',
        header="Path,identity,camera,modality,part",
        encoding="utf-8-sig",
    )
    benchmark = folder.load(str(tmp_path))
    assert {(os.path.relpath(r.path, tmp_path), *r[1:]) for r in benchmark.train} == {
        ("a/1.png", 1, 8, 0), ("a/2.png", 1, 2, 1), ("b c/人.png", 0, 8, 0), ("d.png", 0, 7, 1),
    }  # fmt: skip
    assert [tuple(r) for r in benchmark.test.visible] == [(str(tmp_path / "e\nf.png"), 2, 8, 0)]
    assert [tuple(r) for r in benchmark.test.infrared] == [(str(tmp_path / 'g"h.png'), 2, 9, 1)]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_list_without_parts_and_cameras(tmp_path, mark):
    names = [f"{side[0]}{i}.png" for i in range(4) for side in SIDES]
    plant(tmp_path, *names)
    lines = [mark.join((name, name[1], SIDES[name[0] == "i"], "yes")) for name in names]
    listing(tmp_path, *lines, header=mark.join(("path", "identity", "modality", "Seen")))
    benchmark = folder.load(str(tmp_path), seed=5)
    assert (benchmark.num_ids, benchmark.drawn, len(benchmark.train)) == (3, 5, 6)
    assert {(r.modality, r.camera) for r in benchmark.train} == {(0, 1), (1, 2)}
    assert benchmark.warnings[0] == f"{tmp_path}/images.csv: columns that mean nothing here: seen"


GOOD = ("a.png,1,visible", "b.png,1,infrared")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([*GOOD, "c.png,2,thermal"], "line 4: modality 'thermal' is unknown; choose visible or infrared"),
        ([*GOOD, "../c.png,2,visible"], "line 4: path '../c.png' leaves data_root; paths are relative to it"),
        ([*GOOD, "x/../../c.png,2,visible"], "line 4: path 'x/../../c.png' leaves data_root"),
        ([*GOOD, "/etc/passwd,2,visible"], "line 4: path '/etc/passwd' leaves data_root"),
        ([*GOOD, "", "./a.png,2,visible"], "line 5: {root}/a.png is listed in line 2 already; keep one"),
        ([*GOOD, "x/../b.png,2,visible"], "line 4: {root}/x/../b.png is listed in line 3 already; keep one"),
        ([*GOOD, "a b.png, ,visible"], "line 4: identity is empty"),
        ([*GOOD, ",2,visible"], "line 4: path is empty"),
        ([*GOOD, "\0,2,visible"], "line 4: holds a zero byte"),
        ([*GOOD, "no.png,2,visible"], "line 4: {root}/no.png: no such file; paths are relative to data_root"),
        ([*GOOD, '"no\nno.png",2,visible'], "line 5: {root}/no\\nno.png: no such file"),
        ([*GOOD, "x,2,visible"], "line 4: {root}/x: no such file"),
        (
            [*GOOD, "[" * 5000 + "x.png,2,visible"],
            f"{'[' * 145}x.png: no such file; paths are relative to data_root, with / between folders",
        ),
        (
            [*GOOD, f"c.png,2,{'9' * 5000}"],
            f"line 4: modality '{'9' * 150} ... {'9' * 150}' is unknown; choose visible",
        ),
        (
            [*GOOD, "x" * 300 + ".png,2,visible"],
            ".png: no such file; paths are relative to data_root, with / between folders",
        ),
        ([*GOOD, "a,b.png,2,visible"], "line 4: has 4 values, the first line 3; quote values with commas"),
        ([*GOOD, '"a.png,2,visible'], "line 4: not CSV (unexpected end of data); a quote may be open"),
        ([], "images.csv: lists no image; its columns are path, identity, camera, modality, part"),
        (GOOD, "{root}: no identity has visible and infrared images to train on"),
    ],
)
def test_lines_that_are_refused(tmp_path, lines, said):
    plant(tmp_path, "a.png", "b.png", "x/c.png", "a b.png")
    with pytest.raises(UserError) as caught:
        folder.load(str(listing(tmp_path, *lines)))
    assert said.format(root=tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("path,modality", "line 1: has no column identity; give path, identity, camera, modality, part"),
        ("path,identity,modality,Path", "line 1: has the column path twice; keep one"),
        ("", "line 1: has no column path, identity, modality"),
        ("path,identity,modality,part", "line 3: part is empty, but other lines say test; fill all, or none"),
    ],
)
def test_first_lines_that_are_refused(tmp_path, header, said):
    plant(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError) as caught:
        folder.load(str(listing(tmp_path, "a.png,1,visible,test", "b.png,1,infrared,", header=header)))
    assert said in str(caught.value)


def test_columns_without_a_name_are_nothing(tmp_path):
    """Tables that spreadsheets write end in them."""
    lines = [f"{side[0]}{i}.png,{i},{side},," for i in range(3) for side in SIDES]
    plant(tmp_path, *(line.partition(",")[0] for line in lines))
    benchmark = folder.load(str(listing(tmp_path, *lines, header="path,identity,modality,,")))
    assert benchmark.num_ids == 2 and not any("columns" in line for line in benchmark.warnings)


def test_a_part_that_is_unknown(tmp_path):
    plant(tmp_path, "a.png")
    with pytest.raises(UserError, match="line 2: part 'val' is unknown; choose train or test, or leave it out"):
        folder.load(str(listing(tmp_path, "a.png,1,visible,val", header="path,identity,modality,part")))


def test_a_list_that_is_no_utf_8(tmp_path):
    plant(tmp_path, "a.png")
    with pytest.raises(UserError, match="images.csv: damaged, or not a text in UTF-8; save it as CSV in UTF-8"):
        folder.load(str(listing(tmp_path, "a.png,张,visible", encoding="gbk")))


# ----------------------------------------------------------------------------------------------------- what it works in


KEYS = (
    "backbone resnet18 pretrained none image_size (64,32) p_size 3 k_size 4 num_epoch 2 lr_step [1] num_workers 0 "
    "sample_method cross_modality_identity mda_layers [0,0,1,0] eval_interval 1 log_period 2"
)


@pytest.fixture(scope="module")
def thermal(tmp_path_factory, folder_root) -> Path:
    """The synthetic training images, the infrared ones in 16 bits, in two folders of a path with odd letters."""
    root = tmp_path_factory.mktemp("own") / "人 '1'"
    for path in sorted((folder_root / "train").rglob("*.jpg")):
        place = (root / path.relative_to(folder_root / "train")).with_suffix(".png")
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            pixels = np.asarray(image)
            Image.fromarray(pixels.astype(np.uint16) * 4 + 7000 if image.mode == "L" else pixels).save(place)
    return root


@pytest.fixture(scope="module")
def table(thermal, tmp_path_factory) -> list[str]:
    """Arguments of tools.reproduce for a table of one run on these images."""
    top = tmp_path_factory.mktemp("table")
    content = {
        "title": "Own images", "cfg": "configs/Folder_MCJA.yml", "seeds": [5], "protocols": ["folder/i2v"], "metrics": ["r1"],
        "rows": [{"name": "whole"}], "keys": {"rankers": ["cosine"]},
    }  # fmt: skip
    (top / "own.yml").write_text(yaml.safe_dump(content))
    keys = [*KEYS.split(), "data_root", str(thermal), "cache_dir", str(top / "cache")]
    return [str(top / "own.yml"), "--gpu", "cpu", "--results", str(top / "results"), *keys]


@pytest.fixture(scope="module")
def own_run(table) -> Path:
    """The folder of the run that the table needs."""
    with redirect_stdout(io.StringIO()) as printed:
        assert reproduce.main([*table, "--print"]) == 0
    (line,) = [line for line in printed.getvalue().splitlines() if not line.startswith("#")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(main.__file__).parent)
        assert exit_code(partial(main.run, shlex.split(line)[2:])) == 0
    stop_logging()
    return only_run(next((Path(table[4]) / "runs").iterdir()))


def test_a_run(own_run, table):
    rows = read_rows(own_run / RESULTS)
    assert {(row.protocol, row.ranking) for row in rows} == {("folder/i2v", "cosine"), ("folder/v2i", "cosine")}
    assert [row.stage for row in rows].count("test") == 2
    caches = sorted(path.name for path in Path(table[-1]).iterdir())
    assert [re.sub("-[0-9a-f]{8}[.]", ".", name) for name in caches] == [
        f"folder-seed-5-{part}-64x32.pixels" for part in ("test-infrared", "test-visible", "train")
    ]


def test_it_is_tested_on_its_own_identities(own_run, run_main, tmp_path, capsys):
    """The seed drew them, so it is the run's own, and no other is taken."""
    words = ["test_only", "true", "resume", own_run, "--gpu", "cpu", "output_dir", tmp_path]
    assert run_main(*words) == 0
    tested = only_run(tmp_path)
    assert read_record(tested)["seed"] == 5
    before = [row for row in read_rows(own_run / RESULTS) if row.stage == "test"]
    assert [row._replace(selected_on=None) for row in read_rows(tested / RESULTS)] == [
        row._replace(selected_on=None) for row in before
    ]
    capsys.readouterr()
    assert run_main(*words, "--seed", "6") == 2
    said = "trained with --seed 5, whose training identities are among the test identities that seed 6 draws: leave --seed out"
    assert said in capsys.readouterr().err
    assert run_main(*words, "--seed", "6", "allow_split_mismatch", "true") == 0


def test_it_resumes(own_run, run_main, tmp_path):
    kept = shutil.copytree(own_run, tmp_path / "folder" / own_run.name)
    assert run_main("resume", kept, "num_epoch", "3", "--gpu", "cpu") == 0
    epochs = [row.epoch for row in read_rows(kept / RESULTS) if row.stage == "train"]
    assert epochs == [1, 1, 2, 2, 3, 3]


def test_its_table_and_the_report_s_figures(own_run, table, capsys):
    assert reproduce.main([*table, "--collect"]) == 0
    assert ": 1 of 1 runs are finished" in capsys.readouterr().out
    page = (Path(table[4]) / "own" / "report.html").read_text()
    assert "folder/i2v" in page and "Map of the embeddings" in page


def test_a_gallery_has_the_names_of_identities(folder_root):
    card = {"dataset": "folder", "trial": None, "seed": 8}
    rows = list(rows_of_dataset("folder", folder_root, card))
    assert (
        len(rows) == 16
        and rows[0].identity == "0007"
        and {row.identity for row in rows} == {"0007", "0008", "0009", "0010"}
    )


def test_foreign_features(folder_root, tmp_path):
    test, dice = folder.load(str(folder_root)).test, np.random.default_rng(0)
    arrays = {
        f"{side}_{what}s": np.array([getattr(r, what) for r in getattr(test, side)])
        for side in SIDES
        for what in ("pid", "camera")
    }
    points = dice.normal(size=(10, 8)).astype(np.float32)
    arrays |= {
        "visible_embeddings": points[arrays["visible_pids"]][None],
        "infrared_embeddings": points[arrays["infrared_pids"]],
    }
    np.savez(tmp_path / "x.npz", **arrays)
    evaluate.main(
        [str(tmp_path / "x.npz"), "--protocol", "folder", "--device", "cpu", "--out", str(tmp_path / "rows.jsonl")]
    )
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [(row.protocol, row.r1, row.mAP) for row in rows] == [("folder/i2v", 100, 100), ("folder/v2i", 100, 100)]

"""`infrared_root`: training on infrared images that another program translated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from configs import load_config
from data.build import build_benchmark, build_cache_path, build_image_files, describe
from tools import prepare
from tools.experiments.surroundings import data_fingerprints
from utils.cli import exit_code
from utils.types import Modality


@pytest.fixture
def translations(sysu_root, tmp_path) -> Path:
    """Copies of the infrared images, so equal in name and size: only their folder tells them from the originals."""
    for camera in ("cam3", "cam6"):
        shutil.copytree(sysu_root / camera, tmp_path / "translated" / camera)
    return tmp_path / "translated"


def loaded(root, *keys):
    cfg = load_config(None, ["data_root", str(root), "image_size", "(48, 32)", *map(str, keys)])
    return cfg, build_benchmark(cfg, 0)


@pytest.mark.parametrize("select", ["test", "val"])
def test_training_alone_takes_them(sysu_root, translations, select):
    _, before = loaded(sysu_root, "select", select)
    cfg, after = loaded(sysu_root, "select", select, "infrared_root", translations)
    own = [(split.visible, split.infrared) for b in (before, after) for split in (b.test, b.validation) if split]
    assert own[: len(own) // 2] == own[len(own) // 2 :]
    for old, new in zip(before.train, after.train, strict=True):
        folder = translations if old.modality == Modality.INFRARED else sysu_root
        assert new == old._replace(path=str(folder / Path(old.path).relative_to(sysu_root)))
    part = "train" if select == "test" else "train-without-val"
    assert build_image_files(cfg, after, part).paths == [record.path for record in after.train]
    _, tested = loaded(sysu_root, "select", select, "infrared_root", translations, "test_only", "true", "resume", "x")
    assert tested.train == before.train


def test_run_cache_and_table_know_the_folder(sysu_root, translations):
    (plain, before), (cfg, after) = loaded(sysu_root), loaded(sysu_root, "infrared_root", translations)
    record = describe(cfg, after, {})
    assert record["infrared_root"] == str(translations) and "infrared_root" not in describe(plain, before, {})
    known = data_fingerprints()
    assert known(cfg, 0) == record["fingerprint"] != known(plain, 0) == describe(plain, before, {})["fingerprint"]
    paths = [[build_cache_path(c, b, part) for part in ("train", "test-infrared")] for c, b in ((plain, before), (cfg, after))]  # fmt: skip
    assert paths[0][0] != paths[1][0] and paths[0][1] == paths[1][1]
    moved = translations.rename(translations.with_name("moved"))
    assert known(loaded(sysu_root, "infrared_root", moved)[0], 0) == record["fingerprint"]


def test_a_missing_translation_is_one_line(sysu_root, translations, capsys):
    cfg, benchmark = loaded(sysu_root, "infrared_root", translations)
    infrared = [record.path for record in benchmark.train if record.modality == Modality.INFRARED]
    Path(infrared[1]).unlink()
    run = ["data_root", str(sysu_root), "infrared_root"]
    assert exit_code(lambda: prepare.main([*run, str(translations)])) == 2
    name = Path(infrared[1]).relative_to(translations)
    said = (
        f"{translations}: 1 of {len(infrared)} images are missing, {name} first; it needs every infrared training image"
    )
    assert said in capsys.readouterr().err
    assert exit_code(lambda: prepare.main([*run, str(translations / "none")])) == 2
    assert capsys.readouterr().err.count(f"infrared_root {translations / 'none'}: no such folder; it needs") == 1

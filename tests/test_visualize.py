"""tools.visualize on a finished run: the files it writes, their numbers, and what it says where it cannot draw."""

from __future__ import annotations

import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tools import visualize
from tools.figures.cmc import cmc_curve
from tools.report import gallery
from tools.report.opened_run import Choice, Material
from utils.cli import exit_code
from utils.errors import UserError
from utils.logging import stop_logging
from utils.results import read_rows
from utils.types import Benchmark, Modality, Record

FILES = ["cmc", "curves", "distances", "embedding", "masks", "ranked_lists_cosine", "ranked_lists_mser", "vimc"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def material(trained) -> Material:
    return Material(trained, CPU, Choice())


@pytest.fixture(autouse=True)
def quiet():
    yield
    stop_logging()


@pytest.fixture
def refused(tmp_path, capsys):
    """refused(run, *arguments): runs the tool, which must refuse and write nothing; its one line of error."""

    def run(*arguments) -> str:
        out = tmp_path / "out"
        words = [*map(str, arguments), "--device", "cpu", "--out", str(out)]
        assert exit_code(partial(visualize.main, words)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert not out.exists()
        return error

    return run


def test_all_figures_of_a_run(finished):
    visualize.main([str(finished), "--device", "cpu", "--small"])
    written = sorted((finished / "figures").iterdir())
    assert [path.name for path in written] == [f"{name}.png" for name in FILES]
    for path in written:
        with Image.open(path) as image:
            assert image.format == "PNG" and 300 < image.width <= 720


def test_one_figure_of_one_ranking(finished, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    words = [str(finished), "--what", "ranked_lists", "--ranking", "cosine", "--protocol", "sysu/indoor/10-shot"]
    visualize.main([*words, "--queries", "2", "--device", "cpu", "--out", str(out), "num_workers", "0"])
    assert [path.name for path in out.iterdir()] == ["ranked_lists_cosine.png"]
    assert f"written: {out / 'ranked_lists_cosine.png'}" in capsys.readouterr().out


def test_curves_agree_with_the_runs_rows(material, trained):
    tested = [row for row in read_rows(trained / "results.jsonl") if row.stage == "test"]
    assert {row.ranking for row in tested} == set(material.rankings) == {"cosine", "mser"}
    for row in tested:
        (setting,) = [setting for setting in material.settings if setting.protocol == row.protocol]
        curve = cmc_curve(material.ranked(setting, row.ranking).first)
        assert curve[[0, 4, 9, 19]].tolist() == pytest.approx([row.r1, row.r5, row.r10, row.r20], abs=1e-4)


def test_the_figures_of_a_run_share_one_extraction(material, monkeypatch):
    features, ranked = material.features, material.ranked(material.shown, "mser")
    monkeypatch.setattr(material.evaluator, "extract", lambda *_, **__: pytest.fail("extracted again"))
    assert [drawn.name for drawn in gallery.distances(material)] == ["distances"]
    assert material.features is features and material.ranked(material.shown, "mser") is ranked


def test_ranked_lists_show_images_of_the_right_people(material):
    trial = material.ranked(material.shown, "cosine").shown
    found = gallery.ranked_list(material, trial, "best", 1, 0.5)
    query = material.benchmark.test.infrared[trial.trial.query[1]]
    assert (found.query.pid, found.query.camera, found.modality) == (query.pid, query.camera, Modality.INFRARED)
    right = [each for each in found.found if each.person.pid == found.query.pid]
    assert right and right[0].rank == found.match.rank  # the first right one is always shown
    far = [each.distance for each in found.found]
    assert far == sorted(far) and len(far) == min(10, int((~trial.skipped[1]).sum()))
    skipped = {2, 3} if query.camera == 3 else {query.camera}
    assert skipped.isdisjoint(each.person.camera for each in found.found)


def test_curves_need_neither_model_nor_data(finished, tmp_path):
    (finished / "best.pth").unlink()
    (finished / "last.pth").unlink()
    visualize.main([str(finished), "--what", "curves", "--device", "cpu", "data_root", str(tmp_path / "nowhere")])
    assert (finished / "figures" / "curves.png").is_file()


def test_a_run_that_only_tested_shows_the_model_that_it_tested(run_main, finished, tmp_path, refused):
    assert run_main("--cfg", finished / "config.yml", "--gpu", "cpu", "test_only", "true", "resume", finished, "output_dir", tmp_path / "tested") == 0  # fmt: skip
    (tested,) = (tmp_path / "tested").glob("*/*")
    visualize.main([str(tested), "--what", "masks", "--device", "cpu"])
    assert (tested / "figures" / "masks.png").is_file()
    assert "no training curves; the run did not train" in refused(tested, "--what", "curves")


def test_what_cannot_be_drawn_is_said(finished, tmp_path, refused):
    assert "not a run folder, run.json is missing or damaged" in refused(tmp_path)
    assert "RUN" in refused()
    assert "invalid choice: 'all_of_it'" in refused(finished, "--what", "all_of_it")
    assert "--queries" in refused(finished, "--queries", "0")
    assert "unknown key 'colour'" in refused(finished, "--what", "cmc", "colour", "red")
    assert "no such folder; set data_root" in refused(finished, "--what", "vimc", "data_root", tmp_path / "nowhere")
    protocol = refused(finished, "--what", "distances", "--protocol", "sysu/all/2-shot")
    assert "--protocol sysu/all/2-shot: sysu has sysu/all/1-shot, sysu/all/10-shot" in protocol
    assert "was trained with mda_layers" in refused(finished, "--what", "masks", "mda_layers", "[0, 0, 0, 0]")
    for name in ("best.pth", "last.pth"):
        (finished / name).unlink()
    assert "the folder holds no last.pth" in refused(finished, "--what", "masks")


def test_a_folder_that_cannot_be_written_to(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = [str(finished), "--what", "curves", "--device", "cpu", "--out", str(tmp_path / "file" / "below")]
    assert exit_code(partial(visualize.main, words)) == 2
    assert "below: cannot be made (Not a directory)" in capsys.readouterr().err


def test_parts_that_a_run_lacks_are_named():
    nothing = Benchmark("sysu", None, 0, [Record("x", 1, 3, Modality.INFRARED)], None, None, None, None, [])
    with pytest.raises(UserError, match="run: no training image is visible"):
        gallery.vimc(SimpleNamespace(folder="run", benchmark=nothing))
    without = SimpleNamespace(folder="run", records=lambda modality: [], masks=lambda records: {})
    with pytest.raises(UserError, match=r"run: the model has no MDA adapters \(mda_layers\)"):
        gallery.masks(without)


def test_report_figures_leave_out_what_cannot_be_made(finished, caplog, monkeypatch):
    shutil.rmtree(finished / "tensorboard")
    rows = [line for line in (finished / "results.jsonl").read_text().splitlines() if '"train"' not in line]
    (finished / "results.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(gallery, "DRAWINGS", {name: gallery.DRAWINGS[name] for name in ("curves", "masks", "vimc")})
    figures = gallery.run_figures(finished, CPU)
    assert [figure.title for figure in figures] == ["Masks of the adapters", "VIMC"]
    assert all(figure.caption and figure.png.startswith(b"\x89PNG") for figure in figures)
    assert f"no figure curves: {finished}: no training curves" in caplog.text


def test_report_figures_of_a_folder_that_is_no_run(tmp_path, caplog):
    assert gallery.run_figures(tmp_path, CPU) == []
    assert "no figures: " in caplog.text and "not a run folder" in caplog.text

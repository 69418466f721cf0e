"""tools.evaluate: the rows of training from a file of embeddings, and one line for every file that is wrong."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import load_config
from data.build import build_benchmark
from data.sets import DATASETS, llcm, regdb, sysu
from engine.build import build_evaluator
from engine.checkpoint import load_weights_into, open_checkpoint
from engine.evaluator import result_rows
from engine.retrieval.rankers import RANKERS, rankers
from models import build_model
from tools import evaluate, make_synthetic
from utils import resources as memory
from utils.cli import exit_code
from utils.device import pick_device
from utils.errors import UserError
from utils.results import read_rows, write_rows
from utils.runs import CONFIG, RESULTS
from utils.types import Features, Modality, ResultRow, Split, Stage

SIDES = {Modality.VISIBLE: "visible", Modality.INFRARED: "infrared"}
CPU = torch.device("cpu")


def labels_of(test: Split) -> dict[str, np.ndarray]:
    """Every array but the embeddings, of the test images as a reader lists them."""
    arrays = {"visible_names": np.array([record.path for record in test.visible])}
    for side in SIDES.values():
        for what in ("pid", "camera"):
            arrays[f"{side}_{what}s"] = np.array([getattr(record, what) for record in getattr(test, side)])
    return arrays


def drawn(test: Split, spectra: int) -> dict[str, np.ndarray]:
    """A file's arrays with embeddings that cluster a little by identity."""
    arrays = labels_of(test)
    random = np.random.default_rng(0)
    centres = random.normal(size=(10_000, 8))
    for side, shape in (("visible", (spectra, len(test.visible), 8)), ("infrared", (len(test.infrared), 8))):
        noisy = centres[arrays[f"{side}_pids"]] + 2 * random.normal(size=shape)
        arrays[f"{side}_embeddings"] = noisy.astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def extracted(trained, sysu_root) -> dict[str, np.ndarray]:
    """What the run's best model makes of the test images."""
    cfg = load_config(trained / CONFIG, ["resume", str(trained), "data_root", str(sysu_root)])
    benchmark = build_benchmark(cfg, seed=8)
    model = build_model(cfg, benchmark.num_ids)
    load_weights_into(model, open_checkpoint(str(trained), best=True), allow_other_head=False)
    features = build_evaluator(cfg, benchmark, benchmark.test, CPU).extract(model, with_spectra=True)
    visible, infrared = (features[modality].embeddings.numpy() for modality in SIDES)
    return {**labels_of(benchmark.test), "visible_embeddings": visible, "infrared_embeddings": infrared[0]}


@pytest.fixture(scope="module")
def sysu_arrays(sysu_root) -> dict[str, np.ndarray]:
    return drawn(sysu.load(str(sysu_root)).test, spectra=1)


@pytest.fixture(scope="module")
def regdb_arrays(regdb_root) -> dict[str, np.ndarray]:
    arrays = drawn(regdb.load(str(regdb_root), trial=3).test, spectra=4)
    return {name: array for name, array in arrays.items() if name != "visible_names"}


@pytest.fixture
def tool(tmp_path, sysu_root):
    """tool(arrays or None, protocol, *arguments): the exit code; sysu gets --perm, --out is tmp_path/rows.jsonl."""

    def run(arrays, protocol: str, *arguments: str) -> int:
        if arrays is not None:
            np.savez(tmp_path / "x.npz", **arrays)
        given = ["--perm", str(sysu_root / "exp" / "rand_perm_cam.mat")] if protocol == "sysu" else []
        command = [str(tmp_path / "x.npz"), "--protocol", protocol, *given, "--device", "cpu"]
        return exit_code(partial(evaluate.main, [*command, "--out", str(tmp_path / "rows.jsonl"), *arguments]))

    return run


@pytest.fixture
def rows(tool, tmp_path):
    """rows(...): what the tool writes."""

    def run(*arguments) -> list[ResultRow]:
        assert tool(*arguments) == 0
        return read_rows(tmp_path / "rows.jsonl")

    return run


@pytest.fixture
def refusal(tool, tmp_path, capsys):
    """refusal(...): the one line of error; no file is left."""

    def run(*arguments) -> str:
        before = {path.name for path in tmp_path.iterdir()} | {"x.npz"}
        assert tool(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert {path.name for path in tmp_path.iterdir()} <= before
        return error

    return run


def changed(arrays: dict[str, np.ndarray], name: str, where=..., value=None) -> dict[str, np.ndarray]:
    """A copy in which one array, or the part of it that `where` selects, is replaced."""
    copy = arrays[name].copy()
    copy[where] = value
    return {**arrays, name: copy}


# ------------------------------------------------------------------------------------------------------------- the rows


def test_the_trained_models_features_give_the_runs_own_rows(rows, trained, extracted, monkeypatch):
    cfg = load_config(trained / CONFIG)  # whose neighbourhoods are small, as its data set is
    small = sysu.MSER._replace(k1=cfg.mser_k1, k2=cfg.mser_k2)
    monkeypatch.setitem(DATASETS, "sysu", sysu.DATASET._replace(mser=small))
    expected = [row for row in read_rows(trained / RESULTS) if row.stage == "test"]
    assert len(expected) == 8 and len({row[6:] for row in expected}) > 4
    assert rows(extracted, "sysu") == [row._replace(epoch=None, selected_on=None) for row in expected]


def test_regdb_in_both_directions(rows, regdb_arrays, regdb_root):
    benchmark = regdb.load(str(regdb_root), trial=3)
    features = {
        modality: Features(
            torch.from_numpy(regdb_arrays[f"{side}_embeddings"]).view(-1, len(regdb_arrays[f"{side}_pids"]), 8),
            *(torch.from_numpy(regdb_arrays[f"{side}_{what}"]) for what in ("pids", "cameras")),
        )
        for modality, side in SIDES.items()
    }
    known = rankers(RANKERS, regdb.MSER)
    expected = result_rows(
        features, benchmark.test.settings, benchmark.excluded, known, 1.0, 3, Stage("test", None, None)
    )
    assert rows(regdb_arrays, "regdb", "--rank", ",".join(RANKERS), "--split", "3") == expected
    assert [(row.protocol, row.ranking, row.split) for row in expected[3:5]] == [
        ("regdb/i2v", "k_reciprocal", 3),
        ("regdb/v2i", "cosine", 3),
    ]
    assert {row.split for row in rows(regdb_arrays, "regdb", "--rank", "cosine")} == {None}


def test_one_spectrum_is_ranked_by_cosine_and_lengths_do_not_matter(rows, sysu_arrays):
    expected = rows(sysu_arrays, "sysu")
    assert [row.ranking for row in expected] == ["cosine"] * 4
    assert 0 < expected[0].r1 < 100
    lengths = np.random.default_rng(1).uniform(0.1, 7, size=len(sysu_arrays["visible_names"]))[:, None]
    assert (
        rows(changed(sysu_arrays, "visible_embeddings", ..., sysu_arrays["visible_embeddings"] * 7), "sysu") == expected
    )
    scaled = changed(sysu_arrays, "visible_embeddings", ..., sysu_arrays["visible_embeddings"] * lengths)
    assert rows(scaled, "sysu") == expected


def test_other_precisions(rows, sysu_arrays):
    names = [f"{side}_embeddings" for side in SIDES.values()]
    rounded = {name: sysu_arrays[name].astype(np.float16) for name in names}
    expected = rows({**sysu_arrays, **{name: array.astype(np.float32) for name, array in rounded.items()}}, "sysu")
    assert rows({**sysu_arrays, **rounded}, "sysu") == expected
    double = {name: array.astype(">f8") for name, array in rounded.items()}
    small = {f"{side}_pids": sysu_arrays[f"{side}_pids"].astype(np.uint16) for side in SIDES.values()}
    assert rows({**sysu_arrays, **double, **small}, "sysu") == expected


def test_names_with_other_folders_and_suffixes(rows, sysu_arrays):
    expected = rows(sysu_arrays, "sysu")
    short = np.array(
        ["/".join(Path(name).with_suffix("").parts[-3:]) for name in sysu_arrays["visible_names"].tolist()]
    )
    assert short[0] == "cam1/0009/0001"
    assert rows({**sysu_arrays, "visible_names": short}, "sysu") == expected
    windows = np.array(["D:\\data\\" + name.replace("/", "\\") + ".JPG" for name in short.tolist()])
    assert rows({**sysu_arrays, "visible_names": windows}, "sysu") == expected


def without(arrays: dict[str, np.ndarray], gone: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays without some visible images, [N] bool."""
    cut = {name: array[..., ~gone, :] if array.ndim > 1 else array[~gone] for name, array in arrays.items() if len(gone) in array.shape}  # fmt: skip
    return {**arrays, **cut}


def test_a_missing_image_is_not_in_the_gallery(rows, sysu_arrays, capsys):
    gone = (sysu_arrays["visible_pids"] == 9) & (sysu_arrays["visible_cameras"] == 1)
    complete, fewer = rows(sysu_arrays, "sysu"), rows(without(sysu_arrays, gone), "sysu")
    assert [row.protocol for row in fewer] == [row.protocol for row in complete] and fewer != complete
    said = (
        "warning: not the published SYSU-MM01: 16 queries (published: 3803), {} single-shot all-search gallery images"
    )
    warnings = capsys.readouterr().err.splitlines()
    assert [line.startswith(said.format(count)) for line, count in zip(warnings, (13, 12))] == [True, True]


def test_what_is_printed_and_written(rows, tool, regdb_arrays, tmp_path, capsys, monkeypatch):
    rows(regdb_arrays, "regdb", "--memory-gb", "0.1")
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(" ")[0] for line in lines[1:8]] == [
        "cosine",
        "regdb/i2v",
        "regdb/v2i",
        "",
        "mser",
        "regdb/i2v",
        "regdb/v2i",
    ]
    assert lines[1].split() == ["cosine", "r1", "r5", "r10", "r20", "mAP", "mINP"] and max(map(len, lines[:8])) <= 80
    assert [line.split(":")[0] for line in lines[8:]] == ["cosine", "mser", "peak memory", "rows"] and not printed.err
    entries = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert all(list(entry) == [*ResultRow._fields, "seconds", "peak_memory_gb"] for entry in entries)
    assert entries[0]["seconds"] == entries[2]["seconds"] > 0 and entries[0]["ranking"] == "cosine"
    assert 0.05 < entries[0]["peak_memory_gb"] <= entries[1]["peak_memory_gb"] < 64

    monkeypatch.setattr(memory, "resource", None)
    assert tool(regdb_arrays, "regdb", "--rank", "cosine") == 0
    assert "peak memory: not known on this system" in capsys.readouterr().out
    assert json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["peak_memory_gb"] is None


def test_mser_of_one_spectrum_is_allowed_with_a_warning(rows, sysu_arrays, capsys):
    assert {row.ranking for row in rows(sysu_arrays, "sysu", "--rank", "mser")} == {"mser"}
    assert "warning: visible_embeddings has the original spectrum only" in capsys.readouterr().err


def test_without_out_nothing_is_written(regdb_arrays, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", **regdb_arrays)
    evaluate.main([str(tmp_path / "x.npz"), "--protocol", "regdb", "--rank", "cosine", "--device", "cpu"])
    assert "regdb/v2i" in capsys.readouterr().out and len(list(tmp_path.iterdir())) == 1


# ----------------------------------------------------------------------------------------------- drawn by Python's dice


@pytest.fixture(scope="module")
def llcm_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("llcm") / "data"
    layout = ["--layout", "llcm", "--train-ids", "2", "--test-ids", "5", "--images", "3", "--cameras", "1", "2"]
    assert make_synthetic.main([str(root), *layout, "--size", "32", "16", "--workers", "1"]) == 0
    return root


@pytest.mark.parametrize("name", ["llcm", "sysu-agw"])
def test_drawn_galleries_are_those_of_a_run(rows, llcm_root, sysu_root, name):
    dataset, root = (llcm.DATASET, llcm_root) if name == "llcm" else (sysu.DATASET, sysu_root)
    test = dataset.load(str(root)).test
    arrays = {**drawn(test, 1), "infrared_names": np.array([record.path for record in test.infrared])}
    order = np.random.default_rng(3).permutation(len(test.visible))  # of which the draws do not depend
    for key in ("visible_embeddings", "visible_pids", "visible_cameras", "visible_names"):
        arrays[key] = arrays[key][:, order] if arrays[key].ndim == 3 else arrays[key][order]
    found = rows(arrays, name, "--rank", "cosine")
    settings = test.settings if name == "llcm" else test.extra
    by_path = {record.path: row for row, record in enumerate(test.visible)}
    back = np.argsort([by_path[path] for path in arrays["visible_names"].tolist()])
    visible = Features(*(torch.from_numpy(arrays[f"visible_{what}"][..., back, :] if what == "embeddings" else arrays[f"visible_{what}"][back]) for what in ("embeddings", "pids", "cameras")))  # fmt: skip
    infrared = Features(*(torch.from_numpy(arrays[f"infrared_{what}"]) for what in ("embeddings", "pids", "cameras")))
    features = {Modality.VISIBLE: visible, Modality.INFRARED: infrared._replace(embeddings=infrared.embeddings[None])}
    cosine = rankers(["cosine"], None)
    assert found == result_rows(features, settings, dataset.excluded, cosine, 1.0, None, Stage("test", None, None))
    assert [row.protocol for row in found] == [setting.protocol for setting in settings]


def test_llcm_needs_the_names_of_both_modalities(refusal, llcm_root):
    arrays = drawn(llcm.load(str(llcm_root)).test, 1)
    assert "infrared_names missing" in refusal(arrays, "llcm")
    named = {**arrays, "infrared_names": arrays["visible_names"][: len(arrays["infrared_pids"])].copy()}
    named["infrared_names"][1] = "cam12/3/x.jpg"
    assert "infrared_names, row 1: 'cam12/3/x.jpg'; expected cam{c}/{identity:04d}/{name}" in refusal(named, "llcm")
    assert "--perm is not used with --protocol llcm" in refusal(named, "llcm", "--perm", "x.mat")
    assert "mser: nobody published its parameters" in refusal(named, "llcm", "--rank", "mser")


# ------------------------------------------------------------------------------------------------------ wrong arguments


@pytest.mark.parametrize(
    ("protocol", "arguments", "said"),
    [
        ("market", [], "argument --protocol: invalid choice: 'market'"),
        ("regdb", ["--rank", "cosine,euclid"], "--rank = 'euclid' is unknown; choose one of: cosine, inner, k_reciprocal, mser"),
        ("regdb", ["--rank", ""], "--rank = '' is unknown; choose one of"),
        ("regdb", ["--rank", "mser,cosine,mser"], "--rank = 'mser,cosine,mser' repeats mser; choose each of cosine, inner, k_rec"),
        ("regdb", ["--perm", "rand_perm_cam.mat"], "--perm is not used with --protocol regdb"),
        ("regdb", ["--split", "11"], "--split = 11: RegDB has the splits 1 to 10"),
        ("regdb", ["--split", "0"], "--split = 0: RegDB has the splits 1 to 10"),
        ("sysu", ["--split", "1"], "--split is not used with --protocol sysu"),
        ("sysu", ["--perm", "nowhere/rand_perm_cam.mat"], "nowhere/rand_perm_cam.mat is missing"),
        ("sysu", ["--out", "nowhere/rows.jsonl"], "--out nowhere/rows.jsonl: there is no folder nowhere"),
        ("sysu", ["--out", "."], "--out .: is a folder"),
        ("sysu", ["--out", "/dev/full"], "--out /dev/full: is a pipe or a device"),
        ("sysu", ["--device", "tpu"], "--device tpu: give cpu, cuda, cuda:N or mps"),
        ("sysu", ["--device", "cuda:99"], "--device cuda:99: there are "),
        ("sysu", ["--memory-gb", "0"], "argument --memory-gb: '0' is not a number above 0"),
        ("sysu", ["--memory-gb", "much"], "argument --memory-gb: 'much' is not a number above 0"),
    ],
)  # fmt: skip
def test_wrong_arguments(refusal, sysu_arrays, protocol, arguments, said):
    assert said in refusal(sysu_arrays, protocol, *arguments)


def test_sysu_needs_the_permutations(sysu_arrays, tmp_path, capsys):
    assert exit_code(partial(evaluate.main, ["x.npz", "--protocol", "sysu"])) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in ("exp/rand_perm_cam.mat", "wuancong/SYSU-MM01", "evaluation/data_split/"))


def test_the_place_of_out_is_looked_at_first(refusal):
    assert "there is no folder" in refusal(None, "regdb", "--out", "nowhere/rows.jsonl")


def test_an_old_file_stays_when_the_new_one_cannot_be_made(tool, regdb_arrays, tmp_path, monkeypatch, capsys):
    (tmp_path / "rows.jsonl").write_text("old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("utils.files.os.replace", full)
    assert tool(regdb_arrays, "regdb", "--rank", "cosine") == 2
    printed = capsys.readouterr()
    assert "rows.jsonl: could not be written (No space left on device)" in printed.err and "regdb/i2v" in printed.out
    assert (tmp_path / "rows.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "x.npz"]


# ---------------------------------------------------------------------------------------------------------- wrong files


def write_pickle(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.array([{}], dtype=object), allow_pickle=True)
    path.with_suffix(".npy").rename(path)


def write_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))


def write_torn(path: Path) -> None:
    np.savez(path, visible_embeddings=np.ones((1, 50, 8)))
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "cannot be read (No such file or directory); give a .npz file"),
        (lambda path: path.mkdir(), "cannot be read (a folder, not a file)"),
        (os.mkfifo, "cannot be read (a pipe or a device, not a file)"),
        (lambda path: path.write_bytes(b""), "damaged or not a .npz file"),
        (lambda path: path.write_text("1 2 3"), "not a .npz file"),
        (lambda path: torch.save([1], path), "visible_embeddings, visible_pids"),
        (write_pickle, "pickles, which are refused"),
        (write_array, "a single array, not a .npz file"),
        (write_torn, "damaged or not a .npz file"),
    ],
)
def test_a_file_that_is_no_npz(refusal, tmp_path, write, said):
    write(tmp_path / "x.npz")
    error = refusal(None, "sysu")
    assert error.startswith(f"error: {tmp_path / 'x.npz'}: ") and said in error and "allow_pickle" not in error


def test_a_damaged_array_is_named(refusal, sysu_arrays, tmp_path):
    np.savez(tmp_path / "x.npz", **sysu_arrays)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    place = content.find(sysu_arrays["infrared_embeddings"].tobytes())
    content[place] ^= 255
    (tmp_path / "x.npz").write_bytes(content)
    assert f"{tmp_path / 'x.npz'}: infrared_embeddings is damaged" in refusal(None, "sysu")


@pytest.mark.parametrize("name", ["visible_embeddings", "visible_names", "infrared_pids", "infrared_cameras"])
def test_a_missing_array(refusal, sysu_arrays, name):
    error = refusal({key: array for key, array in sysu_arrays.items() if key != name}, "sysu")
    assert f"x.npz: {name} missing; the file holds " in error


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("visible_embeddings", lambda a: a[0], "is float32 [26, 8]; expected floats [V, N, D], V being 1"),
        ("visible_embeddings", lambda a: a.repeat(3, axis=0), "is float32 [3, 26, 8]; expected floats [V, N, D]"),
        ("visible_embeddings", lambda a: a[:, :0], "is empty, [1, 0, 8]"),
        ("visible_embeddings", lambda a: a[:, 1:], "visible_pids has 26 entries, visible_embeddings 25 images"),
        ("visible_embeddings", lambda a: a.astype(str), "is <U32 [1, 26, 8]; expected floats"),
        ("visible_embeddings", lambda a: a.astype(int), "is int64 [1, 26, 8]; expected floats"),
        ("infrared_embeddings", lambda a: a[None], "is float32 [1, 16, 8]; expected floats [N, D]"),
        ("infrared_embeddings", lambda a: a[:0], "is empty, [0, 8]"),
        ("infrared_embeddings", lambda a: a[:, :0], "is empty, [16, 0]"),
        ("infrared_embeddings", lambda a: a[:, 1:], "visible_embeddings has D = 8, infrared_embeddings D = 7"),
        ("infrared_embeddings", lambda a: a.astype(complex), "is complex128 [16, 8]; expected floats"),
        ("infrared_embeddings", lambda a: a.astype(object), "is damaged or needs pickles, which are refused"),
        ("infrared_pids", lambda a: a[1:], "infrared_pids has 15 entries, infrared_embeddings 16 images"),
        ("infrared_pids", lambda a: a.astype(float), "is float64 [16]; expected whole identity numbers [N]"),
        ("infrared_pids", lambda a: a + 1000, "infrared_pids and visible_pids have no identity in common"),
        ("infrared_cameras", lambda a: a[:, None], "is int64 [16, 1]; expected whole camera numbers [N]"),
        ("visible_cameras", lambda a: a[:3], "visible_cameras has 3 entries"),
        ("visible_names", lambda a: a[:3], "visible_names has 3 entries"),
        ("visible_names", lambda a: np.arange(26), "is int64 [26]; expected texts [N]"),
        ("visible_names", lambda a: a.astype(object), "is damaged or needs pickles"),
    ],
)
def test_an_array_of_another_form(refusal, sysu_arrays, tmp_path, name, change, said):
    error = refusal({**sysu_arrays, name: change(sysu_arrays[name])}, "sysu")
    assert error.startswith(f"error: {tmp_path / 'x.npz'}: ") and name in error and said in error


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "NaN or infinity"),
        (-np.inf, "NaN or infinity"),
        (0, "no direction, its length is 0 in float32; expected 1e-12 to 1e+19"),
        (1e-30, "no direction, its length is 0"),
        (1e30, "no direction, its length is inf"),
    ],
)
def test_a_row_that_has_no_direction(refusal, regdb_arrays, value, said):
    broken = changed(regdb_arrays, "visible_embeddings", (2, 5), value)
    assert f"x.npz: visible_embeddings, row 5 of spectrum 2: {said}" in refusal(broken, "regdb")
    broken = changed(regdb_arrays, "infrared_embeddings", slice(7, 9), value)
    assert f"x.npz: infrared_embeddings, row 7: {said}" in refusal(broken, "regdb")


def test_what_float32_cannot_hold(refusal, regdb_arrays):
    large = {**regdb_arrays, "infrared_embeddings": regdb_arrays["infrared_embeddings"] * np.float64(1e300)}
    assert "infrared_embeddings, row 0: NaN or infinity in float32" in refusal(large, "regdb")


@pytest.mark.parametrize(
    ("name", "row", "value", "said"),
    [
        ("visible_cameras", 3, 6, "visible_cameras, row 3: 6; expected one of 1, 2, 4, 5"),
        ("infrared_cameras", 2, 1, "infrared_cameras, row 2: 1; expected one of 3, 6"),
        ("visible_cameras", 3, 5, "visible_names, row 3: "),
        ("visible_pids", 4, 0, "training labels"),
        ("visible_names", 5, "0001.jpg", "visible_names, row 5: '0001.jpg'; expected cam{c}/{identity:04d}/{number:04d}"),
        ("visible_names", 5, "cam1/6/1", "visible_names, row 5: 'cam1/6/1'; expected"),
        ("visible_names", 1, "other/cam1/0009/0001.png", "row 1: 'other/cam1/0009/0001.png' is the image of row 0 again"),
    ],
)  # fmt: skip
def test_labels_that_are_not_those_of_sysu(refusal, sysu_arrays, name, row, value, said):
    error = refusal(changed(sysu_arrays, name, row, value), "sysu")
    assert "x.npz: visible_names, row" in error or f"x.npz: {name}, row" in error
    assert said in error


def test_a_protocol_without_a_gallery(tool, sysu_arrays, capsys):
    assert tool(without(sysu_arrays, sysu_arrays["visible_cameras"] <= 2), "sysu") == 2
    assert "x.npz: visible_embeddings has no image for the gallery of sysu/indoor/1-shot" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- what it stands on


def test_rows_with_more_keys_are_read_and_rows_with_fewer_are_not(tmp_path):
    row = ResultRow("test", None, "regdb/i2v", 1, None, "cosine", 12.5, 0, 0, 0, 0, 0)
    write_rows(tmp_path / "rows.jsonl", [row, row], [{"seconds": 1.5}, {"seconds": 2.5}])
    assert read_rows(tmp_path / "rows.jsonl") == [row, row]
    entry = row._asdict()
    del entry["mINP"]
    for line in (json.dumps(entry), "[1]", "3", "{"):
        (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row._asdict())}\n{line}\n")
        with pytest.raises(UserError, match=r"rows\.jsonl: line 2 is not a result row"):
            read_rows(tmp_path / "rows.jsonl")


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    assert [str(pick_device(name)) for name in (None, "cpu", "cuda", "cuda:1")] == [
        "cuda:0",
        "cpu",
        "cuda:0",
        "cuda:1",
    ]
    with pytest.raises(UserError, match="--device cuda:2: there are 2 GPUs, numbered from 0"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(pick_device(None)) == "cpu"
    with pytest.raises(UserError, match="--device cuda: there are no GPUs"):
        pick_device("cuda")


def test_peak_memory(monkeypatch):
    peak = memory.peak_memory_gb(CPU)
    assert 0.05 < peak < 64
    monkeypatch.setattr(memory.sys, "platform", "darwin")  # which counts in bytes
    assert memory.peak_memory_gb(CPU) == pytest.approx(peak / 1024, rel=0.01)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    assert memory.peak_memory_gb(torch.device("cuda", 0)) == 1.5

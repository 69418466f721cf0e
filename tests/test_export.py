"""A model's export: files that run without this project and give what the model gives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import main as program
from configs import load_config
from data.images.decode import resized
from engine.embed import Embedder, open_model
from models import MODELS, build_model
from models.backbones.streams import Streams
from tools import export
from tools.exporting import graphs, parity, publishing
from tools.exporting.network import core_graph, exportable
from tools.exporting.samples import SYNTHETIC_SIZES, build_samples, synthetic_image
from utils.errors import UserError
from utils.files import PARTIAL
from utils.images import normalise
from utils.types import Modality

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

HOME = Path(program.__file__).parent
SIZE = (64, 32)
NAMES = (
    "SYSU_MCJA",
    "SYSU_AGW",
    "SYSU_Baseline",
    "SYSU_CAJ",
    "SYSU_MCLNet",
    "SYSU_DEEN",
    "LLCM_DJANet",
    "SYSU_IV-REID",
)
YMLS = [HOME / "configs" / f"{name}.yml" for name in NAMES]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The folder of an export of the session's run, and what the command printed."""
    out = tmp_path_factory.mktemp("exported") / "reid"
    with redirect_stdout(StringIO()) as printed:
        assert export.main([str(trained), "--out", str(out), "--modality", "infrared"]) == 0
    return out, printed.getvalue()


@pytest.fixture(scope="module")
def embedder(trained):
    return open_model(trained)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """Image files of several sizes and kinds, the way that people have them."""
    folder = tmp_path_factory.mktemp("photos")
    people = [Image.fromarray(synthetic_image(number, size)) for number, size in enumerate(SYNTHETIC_SIZES)]
    turned = Image.Exif()
    turned[0x0112] = 6
    people[0].save(folder / "day.jpg", quality=95)
    people[1].convert("L").save(folder / "grey.png")
    people[2].convert("RGBA").save(folder / "clear.png")
    people[3].save(folder / "turned.jpg", exif=turned)
    deep = np.asarray(people[4].convert("L"), np.uint16) * 9 + 7000
    Image.fromarray(deep).save(folder / "thermal.png")
    return sorted(folder.iterdir())


# ------------------------------------------------------------------------------------------------------------ the files


def test_the_command_says_how_close_the_files_are(exported):
    out, printed = exported
    assert {path.name for path in out.iterdir()} == publishing.FILES - {publishing.PORTABLE}
    assert printed.count("passed") == 5 and "FAILED" not in printed
    assert "test images of sysu" in printed
    (difference,) = re.findall(r"from files to vectors.*cosine >= (\S+), \|d\| <= (\S+)", printed)
    assert float(difference[0]) >= parity.COSINE and float(difference[1]) <= parity.DIFFERENCE


def test_the_script_runs_where_nothing_of_this_project_is(exported, embedder, photos, tmp_path):
    """In a folder of its own, with the packages that it names and none of ours."""
    shutil.copytree(exported[0], tmp_path / "anywhere")
    names = [path.name for path in photos]
    for path in photos:
        shutil.copy(path, tmp_path)
    blocked = (
        "import runpy, sys; sys.modules.update(torch=None, onnx=None, engine=None); "
        "runpy.run_path('anywhere/use.py', run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", blocked, "infrared", names[-1], "visible", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    query, gallery = embedder([photos[-1]], "infrared"), embedder(photos, "visible")
    expected = dict(zip(names, (gallery @ query[0]).tolist()))
    found = [(name, float(cosine)) for cosine, name in (line.split("  ") for line in done.stdout.splitlines())]
    cosines = [cosine for _, cosine in found]
    assert cosines == sorted(cosines, reverse=True)
    assert dict(found) == pytest.approx(expected, abs=2e-3)


def test_the_script_is_short_and_needs_three_packages():
    text = (HOME / "tools" / "exporting" / "use.py").read_text()
    assert len(text.splitlines()) <= 40
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, flags=re.M))
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}


def test_any_batch_of_any_size_gives_unit_vectors(exported):
    session = parity.session(exported[0] / "model.onnx")
    for shape in ((1, 1, 1), (3, 97, 45), (2, 33, 200)):
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        (vectors,) = session.run(None, {"images": pixels, "modality": np.zeros(len(pixels), np.int64)})
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert vectors.shape == (len(pixels), 512) and vectors.dtype == np.float32


def test_a_model_file_says_what_it_is_and_holds_its_weights(exported, embedder):
    import onnx

    for name in (publishing.WHOLE, publishing.CORE):
        model = onnx.load(exported[0] / name, load_external_data=False)
        assert {entry.key: entry.value for entry in model.metadata_props}["model"] == embedder.hash
        assert all(tensor.data_location == tensor.DEFAULT for tensor in model.graph.initializer)


def test_the_card_is_the_models_and_says_how_to_feed_the_files(exported, embedder):
    card = json.loads((exported[0] / "card.json").read_text())
    assert {key: card[key] for key in embedder.card} == json.loads(json.dumps(embedder.card))
    assert card["preprocessing"]["input_size"] == list(SIZE) and card["embedding"]["size"] == 512
    assert card["preprocessing"]["interpolation"] == embedder.interpolation
    import onnx

    for name, told in card["files"].items():
        session = parity.session(exported[0] / name)
        versions = {each.domain: each.version for each in onnx.load(exported[0] / name).opset_import}
        assert versions[""] == card["opset"] >= 18
        assert {value.name: value.shape for value in session.get_inputs()} == {
            key: value["shape"] for key, value in told["inputs"].items()
        }
    sidecar = json.loads((exported[0] / "model-core.onnx.metadata.json").read_text())
    assert sidecar["img_size"] == list(SIZE)


# ---------------------------------------------------------------------------------------------------------- the methods


def made(yml: Path, *opts: str) -> tuple[nn.Module, Embedder]:
    """A small network of a method, with the statistics of a trained one."""
    small = ["pretrained", "none", "backbone", "resnet18", "image_size", str(SIZE), "mda_layers", "[0, 0, 1, 0]", *opts]
    cfg = load_config(str(yml), small)
    torch.manual_seed(0)
    model = build_model(cfg, 5).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.4, 0.8)
    return model, Embedder(model, cfg.image_size, torch.device("cpu"), dict(cfg))


@pytest.mark.parametrize("yml", YMLS, ids=lambda path: path.stem)
def test_every_method_exports(yml):
    """Both files give the model's vectors for batches of 1 and 5, in which the modalities are mixed."""
    model, embedder = made(yml)
    core = core_graph(model, SIZE)
    two_stems = any(isinstance(part, Streams) and len(part.stems) > 1 for part in model.modules())
    assert graphs.reads_modality(core) == two_stems
    assumed = graphs.with_default(core, Modality.INFRARED)
    whole, core = (
        parity.session(graphs.signed(graph, {}).SerializeToString())
        for graph in (graphs.with_pixels(core, SIZE), assumed)
    )
    pixels = np.stack([synthetic_image(number, SIZE) for number in (0, 2, 4, 6, 8)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    own = np.stack([embedder(images, kind).numpy() for kind in Modality])
    for count in (1, 5):
        kinds = np.arange(count) % 2
        expected, given = own[kinds, np.arange(count)], {"images": pixels[:count], "modality": kinds}
        np.testing.assert_allclose(whole.run(None, given)[0], expected, atol=1e-4)
    normalised = normalise(images).numpy()
    np.testing.assert_allclose(core.run(None, {"images": normalised})[0], own[Modality.INFRARED], atol=1e-4)
    if two_stems:
        assert np.abs(own[0] - own[1]).max() > 1e-3
        for kinds in ([0], [0, 1, 0, 1, 0]):
            expected = own[np.resize(kinds, 5), np.arange(5)]
            found = core.run(None, {"images": normalised, "modality": np.array(kinds)})[0]
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_ymls_above_are_of_all_methods():
    assert {load_config(str(yml), []).model for yml in YMLS} == set(MODELS)


def test_pooling_stays_in_float32():
    """Whatever precision a network computes in, its vectors are of float32; the graph holds no other floats."""
    import onnx

    model, _ = made(HOME / "configs" / "SYSU_MCJA.yml")
    types = {tensor.data_type for tensor in core_graph(model, SIZE).graph.initializer}
    assert types <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


class Deciding(nn.Module):
    def embed(self, images, modalities):
        return torch.linalg.eigh(images[:, 0] @ images[:, 0].mT).eigenvalues


def test_a_network_that_no_graph_holds_is_one_line():
    with pytest.raises(UserError, match="^the network cannot be exported: .*eigh") as caught:
        core_graph(Deciding(), SIZE)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------------------- the resizing


@pytest.mark.parametrize("size", [(64, 32), (384, 192), (288, 144), (37, 19)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos"])
def test_resizing_is_within_one_grey_level_of_pillows(size, interpolation):
    session = parity.session(graphs.resizing(size, interpolation).SerializeToString())
    chance = np.random.default_rng(0)
    equal = []
    for shape in ((1, 1), (17, 9), (64, 32), (120, 60), (150, 75), (333, 127), (40, 400), (2, 300), size):
        noise = chance.integers(0, 256, (*shape, 3), dtype=np.uint8)
        for image in (noise, (noise > 127).astype(np.uint8) * 255):
            (levels,) = session.run(None, {"images": image[None]})
            change = np.abs(levels[0] - resized(Image.fromarray(image), size, interpolation).numpy())
            assert change.max() <= 1, (shape, change.max())
            equal.append((change == 0).mean())
    assert min(equal) > 0.7 and np.mean(equal) > 0.9 and equal[-1] == 1


@pytest.mark.parametrize("seed", [23, 70])
def test_no_level_ends_two_away_where_pillow_takes_the_other_direction_first(seed):
    image = np.random.default_rng(seed).integers(0, 256, (400, 200, 3), dtype=np.uint8)
    resizing = parity.session(graphs.resizing((384, 192), "bilinear").SerializeToString())
    (levels,) = resizing.run(None, {"images": image[None]})
    expected = np.asarray(Image.fromarray(image).resize((192, 384), Image.Resampling.BILINEAR))
    assert np.abs(levels[0].transpose(1, 2, 0) - expected).max() <= 1


# ------------------------------------------------------------------------------------------------------ what is refused


def run(capsys, *arguments) -> tuple[int, str]:
    code = export.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_a_place_that_is_taken_is_refused(exported, trained, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "mixed").mkdir()
    shutil.copytree(exported[0], tmp_path / "mixed", dirs_exist_ok=True)
    (tmp_path / "mixed" / "notes.txt").write_text("words")
    (tmp_path / "file").write_text("words")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out, options, message in (
        (tmp_path / "mine", ["--overwrite"], "holds other things than an export"),
        (tmp_path / "mixed", ["--overwrite"], "holds other things than an export"),
        (tmp_path / "file", ["--overwrite"], "holds other things than an export"),
        (exported[0], [], "holds an export; --overwrite replaces it"),
        (tmp_path / "no" / "where", [], "there is no folder"),
    ):
        code, error = run(capsys, trained, "--out", out, *options)
        assert code == 2 and message in error and error.count("\n") == 1, error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_bad_models_and_images_are_one_line(trained, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("words")
    torch.save(torch.load(trained / "best.pth", weights_only=True)["model"], tmp_path / "weights.pth")
    for arguments, message in (
        ((tmp_path / "weights.pth",), "weights alone"),
        ((tmp_path / "nothing",), "no such file"),
        ((trained, "--images", tmp_path / "text.jpg"), "text.jpg: not a readable image"),
    ):
        code, error = run(capsys, *arguments, "--out", tmp_path / "out")
        assert code == 2 and message in error and error.count("\n") == 1, error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.jpg", "weights.pth"]


def test_files_that_differ_from_the_model_are_not_published(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(graphs, "IMAGENET_MEAN", (0.4, 0.4, 0.4))
    assert export.main([str(trained), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert said.out.count("FAILED") == 2 and "nothing is written" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "card.json").write_text("{}")
    with pytest.raises(UserError, match="could not be written .No space"), publishing.publishing(out) as folder:
        (folder / "model.onnx").write_text("half")
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "card.json"]
    with publishing.publishing(out) as folder:
        (folder / "card.json").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "card.json"]
    assert (out / "card.json").read_text() == "new"


def test_what_a_killed_export_left_is_put_right_and_a_running_one_is_spared(tmp_path):
    out = tmp_path / "out [1]"
    left = tmp_path / f".{out.name}.abcd_123{PARTIAL}"
    left.mkdir()
    (left / publishing.HELD).touch()
    before = tmp_path / f".{out.name}.efgh_456{publishing.BEFORE}"
    before.mkdir()
    (before / publishing.CARD).write_text(json.dumps({"format": publishing.FORMAT}))
    with pytest.raises(UserError, match="holds an export; --overwrite replaces it"):
        publishing.require_place(out, overwrite=False)
    assert list(tmp_path.iterdir()) == [out]
    with publishing.publishing(out) as folder:
        publishing.require_place(out, overwrite=True)
        assert folder.is_dir()
        (folder / publishing.CARD).write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, publishing.CARD]


def test_what_an_export_of_a_longer_name_left_is_its_own(tmp_path):
    other = tmp_path / f".reid.v2.abcd_123{publishing.BEFORE}"
    other.mkdir()
    for _ in range(2):  # before there is a `reid`, and then
        publishing.require_place(tmp_path / "reid", overwrite=True)
        assert other.is_dir()
        (tmp_path / "reid").mkdir(exist_ok=True)
    publishing.require_place(tmp_path / "reid.v2", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reid", "reid.v2"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk" / "reid").mkdir(parents=True)
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "disk" / "reid")
    with publishing.publishing(link) as folder:
        (folder / "card.json").write_text("new")
    assert link.is_symlink() and (link / "card.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["reid"] and len(list(tmp_path.iterdir())) == 2


def test_an_export_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    rename = Path.rename

    def full(source, target):
        if source.suffix == PARTIAL:
            raise OSError(28, "No space left on device")
        return rename(source, target)

    out = tmp_path / "out"
    out.mkdir()
    (out / "card.json").write_text("old")
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(UserError, match="No space"), publishing.publishing(out) as folder:
        (folder / "card.json").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (out / "card.json").read_text() == "old"


def test_without_the_data_set_images_are_drawn(trained, tmp_path):
    cfg = load_config(str(trained / "config.yml"), ["data_root", str(tmp_path)])
    images, source = build_samples(cfg)
    assert "synthetic" in source and [image.shape for image in images] == [(*size, 3) for size in SYNTHETIC_SIZES]


def test_a_copy_is_exported(trained, embedder):
    """The model itself stays as it is."""
    model, _ = made(HOME / "configs" / "SYSU_AGW.yml")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exportable(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_page_is_true(exported, embedder, photos, tmp_path, monkeypatch):
    """Its commands are known to the parser, its example runs, and it names the files that there are."""
    page = (HOME / "docs" / "export.md").read_text(encoding="utf-8")
    shell = [line for block in re.findall(r"```sh\n(.*?)```", page, flags=re.S) for line in block.splitlines()]
    args = export.parse(shell[0].removeprefix("python -m tools.export ").split())
    assert (args.model, args.out) == ("RUN", "reid")
    assert {name for name in publishing.FILES if f"| `{name}` |" in page} == publishing.FILES
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported[0], "reid")
    shutil.copy(next(path for path in photos if path.name == "day.jpg"), "day1.jpg")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    found: dict = {}
    exec(example, found)
    own = embedder(["day1.jpg"], "visible").numpy()
    np.testing.assert_allclose(found["vectors"], own, atol=2e-3)
    assert shell[1].startswith("python reid/use.py infrared ")

"""From a checkpoint alone to the vectors that the evaluator ranks."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import main
from configs import load_config
from data.build import build_benchmark
from data.images.decode import load_image
from engine.build import build_evaluator
from engine.checkpoint import load_weights_into, open_checkpoint
from engine.embed import open_model
from models import build_model
from utils.errors import UserError
from utils.types import Modality

README = (Path(main.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    """A copy of best.pth, in a folder without the run that wrote it."""
    return Path(shutil.copy(trained / "best.pth", tmp_path_factory.mktemp("alone") / "model.pth"))


@pytest.fixture(scope="module")
def embedder(alone):
    return open_model(alone)


@pytest.fixture(scope="module")
def benchmark(trained):
    return build_benchmark(load_config(str(trained / "config.yml"), []), seed=0)


@pytest.fixture(scope="module")
def ranked(trained, benchmark):
    """What the run's evaluator embeds: {modality: [V, N, D]}."""
    cfg = load_config(str(trained / "config.yml"), ["resume", str(trained), "test_only", "true"])
    model = build_model(cfg, benchmark.num_ids)
    load_weights_into(model, open_checkpoint(str(trained), best=True), allow_other_head=False)
    evaluator = build_evaluator(cfg, benchmark, benchmark.test, torch.device("cpu"))
    return {modality: part.embeddings for modality, part in evaluator.extract(model, with_spectra=False).items()}


@pytest.mark.parametrize("modality", Modality)
def test_a_copied_checkpoint_gives_the_vectors_that_are_ranked(embedder, benchmark, ranked, modality):
    names = [record.path for record in benchmark.test.records[modality]]
    vectors = embedder(names, modality.name.lower())
    assert vectors.dtype == torch.float32 and vectors.device.type == "cpu"
    torch.testing.assert_close(vectors, F.normalize(ranked[modality][0], dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(names)), atol=1e-6, rtol=0)


def test_names_of_files_and_their_pixels_give_the_same_bits(embedder, benchmark):
    names = [record.path for record in benchmark.test.visible[:3]]
    images = torch.stack([load_image(name, embedder.size) for name in names])
    assert torch.equal(embedder(images, Modality.VISIBLE), embedder(names, "visible"))
    assert torch.equal(embedder([Path(name) for name in names], "visible"), embedder(names, "visible"))


def test_files_are_resized_as_the_model_was_trained(alone, benchmark, tmp_path):
    content = torch.load(alone, weights_only=True)
    content["origin"]["config"]["interpolation"] = "lanczos"
    torch.save(content, tmp_path / "other.pth")
    first, other = open_model(alone), open_model(tmp_path / "other.pth")
    names = [str(tmp_path / f"{number}.png") for number in range(2)]
    for name, record in zip(names, benchmark.test.visible):
        Image.open(record.path).resize((45, 99)).save(name)
    images = torch.stack([load_image(name, other.size, "lanczos") for name in names])
    assert torch.equal(other(names, "visible"), first(images, "visible"))
    assert not torch.equal(other(names, "visible"), first(names, "visible")) and first.hash != other.hash


def test_no_image_gives_no_vector(embedder):
    assert embedder([], "visible").shape == embedder(["x"][:0], "infrared").shape
    assert len(embedder([], "visible")) == 0


def test_a_run_folder_means_its_best_model(embedder, trained, benchmark):
    names = [record.path for record in benchmark.test.infrared[:2]]
    assert torch.equal(open_model(trained)(names, "infrared"), embedder(names, "infrared"))


def test_weights_alone_are_refused(alone, tmp_path):
    torch.save(torch.load(alone, weights_only=True)["model"], tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth: holds weights alone.*give a checkpoint of a run$"):
        open_model(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "images, modality, message",
    [
        (torch.zeros(2, 3, 64, 31, dtype=torch.uint8), "visible", r"shape \(2, 3, 64, 31\): .* uint8 \[B, 3, 64, 32\]"),
        (torch.zeros(3, 64, 32, dtype=torch.uint8), "visible", r"shape \(3, 64, 32\): .* uint8 \[B, 3, 64, 32\]"),
        (torch.zeros(2, 3, 64, 32), "visible", r"type torch\.float32 .* takes uint8"),
        (torch.zeros(2, 3, 64, 32, dtype=torch.uint8), "thermal", "modality = 'thermal' .* infrared, visible"),
        (torch.zeros(2, 3, 64, 32, dtype=torch.uint8), 2, "modality = 2 .* infrared, visible"),
        (["nowhere.jpg"], "visible", "nowhere.jpg"),
        ("nowhere.jpg", "visible", "a list"),
    ],
)
def test_bad_input_is_one_line(embedder, images, modality, message):
    with pytest.raises(UserError, match=message) as caught:
        embedder(images, modality)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_readme(alone, benchmark, monkeypatch, tmp_path, capsys):
    """Its five lines, with the files that they name."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in example.splitlines() if line]) == 5
    Path("RUN").mkdir()
    shutil.copy(alone, "RUN/best.pth")
    shutil.copy(benchmark.test.infrared[0].path, "night.jpg")
    for name, record in zip(("day1.jpg", "day2.jpg"), benchmark.test.visible):
        shutil.copy(record.path, name)
    exec(example, {})
    assert capsys.readouterr().out.strip() in ("day1.jpg", "day2.jpg")

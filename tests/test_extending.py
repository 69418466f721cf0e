"""The page that says how to add a method, a data set and a ranker: its code is run as it is."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import main
from configs.defaults import KEYS, Key
from data.sets import DATASETS
from engine.retrieval.rankers import RANKERS
from losses import LOSSES
from models import MODELS
from tests.conftest import only_run
from tools import evaluate
from utils.results import read_rows

HOME = Path(main.__file__).parent
PAGE = (HOME / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, flags=re.S)
SMALL = (
    "backbone resnet18 pretrained none image_size (64,32) p_size 2 k_size 4 num_epoch 2 num_workers 0 cache none "
    "lr_step [1] warmup 1 mser false eval_initial false"
)


def test_every_block_says_its_file():
    assert len(BLOCKS) == PAGE.count("```") // 2 == 10


def put(name: str, code: str) -> None:
    """Run a block in the module that its file is, a new one where there is none."""
    path = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = sys.modules.setdefault(path, ModuleType(path))
    parent, _, child = path.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    if name == "configs/defaults.py":
        key = eval(code, vars(module))
        assert isinstance(key, Key)
        KEYS[key.name] = key
    else:
        exec(compile(code, name, "exec"), vars(module))


@pytest.fixture
def extended(tmp_path):
    """The project with all blocks in their places; gives the file of the method."""
    before = [(table, dict(table)) for table in (MODELS, LOSSES, DATASETS, RANKERS, KEYS)]
    modules = set(sys.modules)
    for name, code in BLOCKS:
        if name.endswith(".yml"):
            file = tmp_path / Path(name).name
            file.write_text(code)
        else:
            put(name, code)
    yield file
    for table, entries in before:
        table.clear()
        table.update(entries)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def plaza(tmp_path):
    """Six identities to train on and three to test, in two images of each modality."""
    draw = np.random.default_rng(0).integers
    for part, identities in (("train", range(6)), ("test", range(6, 9))):
        for modality in ("visible", "infrared"):
            for identity in identities:
                folder = tmp_path / "plaza" / part / modality / f"{identity:04d}"
                folder.mkdir(parents=True)
                for number in range(2):
                    Image.fromarray(draw(0, 256, (64, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "plaza"


def test_the_pages_method_trains_on_its_data_set_and_is_ranked(extended, plaza, run_main, tmp_path):
    keys = [*SMALL.split(), "dataset", "plaza", "data_root", plaza, "rankers", "cosine,centred"]
    words = ["--cfg", extended, "--gpu", "cpu", *keys, "output_dir", tmp_path / "out"]
    assert run_main(*words) == 0
    folder = only_run(tmp_path / "out")
    rows = [row for row in read_rows(folder / "results.jsonl") if row.stage == "test"]
    assert {(row.protocol, row.ranking) for row in rows} == {("plaza/i2v", "cosine"), ("plaza/i2v", "centred")}
    assert "gap" in (folder / "log.txt").read_text()


def test_the_pages_data_set_and_ranker_judge_foreign_embeddings(extended, tmp_path):
    arrays = {f"{side}_{what}": np.arange(8) for side in ("visible", "infrared") for what in ("pids", "cameras")}
    points = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", visible_embeddings=points[None], infrared_embeddings=points, **arrays)
    words = [tmp_path / "x.npz", "--protocol", "plaza", "--rank", "cosine,centred", "--out", tmp_path / "rows.jsonl"]
    evaluate.main([str(word) for word in words])
    assert [(row.ranking, row.r1) for row in read_rows(tmp_path / "rows.jsonl")] == [("cosine", 100), ("centred", 100)]


def test_the_pages_loss_by_hand(extended):
    """Identity 0: centres (1, 0) and (4, 4), 3 and 4 apart; identity 1 has no infrared row."""
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 4.0], [9.0, 9.0]], requires_grad=True)
    gap = sys.modules["losses.gap"].modality_gap
    loss = gap(features, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 0]))
    loss.backward()
    assert loss.item() == 25 and features.grad[3].tolist() == [0, 0]
    assert gap(features[3:], torch.tensor([1]), torch.tensor([0])).item() == 0

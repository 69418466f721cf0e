"""The galleries that AGW's code draws from SYSU-MM01, beside the official ones."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import yaml

from configs import load_config
from data.build import build_benchmark
from data.sets import sysu
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.metrics import METRICS
from engine.retrieval.rankers import rankers
from tests.conftest import golden
from tools.experiments.reading import read_table
from utils.errors import UserError
from utils.types import Features, Modality, Record

NAMES = list(sysu.DATASET.extra)


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    return golden("siblings/agw_eval")


@pytest.mark.parametrize("mode", ["all", "indoor"])
def test_galleries_of_the_released_code(numbers, mode):
    paths, identities = numbers["files"].tolist(), numbers["test_ids_in_file"].tolist()
    for trial, rows in enumerate(numbers[f"gallery_{mode}"]):
        assert sysu.agw_gallery(paths, identities, sysu.MODES[mode], trial) == rows.tolist()
        tensors = (torch.tensor(part) for part in (identities, sysu.MODES[mode], trial))
        assert sysu.agw_gallery(numbers["files"], *tensors) == rows.tolist()


def test_metrics_of_the_released_code(numbers):
    tested, sides, features = set(numbers["test_ids_in_file"].tolist()), {}, {}
    for modality, cameras in ((Modality.VISIBLE, sysu.VISIBLE_CAMERAS), (Modality.INFRARED, sysu.INFRARED_CAMERAS)):
        found = [(re.findall("[0-9]+", path), row) for row, path in enumerate(numbers["files"].tolist())]
        own = [(int(c), int(i), row) for (c, i, _), row in found if int(c) in cameras and int(i) in tested]
        sides[modality] = [Record(str(numbers["files"][row]), i, c, modality) for c, i, row in own]
        labels = (torch.tensor([entry[k] for entry in own]) for k in (1, 0))
        rows = [row for _, _, row in own]
        features[modality] = Features(torch.from_numpy(numbers["feats"][rows].astype(np.float32))[None], *labels)
    settings = sysu.agw_settings(sides[Modality.VISIBLE], len(sides[Modality.INFRARED]))
    assert [setting.protocol for setting in settings] == NAMES
    found = evaluate_settings(features, settings, sysu.excluded, rankers(["cosine"], None)["cosine"], 1.0)
    for mode, name in zip(("all", "indoor"), NAMES):
        cmc = numbers[f"sysu_{mode}_cmc"].mean(0)[[0, 4, 9, 19]]
        expected = [*cmc, numbers[f"sysu_{mode}_mAP"].mean(), numbers[f"sysu_{mode}_mINP"].mean()]
        assert [found[name][metric] for metric in METRICS] == pytest.approx(expected, abs=1e-5)


def test_they_are_evaluated_where_they_are_asked_for(sysu_root):
    keys = ["data_root", str(sysu_root)]
    protocols = [
        [setting.protocol for setting in build_benchmark(load_config(None, [*keys, *more]), 0).test.settings]
        for more in ((), ("extra_protocols", "true"))
    ]
    assert protocols == [list(sysu.DATASET.protocols), [*sysu.DATASET.protocols, *NAMES]]


def test_a_path_that_is_none_is_refused():
    with pytest.raises(UserError, match="visible/1.jpg: not cam"):
        sysu.agw_gallery(["visible/1.jpg"], [1], (1, 2), 0)


def test_a_table_may_show_them(tmp_path):
    table = {
        "title": "Both", "cfg": "configs/Demo.yml", "seeds": [8], "protocols": ["sysu/all/1-shot", NAMES[0]],
        "metrics": ["r1"], "rows": [{"name": "whole"}],
    }  # fmt: skip
    path = tmp_path / "both.yml"
    path.write_text(yaml.safe_dump({**table, "keys": {"extra_protocols": True}}))
    assert read_table(path).protocols == ("sysu/all/1-shot", NAMES[0])
    path.write_text(yaml.safe_dump(table))
    with pytest.raises(UserError, match="'sysu-agw/all/1-shot' is unknown"):
        read_table(path)

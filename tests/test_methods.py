"""Every method by its shipped yml: the released network and rates, whole runs, and its released checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import cautions, load_config
from engine.build import build_optimizers
from engine.checkpoint import load_weights_into, open_checkpoint
from engine.optim import rates
from losses import LOSSES, build_criterion
from models import build_model, build_shape, released_names
from models.backbones.resnet import RESNETS
from tests.conftest import golden, only_run
from tests.killed_run import SMALL, killed
from tests.released import entries, network_input, value
from utils.errors import UserError
from utils.results import read_rows
from utils.runs import LAST, RESULTS

CONFIGS = Path(__file__).parent.parent / "configs"
METHODS = {
    "AGW": "agw_model",
    "CAJ": "agw_model",
    "MCLNet": "mclnet_model",
    "DEEN": "deen_model_sysu",
    "DJANet": "djanet_model",
    "IV-REID": "ivreid_model",
}
TINY = (
    "num_epoch 2 image_size (32,32) backbone resnet18 k_size 4 batch_size 32 num_workers 0 cache none "
    "eval_initial false eval_interval 0 select last log_period 1 warmup 1 lr_step [1] lr 0.01 pretrained none mser false"
).split()


def config(name: str, *opts: str):
    return load_config(str(CONFIGS / f"{name}.yml"), ["pretrained", "none", *opts])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*_*.yml")), ids=lambda path: path.stem)
def test_a_yml_names_what_there_is_and_nothing_in_vain(path):
    cfg = load_config(str(path))
    assert not cautions(cfg) and cfg.prefix == path.stem
    assert rates(cfg) and released_names(cfg)


def optim(name: str):
    """What the released optimisers do, of a method's golden file."""
    return golden(f"siblings/{name.lower().replace('-', '')}_optim")


# What the specifications say of a data set; all else is the recipe for SYSU-MM01.
OWN = {
    "LLCM_AGW": {"augmentation": "agw_llcm"},
    "LLCM_MCLNet": {"num_cam": 9},
    "LLCM_DEEN": {"erase_least": 0.02, "erase_most": 0.4, "rankers": ("cosine", "inner")},
    "LLCM_DJANet": {"vector": "s7"},
    "RegDB_DEEN": {"erase_least": 0.02, "erase_most": 0.4, "deen_stages": 3},
    "RegDB_IV-REID": {"margin": 0.2, "distillation": "mean"},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dataset", ["RegDB", "LLCM"])
def test_recipes_of_other_data_sets(dataset, name):
    cfg, base = config(f"{dataset}_{name}"), config(f"SYSU_{name}")
    changed = {key: cfg[key] for key in cfg if cfg[key] != base[key]}
    general = {"prefix": cfg.prefix, "dataset": dataset.lower()} | ({"mser": cfg.mser} if "mser" in changed else {})
    assert changed == general | OWN.get(cfg.prefix, {})


def test_images_are_resized_as_released():
    """AGW and its heirs by Lanczos, before anything else; IV-REID, MCJA and the own baseline bilinearly."""
    ways = {path.stem: config(path.stem).interpolation for path in CONFIGS.glob("*_*.yml")}
    heirs = ("AGW", "CAJ", "MCLNet", "DEEN", "DJANet")
    assert ways == {name: "lanczos" if name.endswith(heirs) else "bilinear" for name in ways}


def test_every_weight_of_a_loss_has_its_entry():
    assert {name for name in load_config() if name.startswith("loss_")} == {f"loss_{name}" for name in LOSSES}


@pytest.mark.parametrize(("name", "file"), METHODS.items())
def test_a_released_checkpoint_loads_and_gives_the_released_vectors(name, file, tmp_path):
    """Through main's own way of loading, with the parts that nothing uses and numbers of numpy beside the weights."""
    arrays = golden(f"siblings/{file}")
    left_out = ("map", "bn.", "rgb_", "ir_")  # discriminator and heads, which no checkpoint holds
    kept = (entry for entry in entries(file) if not entry["name"].startswith(left_out))
    weights = {entry["name"]: drawn_tensor(**entry) for entry in kept}
    torch.save({"net": weights, "mAP": np.float64(0.5), "cmc": np.ones(20), "epoch": 3}, tmp_path / "released.t")
    cfg = config(f"SYSU_{name}")
    model = build_model(cfg, int(arrays["num_classes"])).eval()
    load_weights_into(model, open_checkpoint(str(tmp_path / "released.t"), best=True), allow_other_head=False)
    for modality, key in enumerate(("vis", "ir")):
        with torch.no_grad():
            found = model.embed(network_input(shown(name, arrays, modality), arrays), torch.tensor([modality]))
        expected = released_vectors(name, arrays, key)
        assert np.abs(found.numpy() - expected).max() < 2e-5 * np.abs(expected).max(), key


def test_a_released_checkpoint_of_parallel_processes_and_an_older_torch_loads(tmp_path):
    """DataParallel puts `module.` before each name; torch 0.4.0 saved no batch norm counters, which nothing reads."""
    cfg = config("SYSU_AGW", "backbone", "resnet18")
    source, model = (build_model(cfg, 3).eval() for _ in range(2))
    state, names = source.state_dict(), {ours: theirs for theirs, ours in released_names(cfg).items()}
    counted = [name for name in state if name.endswith("num_batches_tracked")]
    weights = {f"module.{names[name]}": value for name, value in state.items() if name not in counted}
    torch.save({"state_dict": weights}, tmp_path / "released.t")
    checkpoint = open_checkpoint(str(tmp_path / "released.t"), best=True)
    load_weights_into(model, checkpoint, allow_other_head=False)
    assert counted and all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    del checkpoint.weights["bottleneck.running_mean"]  # anything else is still missed
    with pytest.raises(UserError, match="in 1 entries: bn_neck.running_mean is missing"):
        load_weights_into(model, checkpoint, allow_other_head=False)


def drawn_tensor(name: str, shape: list[int], dtype: str, kind: str, **others) -> torch.Tensor:
    drawn = value(name, tuple(shape), kind)
    return torch.as_tensor(np.asarray(drawn, dtype)).reshape(tuple(shape))


def shown(name: str, arrays, modality: int) -> np.ndarray:
    """The golden file's first image of a modality."""
    if name == "IV-REID":
        return arrays["images"][[first_of_ivreid(arrays, modality)]]
    return arrays[("vis", "ir")[modality] + "0" * (name == "DJANet")][:1]


def first_of_ivreid(arrays, modality: int) -> int:
    infrared = arrays["positions_ir"]
    return int(infrared[0] if modality else np.setdiff1d(range(len(arrays["images"])), infrared)[0])


def released_vectors(name: str, arrays, key: str) -> np.ndarray:
    """What the released test script ranks that image by, in the form that `embed` gives it."""
    if name == "CAJ":
        return golden("siblings/caj_model")[f"eval_flip__{key}_fc"][:1]
    if name == "DEEN":  # the pooled vectors of all views, then those after the neck, for each branch
        pool, neck = arrays[f"eval__{key}_pool"][0], arrays[f"eval__{key}_neck"][0]
        return np.concatenate([np.concatenate([pool[v], neck[v]]) for v in range(3)])[None]
    if name == "IV-REID":
        return arrays["eval__neck"][[first_of_ivreid(arrays, int(key == "ir"))]]
    return arrays[f"eval__{key}_fc_raw"][:1]


@pytest.mark.parametrize("name", METHODS)
def test_rates_are_the_released_ones_exactly(name):
    file, found = optim(name), rates(config(f"SYSU_{name}"))
    if name == "IV-REID":
        expected = {"backbone": file["lr_per_epoch_model"], "heads": file["lr_per_epoch_heads"]}
    else:
        expected = dict(zip(("backbone", "neck", "classifier"), file["lr_per_epoch"].T))
    if name == "MCLNet":
        expected["discriminator"] = file["discriminator_lr_per_epoch"]
    assert found.keys() == expected.keys()
    for group, each in expected.items():
        np.testing.assert_allclose(found[group], each, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_optimisers_treat_each_parameter_as_the_released_ones(name):
    """Group rates, weight decay, momentum; frozen parameters are in none."""
    file, cfg = optim(name), config(f"SYSU_{name}")
    model = build_shape(cfg)
    optimizers, ours = build_optimizers(cfg, model, build_criterion(cfg, 2)), model.released_names()
    held = {
        id(parameter): (type(optimizer).__name__, group)
        for optimizer in optimizers.each.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    parameters, seen = dict(model.named_parameters()), set()
    for part in [key.removesuffix("names") for key in file if key.endswith("names")]:
        settings = [key for key in ("momentum", "nesterov", "dampening", "betas", "eps") if part + key in file]
        base = float(file.get(f"{part}base_lr", file.get("base_lr")))
        columns = (file[part + key].tolist() for key in ("names", "lr_factor", "weight_decay"))
        frozen = ~file[f"{part}requires_grad"] if f"{part}requires_grad" in file else []
        for theirs, factor, decay in zip(*columns):
            if theirs not in ours or theirs in file[f"{part}names"][frozen].tolist():
                continue
            kind, group = held[id(parameters[ours[theirs]])]
            assert kind == str(file[f"{part}optimizer"]), theirs
            assert (group["initial_lr"], group["weight_decay"]) == (pytest.approx(factor * base), decay), theirs
            assert all(group[key] == pytest.approx(file[part + key].tolist()) for key in settings), theirs
            seen.add(ours[theirs])
    assert len(seen) == len(held) and all(parameters[key].requires_grad for key in seen)


@pytest.mark.parametrize("name", ["AGW", "CAJ", "MCLNet", "DEEN", "DJANet"])
def test_defaults_of_the_released_scripts(name):
    file, cfg = optim(name), config(f"SYSU_{name}")
    identities = file["default_batch_size"] if "default_batch_size" in file else file["default_batch_ids"]
    assert (cfg.p_size, cfg.k_size, cfg.num_epoch) == (identities, 2 * file["default_num_pos"], file["epochs"])
    ours = {"margin": cfg.margin, "lambda_1": cfg.loss_cpm, "lambda_2": cfg.loss_ort, "sigma": cfg.centre_sigma}
    ours |= dict(zip(("img_h", "img_w"), cfg.image_size))
    compared = [key for key in ours if f"default_{key}" in file and not (key == "margin" and not cfg.loss_hard)]
    assert all(ours[key] == file[f"default_{key}"] for key in compared)


@pytest.mark.parametrize("name", [*METHODS, "Baseline"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(name, run_main, monkeypatch, regdb_root, tmp_path):
    monkeypatch.setattr("models.backbones.resnet.RESNETS", RESNETS | SMALL)
    monkeypatch.setattr("models.RESNETS", RESNETS | SMALL)
    path = CONFIGS / ("SYSU_Baseline.yml" if name == "Baseline" else f"RegDB_{name}.yml")
    common = ["--cfg", path, "--gpu", "cpu", *TINY, "dataset", "regdb", "data_root", regdb_root]
    common += ["p_size", "3" if name == "IV-REID" else "6"]  # two batches in an epoch
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_main(*common, "output_dir", whole) == 0
    assert killed([*common, "output_dir", parts]) == -signal.SIGKILL
    assert torch.load(only_run(parts) / LAST, weights_only=True)["progress"]["epoch"] == 1
    assert run_main(*common, "output_dir", parts, "resume", only_run(parts)) == 0
    expected, found = (torch.load(only_run(path) / LAST, weights_only=True) for path in (whole, parts))
    for part in ("model", "criterion", "optimizer", "scheduler", "rng"):
        assert same(found[part], expected[part]), part
    rows = [[r for r in read_rows(only_run(path) / RESULTS) if r.stage == "test"] for path in (whole, parts)]
    assert rows[0] and [r[6:] for r in rows[0]] == [r[6:] for r in rows[1]]


def same(first, second) -> bool:
    """Whether nested dicts and lists hold the same bits."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second

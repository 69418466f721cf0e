"""One step of training by each shipped yml against the released code (tests/golden/siblings): the network's answers,
the losses, the gradients, the running statistics afterwards, and what the optimisers do with each released
parameter."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.build import build_learner, build_step
from losses import build_criterion
from models import build_model
from tests.conftest import golden
from tests.released import drawn, fill, network_input
from tests.test_methods import config
from utils.types import Batch, Output, Views

PAIRS = {
    "vis": (0, 0),
    "ir": (1, 1),
}  # images of the golden file -> the modality that they show, the stream that they take
TWICE = {"vis0": (0, 0), "vis1": (0, 0), "ir": (1, 1)}
BASE = "non_local none gem_p 1 loss_wrt 0 loss_hard 1".split()  # the released method `base`
# name -> yml, golden files of the network and of the optimiser, images, keys that the golden file was made with
RECIPES = {
    "AGW": ("SYSU_AGW", "agw_model", "agw_optim", PAIRS, []),
    "base": ("SYSU_AGW", "agw_model", "agw_optim", PAIRS, BASE),
    "CAJ": ("SYSU_CAJ", "caj_model", "caj_optim", TWICE, ["loss_kl", "0.5"]),
    "MCLNet": ("SYSU_MCLNet", "mclnet_model", "mclnet_optim", PAIRS, []),
    "DEEN": ("SYSU_DEEN", "deen_model_sysu", "deen_optim", PAIRS, []),
    "DEEN, RegDB": ("RegDB_DEEN", "deen_model_regdb", "deen_optim", PAIRS, []),
    "IV-REID": ("SYSU_IV-REID", "ivreid_model", "ivreid_optim", {}, []),
}
# What a step reports -> its name in the golden files.
LOSSES = {
    "loss": "loss", "id": "loss_id", "wrt": "loss_tri", "adp": "loss_tri", "hard": "loss_tri", "kl": "loss_kl",
    "ort": "loss_ort", "cpm": "loss_cpm", "confusion": "loss_modal", "recognition": "d_loss",
    "identity_centre": "loss_mcca_id", "camera_centre": "loss_mcca_cam",
}  # fmt: skip


def stepped(name: str) -> SimpleNamespace:
    """A step of a yml's own network, losses, optimisers and step, in float64, with the golden weights and images.

    In float64 the statistics of eight rows do not amplify rounding. `output` is the network's, `found` what is
    reported.
    """
    yml, source, _, images, keys = RECIPES[name]
    cfg, file = config(yml, *keys), golden(f"siblings/{source}")
    model = build_model(cfg, int(file["num_classes"]))
    fill(model, "agw_model" if name == "CAJ" else source, model.released_names())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # as the golden files were made
    views, batch = shown(file, images)
    benchmark = SimpleNamespace(num_ids=int(file["num_classes"]))
    learner = build_learner(cfg, benchmark, model.double(), torch.Generator(), torch.device("cpu"))
    centred(learner.criterion)
    outputs: list[Output] = []
    model.train().register_forward_hook(lambda module, given, output: outputs.append(output))
    found = build_step(cfg)(learner._replace(observe=lambda batch: views), batch)
    return SimpleNamespace(
        name=name, file=file, classes=benchmark.num_ids, learner=learner, model=model, output=outputs[0], found=found, batch=batch
    )  # fmt: skip


def shown(file, images) -> tuple[Views, Batch]:
    """The golden images as views of records; views of one modality show the same records."""
    if not images:  # IV-REID's, in an order of their own
        modalities = torch.zeros(8, dtype=torch.long).scatter(0, torch.as_tensor(file["positions_ir"]), 1)
        pids, pixels = torch.as_tensor(file["pids"]), network_input(file["images"], file, torch.float64)
        return Views(pixels, torch.arange(8), modalities), Batch(pixels, pids, pids, modalities, pids)
    pixels = [network_input(file[key], file, torch.float64) for key in images]
    count, labels = len(pixels[0]), torch.as_tensor(file["labels"])
    pids = torch.cat([labels[:count], labels[-count:]])
    cameras = torch.as_tensor(file["camids"]) + 1 if "camids" in file else pids
    rows = torch.cat([torch.arange(count) + modality * count for modality, _ in images.values()])
    streams = torch.tensor([stream for _, stream in images.values()]).repeat_interleave(count)
    modalities = torch.arange(2).repeat_interleave(count)
    return Views(torch.cat(pixels), rows, streams), Batch(torch.cat(pixels), pids, cameras, modalities, pids)


def centred(criterion) -> None:
    """MCLNet's centres as the golden file has them."""
    for term, key in {"identity_centre": "centers_id", "camera_centre": "centers_cam"}.items():
        if term in criterion.terms:
            centres = criterion.terms[term].centres
            centres.data = torch.as_tensor(drawn(key, tuple(centres.shape)).astype(np.float32)).double()


@pytest.fixture(scope="module", params=RECIPES)
def it(request):
    return stepped(request.param)


def released(it: SimpleNamespace, key: str) -> np.ndarray:
    return it.file[f"{'base_' * (it.name == 'base')}train__{key}"]


def close(ours: torch.Tensor, expected: np.ndarray, noise: float) -> None:
    """What the released code stored in float32, whose rounding the golden file tells."""
    assert np.abs(ours.detach().numpy() - expected).max() <= 1.1 * noise + 1e-6 * np.abs(expected).max()


def test_answers(it):
    answers = {"pool": it.output.pooled, "neck": it.output.embeddings}
    answers["score" if it.name == "IV-REID" else "logits"] = it.output.logits
    names = {"modality_logits": "d_decision", "visible_logits": "rgb_head", "infrared_logits": "ir_head"}
    for key, value in (answers | {names[key]: value for key, value in it.output.extra.items()}).items():
        close(value, released(it, key), released(it, f"{key}_err"))


def test_losses(it):
    found = {name: value.item() for name, value in it.found.items() if name != "accuracy"}
    if it.name == "IV-REID":
        parts = {
            "": found["loss"],
            "_id": found["id"] + found["heads"],
            "_kl": found["distillation"],
            "_metric": found["hard"],
        }
        for name, value in parts.items():
            assert value == pytest.approx(float(released(it, f"sysu_loss{name}64")), rel=1e-9), name
        regdb, _ = build_criterion(config("RegDB_IV-REID"), it.classes)(it.output, it.batch.labels)
        assert regdb.item() == pytest.approx(float(released(it, "regdb_loss64")), rel=1e-9)
        return
    for name, value in found.items():
        if name in ("cpm", "ort"):  # the golden files have them weighted
            value *= it.learner.criterion.weights[name]
        assert value == pytest.approx(float(released(it, f"{LOSSES[name]}64")), rel=1e-9), name


def test_gradients(it):
    """Norms of the parameters' gradients; parameters that the released code gives none have none, or do not exist."""
    if it.name == "base":
        pytest.skip("not in the golden file")
    parameters, table, compared = dict(it.model.named_parameters()), it.model.released_names(), 0
    for part in ("model_", "heads_") if it.name == "IV-REID" else ("",):
        names, norms = released(it, f"{part}grad_norm_names").tolist(), released(it, f"{part}grad_norm")
        for name, norm in zip(names, norms):
            gradient = parameters[table[name]].grad if name in table else None
            assert (gradient is None) == np.isnan(norm), name
            if gradient is not None:  # some are 0 but for rounding
                assert gradient.norm().item() == pytest.approx(norm, rel=1e-7, abs=1e-11 * np.nanmax(norms)), name
                compared += 1
    assert compared > 100


def test_state_after_the_step(it):
    """Running statistics, and MCLNet's discriminator, which has stepped before the second backward pass."""
    if it.name == "base":
        pytest.skip("not in the golden file")
    state, table = it.model.state_dict(), it.model.released_names()
    marks = ("train__after_", "train__D_after.")
    keys = {key: key.removeprefix(marks[0]).removeprefix(marks[1]) for key in it.file if key.startswith(marks)}
    compared = {key: table[name] for key, name in keys.items() if name in table}
    assert len(compared) >= (8 if it.name == "MCLNet" else 1)
    for key, ours in compared.items():  # as float32 gave them
        close(state[ours], it.file[key], 1e-5 * np.abs(it.file[key]).max())


def test_answers_of_djanet():
    """At the one size of its golden file, so without gradients; those of its parts are in test_sibling_modules."""
    file, cfg = golden("siblings/djanet_model"), config("SYSU_DJANet")
    model = build_model(cfg, int(file["num_classes"])).train()
    fill(model, "djanet_model", model.released_names())
    images = torch.cat([network_input(file[key], file) for key in ("vis0", "vis1", "ir0", "ir1")])
    with torch.no_grad():
        output = model(images, torch.arange(4).repeat_interleave(2))
    for key, value in {"pool": output.pooled, "neck": output.embeddings, "logits": output.logits}.items():
        expected = file[f"train__{key}"]
        close(value, expected, 2 * file[f"train__{key}_err"])
    expected = file["train__after_bottleneck.running_mean"]
    close(model.bn_neck.running_mean, expected, 1e-5 * np.abs(expected).max())

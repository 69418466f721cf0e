"""Keys that turn quirks of the siblings off, what a released sampler draws, and two ways to the same selective scan."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from configs import load_config
from data.augmentation import AUGMENTATIONS
from data.samplers import Sizes, cross_modality_drawn
from engine.build import build_optimizers
from losses import build_criterion
from losses.triplet import weighted_regularised
from models import build_model, build_shape
from models.modules import mamba
from tests.test_methods import config
from utils.errors import UserError
from utils.types import Labels, Output


def test_wrt_shifted_keeps_the_weights_of_far_negatives():
    """The specification's softmax without a floor, at ten times the distances, where the released one loses it."""
    x = torch.tensor([
        [1.24, 0.77, -0.98], [1.13, -0.48, -0.56], [-1.25, 1.15, 1.16], [0.03, 1.02, -0.09], [0.71, -0.44, -0.14],
        [0.52, 0.83, -0.29], [0.09, 0.60, -0.04], [-1.14, 0.43, 1.24],
    ])  # fmt: skip
    pids = torch.tensor([0, 0, 1, 1] * 2)
    for scale, released, shifted in ((1, 0.588628, 0.588627), (10, 12.4276, 4.89126), (20, 29.8062, 9.86995)):
        assert weighted_regularised(scale * x, pids).item() == pytest.approx(released, rel=1e-5)
        assert weighted_regularised(scale * x, pids, shifted=True).item() == pytest.approx(shifted, rel=1e-5)
    output = Output(10 * x, x, 10 * x)
    term = build_criterion(config("SYSU_AGW", "wrt_shifted", "true", "loss_id", "0"), 2)
    assert term(output, Labels(pids, pids, pids))[0].item() == pytest.approx(4.89126, rel=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_centres_are_trained_where_the_key_says_so(trained):
    cfg = config("SYSU_MCLNet", "centres_trained", str(trained).lower(), "backbone", "resnet18")
    criterion, model = build_criterion(cfg, 10), build_shape(cfg)
    centres = [criterion.terms[f"{name}_centre"].centres for name in ("identity", "camera")]
    assert [tuple(each.shape) for each in centres] == [(395, 512), (6, 512)]
    held = build_optimizers(cfg, model, criterion).groups.get("criterion")
    assert [id(each) for each in (held.parameters if held else [])] == [id(each) for each in centres if trained]


def test_what_the_drawn_sampler_draws():
    """Every identity, and every image of it, equally often; an identity never twice in a batch, images sometimes."""
    pids = np.repeat(np.arange(5), [3, 4, 6, 8, 2])
    modalities = np.concatenate([np.arange(count) % 2 for count in (3, 4, 6, 8, 2)])
    batches = []
    for seed in range(400):
        batches += cross_modality_drawn(np.random.default_rng(seed), pids, modalities, Sizes(3, 4, 0))
    assert len(batches) == 400 * (12 // 6 + 1)  # 12 visible images
    rows = np.array(batches).reshape(-1, 2, 3, 2)  # [batches, modality, identity, image]
    assert (modalities[rows] == np.arange(2)[:, None, None]).all()
    drawn = pids[rows]
    assert (drawn == drawn[:, :1, :, :1]).all() and all(len(set(each)) == 3 for each in drawn[:, 0, :, 0])
    assert np.bincount(drawn[:, 0, :, 0].ravel()) / len(rows) == pytest.approx([3 / 5] * 5, abs=0.06)
    for pid in range(5):
        for modality in range(2):
            own = np.flatnonzero((pids == pid) & (modalities == modality))
            shown = rows[:, modality][drawn[:, modality] == pid].reshape(-1, 2)
            assert np.bincount(shown.ravel(), minlength=23)[own] / shown.size == pytest.approx(1 / len(own), abs=0.06)
            assert (shown[:, 0] == shown[:, 1]).mean() == pytest.approx(1 / len(own), abs=0.08)


@pytest.mark.parametrize(
    ("keys", "visible", "infrared"),
    [
        ("augmentation deen", [(0.5, 0.5, (0.2, 0.8))], [(0.5, 0.5, (0.2, 0.8))]),
        ("augmentation deen erase_least 0.02 erase_most 0.4", [(0.5, 0.5, (0.02, 0.4))], [(0.5, 0.5, (0.02, 0.4))]),
        ("augmentation mclnet erase_chance 0.3", [(0, 0.3, (0.1, 0.8))], [(0, 0.3, (0.1, 0.8))]),
        ("augmentation deen random_erase false grey_chance 0", [(0, None, None)], [(0.5, None, None)]),
        ("augmentation caj second_views false", [(0, 0.5, (0.02, 0.4))], [(0, 0.5, (0.02, 0.4))]),
    ],
)  # fmt: skip
def test_keys_of_erasing_and_grey(keys, visible, infrared):
    cfg = load_config(None, keys.split())
    looks = AUGMENTATIONS[cfg.augmentation](cfg).keywords["looks"]
    for found, expected in ((looks.visible, visible), (looks.infrared, infrared)):
        said = [(look.grey, look.erasing and look.erasing.chance, look.erasing and look.erasing.area) for look in found]
        assert said == expected


def test_mamba_ssms_kernel_gets_what_the_plain_scan_computes(monkeypatch):
    """A module of that name which scans by the definition of mamba_ssm.selective_scan_fn, on a CPU taken for a GPU."""

    def selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        assert delta_softplus and all(part.is_contiguous() for part in (u, delta, B, C, z))
        steps = F.softplus(delta + delta_bias[:, None])
        state, outputs = torch.zeros(*u.shape[:2], A.shape[1]), []
        for t in range(u.shape[2]):
            state = (steps[:, :, t, None] * A).exp() * state + (steps * u)[:, :, t, None] * B[:, None, :, t]
            outputs.append((state * C[:, None, :, t]).sum(dim=2))
        return (torch.stack(outputs, dim=2) + D[:, None] * u) * F.silu(z)

    torch.manual_seed(0)
    layer, tokens = mamba.Mamba(8, states=4), torch.randn(2, 20, 8)
    expected = layer(tokens)
    names = ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    calls = []
    sys.modules[names[-1]].selective_scan_fn = lambda *given, **named: (
        calls.append(1) or selective_scan_fn(*given, **named)
    )
    kernel = mamba._kernel
    monkeypatch.setattr(mamba, "_kernel", lambda device: kernel(torch.device("cuda")))
    assert torch.allclose(layer(tokens), expected, atol=1e-6) and calls


def test_the_divergence_of_views_asks_for_halves_of_a_modality_each():
    term = build_criterion(config("SYSU_CAJ", "loss_kl", "1", "loss_id", "0", "loss_adp", "0"), 4)
    logits, pids = torch.randn(6, 4), torch.tensor([0, 1] * 3)
    halves = Labels(pids, pids, torch.tensor([0, 0, 0, 0, 1, 1]))
    assert term(Output(logits, logits), halves)[0] > 0
    with pytest.raises(UserError, match="as many visible images as infrared ones: sample_method cross_modality_drawn"):
        term(Output(logits, logits), halves._replace(modalities=torch.tensor([1, 0, 0, 0, 1, 0])))


def test_deen_refuses_images_whose_maps_it_cannot_cut_into_halves():
    keys = ["model", "deen", "backbone", "resnet18", "pretrained", "none", "image_size", "(48, 48)"]
    with pytest.raises(UserError, match=r"image_size = \(48, 48\): model deen has a map of 3 x 3 .* multiple of 32"):
        build_model(load_config(None, keys), 2)
    # Without the last stage no map has an odd number of positions.
    model = build_model(load_config(None, [*keys, "deen_stages", "3"]), 2).eval()
    with torch.no_grad():
        assert len(model(torch.zeros(1, 3, 48, 48)).logits) == 3

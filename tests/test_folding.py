"""The copy of a model that embeds images."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from configs import load_config
from models import build_model
from models import fusion as folding
from models.fusion import FusedBlock, folded
from utils.logging import logger

IMAGES = torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(2))


def trained(backbone: str) -> nn.Module:
    """A model whose norms have statistics and weights like those of a trained one."""
    torch.manual_seed(0)
    model = build_model(
        load_config(None, ["pretrained", "none", "backbone", backbone, "mda_layers", "[0, 1, 2, 0]"]), 10
    )
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@torch.inference_mode()
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_the_copy_computes_what_the_model_computes(backbone):
    model = trained(backbone).double()
    copied = folded(model)
    expected = model.eval()(IMAGES.double())
    output = copied(IMAGES.double())
    assert torch.allclose(output.embeddings, expected.embeddings, rtol=1e-10, atol=1e-12)
    assert torch.allclose(output.logits, expected.logits, rtol=1e-10, atol=1e-12)
    assert norms(copied) == 3 < norms(model)  # those of the adapters


@torch.inference_mode()
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_convolutions_that_end_in_relu_and_sum_compute_the_same_on_a_cpu(backbone):
    model = trained(backbone).eval()
    fused, plain = folded(model), folded(model, autocast=True)
    assert any(isinstance(module, FusedBlock) for module in fused.modules())
    assert not any(isinstance(module, FusedBlock) for module in plain.modules())
    expected = model(IMAGES).embeddings
    for network in (fused, plain):
        assert (network(IMAGES).embeddings - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (32, 16), (64, 32)])
def test_maps_of_one_value_are_summed_in_any_layout(size):
    model = trained("resnet18").eval()
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))
    expected = model(images).embeddings
    fused = folded(model).to(memory_format=torch.channels_last)
    found = fused(images.to(memory_format=torch.channels_last)).embeddings
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.inference_mode()
def test_a_copy_runs_in_mixed_precision():
    model = trained("resnet18").eval()
    expected = model(IMAGES).embeddings
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = folded(model, autocast=True)(IMAGES).embeddings.float()
    assert 0 < (found - expected).norm() / expected.norm() < 0.03


def test_the_model_itself_is_left_alone():
    model = trained("resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied = folded(model)
    assert model.training and not copied.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def changed(self, x):
    raise TypeError("_convolution_pointwise(): one more argument, please")


def wrong(self, x):
    return torch.zeros_like(x)


@torch.inference_mode()
@pytest.mark.parametrize("operator", [changed, wrong])
def test_an_operator_that_torch_changed_is_tried_once_and_left_alone(monkeypatch, caplog, operator):
    monkeypatch.setattr(FusedBlock, "forward", operator)
    monkeypatch.setattr(logger, "propagate", True)
    folding.fused_blocks_work.cache_clear()
    model, before = trained("resnet18").eval(), torch.get_rng_state()
    copies = [folded(model), folded(model)]
    folding.fused_blocks_work.cache_clear()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(isinstance(module, FusedBlock) for copied in copies for module in copied.modules())
    assert any(isinstance(module, BasicBlock) for module in copies[0].modules())
    (record,) = caplog.records
    assert "fused convolutions cannot be used" in record.getMessage()


@torch.inference_mode()
@pytest.mark.parametrize("private", ["true", "false"])
def test_a_stem_for_each_modality_is_folded_too(private):
    opts = ["pretrained", "none", "backbone", "resnet18", "model", "agw", "non_local", "none", "private_stem", private]
    model, modalities = build_model(load_config(None, opts), 10).eval(), torch.tensor([0, 1, 1])
    copied = folded(model)
    assert norms(copied) == 0 < norms(model)
    assert torch.allclose(copied.embed(IMAGES, modalities), model.embed(IMAGES, modalities), rtol=1e-4, atol=1e-5)
    assert len(model.backbone.stems) == (2 if private == "true" else 1)

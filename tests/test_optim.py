import copy

import pytest
import torch
from torch import nn

from engine.optim import adam, align, gradient_scaler, precision, step_schedule

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_learning_rate_falls_after_the_given_epochs():
    optimizer = adam(nn.Linear(1, 1), lr=1.0, weight_decay=0)
    schedule = step_schedule(optimizer, (2, 3))
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 0.1, 0.01])


def test_weight_decay_is_coupled():
    """With a gradient of 0, coupled L2 alone drives Adam's first step, which then has the size of the rate."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = adam(layer, lr=0.1, weight_decay=5e-4)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(1.9, abs=1e-3)


def test_frozen_parameters_are_left_out():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert len(adam(layer, 1.0, 0).param_groups[0]["params"]) == 1


@pytest.mark.parametrize(
    ("enabled", "name", "device", "has_bf16", "expected"),
    [
        (True, "auto", CPU, True, None),
        (True, "bf16", CPU, True, torch.bfloat16),
        (True, "fp16", CPU, True, None),
        (True, "auto", GPU, True, torch.bfloat16),
        (True, "auto", GPU, False, torch.float16),
        (True, "fp16", GPU, True, torch.float16),
        (True, "none", GPU, True, None),
        (False, "auto", GPU, True, None),
        (False, "bf16", CPU, True, None),
    ],
)
def test_precision(monkeypatch, enabled, name, device, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    assert precision(enabled, name, device) == expected


def test_only_fp16_is_scaled():
    assert not gradient_scaler(CPU, None).is_enabled() and not gradient_scaler(CPU, torch.bfloat16).is_enabled()
    assert gradient_scaler(CPU, torch.float16).is_enabled()


def test_moments_saved_in_another_layout_go_on_the_same():
    def trained(layout: torch.memory_format, restored: dict | None, steps: int):
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=layout)
        optimizer = adam(layer, 0.1, 0.01)
        if restored:
            layer.load_state_dict(restored["layer"])
            optimizer.load_state_dict(copy.deepcopy(restored["optimizer"]))
            align(optimizer)
        for step in range(steps):
            optimizer.zero_grad()
            layer(torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
        return {"layer": copy.deepcopy(layer.state_dict()), "optimizer": copy.deepcopy(optimizer.state_dict())}

    before = trained(torch.contiguous_format, None, 2)
    after = [trained(layout, before, 2) for layout in (torch.contiguous_format, torch.channels_last)]
    torch.testing.assert_close(after[1]["layer"]["weight"], after[0]["layer"]["weight"])

import copy

import pytest
import torch
from torch import nn

from engine.optim import OPTIMIZERS, SCHEDULES, Optimizers, Plan, adam, align, gradient_scaler, precision
from utils.types import Group

CPU, GPU, MAC = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


def rates(factor, epochs):
    return [factor(done) for done in range(epochs)]


def test_the_rate_falls_to_a_tenth_after_each_step():
    assert rates(SCHEDULES["steps"](Plan(4, (2, 3))), 4) == pytest.approx([1, 1, 0.1, 0.01])


def test_a_warm_up_rises_linearly_before_either_schedule():
    assert rates(SCHEDULES["steps"](Plan(6, (4,), warmup=2)), 6) == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1])
    assert rates(SCHEDULES["cosine"](Plan(6, (), warmup=2)), 7) == pytest.approx(
        [0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]
    )


def pair(lr=1.0, decay=0.0, factor=lambda done: 0.5**done, name="sgd"):
    """Two groups under one optimiser, the second at a tenth of the rate, and one that its schedule leaves alone."""
    torch.manual_seed(0)
    layers = [nn.Linear(1, 1, bias=False) for _ in range(3)]
    groups = {
        "head": Group(list(layers[0].parameters())),
        "trunk": Group(list(layers[1].parameters()), rate=0.1),
        "other": Group(list(layers[2].parameters()), scheduled=False, optimizer="second"),
    }
    return Optimizers(groups, OPTIMIZERS[name], lr, decay, factor), layers


def test_groups_keep_their_factors_through_a_schedule_a_resume_and_a_changed_rate():
    before, _ = pair()
    before.schedule.step()
    assert before.rates() == {"head": 0.5, "trunk": pytest.approx(0.05), "other": 1.0}
    after, _ = pair()
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    after.schedule.load_state_dict(copy.deepcopy(before.schedule.state_dict()))
    assert after.rates() == before.rates()
    after.follow(2.0, 0.25)
    assert after.rates() == {"head": 1.0, "trunk": pytest.approx(0.1), "other": 2.0}
    assert {group["weight_decay"] for o in after.each.values() for group in o.param_groups} == {0.25}
    after.schedule.step()
    assert after.rates() == {"head": 0.5, "trunk": pytest.approx(0.05), "other": 2.0}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimiser_resumes_exactly_from_its_state(name):
    def trained(optimizers, layers, steps):
        for step in steps:
            optimizers.zero_grad()
            sum(layer(torch.full((1, 1), 1.0 + step)).square().sum() for layer in layers).backward()
            optimizers.step(gradient_scaler(CPU, None))
        return [layer.weight.detach().clone() for layer in layers]

    expected = trained(*pair(0.1, name=name), range(4))
    (first, layers), (second, resumed) = pair(0.1, name=name), pair(0.1, name=name)
    trained(first, layers, range(2))
    for layer, source in zip(resumed, layers):
        layer.load_state_dict(source.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert trained(second, resumed, range(2, 4)) == expected


def test_one_optimisers_state_is_its_own_and_empty_groups_are_left_out():
    layer = nn.Linear(1, 1)
    optimizers = Optimizers(
        {"all": Group(list(layer.parameters())), "criterion": Group([])}, adam, 1, 0, lambda done: 1
    )
    assert optimizers.state_dict() == optimizers["main"].state_dict()
    assert optimizers.rates() == {"all": 1}


def test_weight_decay_is_coupled():
    """With a gradient of 0, coupled L2 alone drives Adam's first step, which then has the size of the rate."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = adam([{"params": layer.parameters(), "lr": 0.1}], 5e-4)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(1.9, abs=1e-3)


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
        (True, "auto", MAC, True, None),
        (True, "bf16", MAC, True, None),
        (True, "fp16", MAC, True, None),
        (False, "bf16", CPU, True, None),
    ],
)
def test_precision(monkeypatch, enabled, name, device, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    assert precision(enabled, name, device) == expected


def test_only_fp16_is_scaled():
    assert not gradient_scaler(CPU, None).is_enabled() and not gradient_scaler(CPU, torch.bfloat16).is_enabled()
    assert gradient_scaler(CPU, torch.float16).is_enabled()
    assert not gradient_scaler(MAC, None).is_enabled()


def test_moments_saved_in_another_layout_resume_the_same():
    def trained(layout: torch.memory_format, restored: dict | None, steps: int):
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=layout)
        optimizer = adam([{"params": layer.parameters(), "lr": 0.1}], 0.01)
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

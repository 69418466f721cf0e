"""One optimisation step, by hand."""

import copy

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from engine.handlers import attach_guard
from engine.optim import Optimizers, adam
from engine.step import create_learner, create_trainer
from losses.criterion import Criterion
from losses.cross_entropy import identity_loss
from utils.errors import UserError
from utils.logging import logger
from utils.types import Batch, Group, Modality, Output, Views

CPU = torch.device("cpu")


class Linear(nn.Module):
    """Logits straight from the pixels; notes the type it computes in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, 3)

    def forward(self, images, streams=None):
        logits = self.layer(images.flatten(1))
        self.dtype = logits.dtype
        return Output(logits, logits)


def batch() -> Batch:
    images = torch.randint(0, 256, (6, 3, 2, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pids = torch.tensor([0, 1, 2, 0, 1, 2])
    modalities = torch.tensor([Modality.VISIBLE, Modality.INFRARED] * 3)
    return Batch(images, pids, pids, modalities, pids)


def views(batch: Batch) -> Views:
    return Views(batch.images.float(), torch.arange(len(batch.pids)), batch.modalities)


def adam_of(model: nn.Module) -> Optimizers:
    return Optimizers({"all": Group(list(model.parameters()))}, adam, 0.1, 0.01, lambda done: 1)


def step(scaler=None, dtype=None, criterion=None):
    """(model after one step, the step's output, what the augmentation was given)."""
    model, given = Linear().eval(), []

    def augmentation(batch):
        assert batch.own is None
        given.append((batch.images.dtype, batch.modalities))
        return views(batch)._replace(images=batch.images.float() / 255)

    criterion = criterion or Criterion({"id": lambda output, labels: identity_loss(output.logits, labels.pids)})
    learner = create_learner(model, criterion, adam_of(model), augmentation, CPU, dtype)
    trainer = create_trainer(learner if scaler is None else learner._replace(scaler=scaler))
    trainer.run([batch()])
    return model, trainer.state.output, given


def test_the_step_by_hand():
    model, output, given = step()
    expected = Linear()
    images, pids = batch().images.float() / 255, batch().pids
    logits = expected(images).logits
    loss = nn.functional.cross_entropy(logits, pids)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.1, weight_decay=0.01)
    loss.backward()
    optimizer.step()
    assert output["loss"] == output["id"] == loss.detach()
    assert output["accuracy"] == (logits.argmax(1) == pids).float().mean()
    torch.testing.assert_close(model.layer.weight, expected.layer.weight)
    assert model.training
    assert given == [(torch.uint8, given[0][1])] and torch.equal(given[0][1], batch().modalities)
    assert not any(value.requires_grad for value in output.values())


def test_loss_scaling_changes_no_step():
    plain, *_ = step()
    scaled, *_ = step(scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    torch.testing.assert_close(scaled.layer.weight, plain.layer.weight, rtol=1e-5, atol=1e-6)


def test_an_overflowing_gradient_skips_the_step_and_lowers_the_scale():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    steep = Criterion({"id": lambda output, b: 1e3 * identity_loss(output.logits, b.pids)})
    model, *_ = step(scaler=scaler, criterion=steep)
    assert torch.equal(model.layer.weight, Linear().layer.weight)
    assert scaler.get_scale() == 2.0**126


@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
def test_mixed_precision(dtype):
    model, output, _ = step(dtype=dtype)
    assert model.dtype == (dtype or torch.float32)
    assert output["loss"].dtype == torch.float32


def test_parts_are_summed_and_named():
    criterion = Criterion(
        {"one": lambda output, b: output.logits.sum() * 0 + 1, "two": lambda output, b: output.logits.sum() * 0 + 2}
    )
    _, output, _ = step(criterion=criterion)
    assert {name: value.item() for name, value in output.items() if name != "accuracy"} == {
        "loss": 3,
        "one": 1,
        "two": 2,
    }


# ------------------------------------------------------------------------------------------------------------ compiling


class Breaks(torch.autograd.Function):
    """Fails on its way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no kernel for this\nand many more lines")


def compilers():
    def works(model):
        return lambda *given: model(*given)

    def fails_forward(model):
        def run(*given):
            raise RuntimeError("no kernel for this")

        return run

    def fails_backward(model):
        return lambda *given: Output(*map(Breaks.apply, model(*given)[:2]))

    return [works, fails_forward, fails_backward]


@pytest.mark.parametrize("compiler", compilers(), ids=lambda f: f.__name__)
def test_a_compiled_step_is_the_same_step_even_if_compiling_fails(monkeypatch, caplog, compiler):
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(logger, "propagate", True)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 3))
    models = [Both(copy.deepcopy(net)), Both(net)]
    for model, compile in zip(models, (False, True)):
        criterion = Criterion({"id": lambda output, b: identity_loss(output.logits, b.pids)})
        learner = create_learner(model, criterion, adam_of(model), views, CPU, None, compile)
        trainer = create_trainer(learner)
        torch.manual_seed(3)
        trainer.run([batch(), batch()])
    for plain, compiled in zip(models[0].state_dict().values(), models[1].state_dict().values()):
        assert torch.equal(plain, compiled)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    expected = ["compile: failed (no kernel for this); training continues without it"]
    assert warnings == ([] if compiler.__name__ == "works" else expected)


class Both(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images, streams=None):
        out = self.net(images)
        return Output(out, out)


# ---------------------------------------------------------------------------------------------------------------- guard


def test_what_a_checkpoint_keeps_is_finite_or_training_stops():
    nan = float("nan")
    for spoil, name in (
        (lambda model, optimizer: model[0].weight.data.fill_(nan), "0.weight"),
        (lambda model, optimizer: model[1].running_var.fill_(nan), "1.running_var"),
        (lambda model, optimizer: optimizer.state[model[0].bias]["exp_avg_sq"].fill_(nan), "exp_avg_sq of 0.bias"),
    ):
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.rand(4, 2)).square().sum().backward()
        optimizer.step()
        trainer = Engine(lambda engine, batch: {"loss": torch.ones(())})
        attach_guard(trainer, [model], [optimizer], ("loss",), 1, lambda: "lower lr")
        trainer.run([0], max_epochs=1)
        spoil(model, optimizer)
        with pytest.raises(UserError, match=f"epoch 1: training diverged, {name} is not finite; lower lr"):
            trainer.run([0], max_epochs=1)

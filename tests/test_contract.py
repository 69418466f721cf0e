"""Methods of other kinds than MCJA, as toys of a few lines: none needs a change of the engine.

Each is an entry of a dict and a key of the configuration, trains for two epochs through main.py, and resumes bitwise
where it was stopped after the first.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import data.augmentation
import engine.step
import losses
import models
from configs.defaults import KEYS, Key
from tests.conftest import TINY, only_run
from utils.types import Group, Modality, Output, Views


class TwoStream(nn.Module):
    """A private stem for each modality, and a shared trunk."""

    HEAD = ("classifier.weight",)

    def __init__(self, num_ids: int):
        super().__init__()
        torch.manual_seed(0)
        self.stems = nn.ModuleList(nn.Conv2d(3, 8, 5, stride=4) for _ in Modality)
        self.trunk = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d((4, 2)), nn.Flatten())
        self.classifier = nn.Linear(64, num_ids, bias=False)

    def features(self, images: Tensor, streams: Tensor | None) -> Tensor:
        streams = torch.zeros(len(images), dtype=torch.int64) if streams is None else streams
        maps = [stem(images) for stem in self.stems]
        return self.trunk(torch.stack(maps)[streams, torch.arange(len(images))])

    def forward(self, images: Tensor, streams: Tensor | None = None) -> Output:
        pooled = self.features(images, streams)
        return Output(pooled, self.classifier(pooled), pooled)

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        return self.forward(images, modalities).embeddings

    def groups(self) -> dict[str, Group]:
        trunk = [*self.stems.parameters(), *self.trunk.parameters()]
        return {"trunk": Group(trunk, rate=0.1), "head": Group(list(self.classifier.parameters()))}


class ThreeAnswers(TwoStream):
    """Answers for each image, and for its two halves."""

    def forward(self, images: Tensor, streams: Tensor | None = None) -> Output:
        pooled = super().forward(images, streams).pooled
        upper, lower = pooled * (torch.arange(64) < 32), pooled * (torch.arange(64) >= 32)
        answers = torch.cat([pooled, upper, lower])
        return Output(answers, self.classifier(answers), answers, torch.arange(len(images)).repeat(3))

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        return torch.cat(self.forward(images, modalities).embeddings.chunk(3), dim=1)


class Rival(TwoStream):
    """A second optimiser trains what tells the modalities apart."""

    def __init__(self, num_ids: int):
        super().__init__(num_ids)
        self.rival = nn.Linear(64, 2)

    def groups(self) -> dict[str, Group]:
        second = Group(list(self.rival.parameters()), rate=2.0, scheduled=False, optimizer="rival")
        return {**super().groups(), "rival": second}


def by_turns(learner: engine.step.Learner, batch) -> dict[str, Tensor]:
    """First the rival learns which modality an answer is of, then the network to mislead it."""
    views = learner.observe(batch)
    output, labels = learner.forward(views, batch)
    told = nn.functional.cross_entropy(learner.model.rival(output.pooled.detach()), labels.modalities)
    learner.optimizers["rival"].zero_grad()
    told.backward()
    learner.optimizers["rival"].step()
    loss, parts = learner.criterion(output, labels)
    misled = nn.functional.cross_entropy(learner.model.rival(output.pooled), 1 - labels.modalities)
    learner.optimizers["main"].zero_grad()
    (loss + misled).backward()
    learner.optimizers["main"].step()
    found = {"loss": loss, **parts, "accuracy": engine.step.accuracy(output, labels)}
    return {name: value.detach() for name, value in found.items()}


def visible_twice(cfg):
    """Visible images a second time, mirrored."""
    once = data.augmentation.build_mcja(cfg)

    def augmentation(batch, generator) -> Views:
        views = once(batch, generator)
        visible = (views.streams == Modality.VISIBLE).nonzero()[:, 0]
        images = torch.cat([views.images, views.images[visible].flip(3)])
        return Views(
            images, torch.cat([views.rows, views.rows[visible]]), torch.cat([views.streams, views.streams[visible]])
        )

    return augmentation


class Centres(nn.Module):
    """Pulls embeddings to a running centre of their identity, a buffer."""

    def __init__(self, num_ids: int):
        super().__init__()
        self.register_buffer("centres", torch.zeros(num_ids, 64))

    def forward(self, output: Output, labels) -> Tensor:
        found = self.centres[labels.pids]
        with torch.no_grad():
            self.centres[labels.pids] = 0.9 * found + 0.1 * output.embeddings
        return (output.embeddings - found).square().mean()


@pytest.fixture
def toys(monkeypatch):
    """The toys, entered where an entry makes a method."""
    for name, make in (("two", TwoStream), ("three", ThreeAnswers), ("rival", Rival)):
        monkeypatch.setitem(models.MODELS, name, lambda cfg, num_ids, make=make: make(num_ids))
    monkeypatch.setitem(data.augmentation.AUGMENTATIONS, "twice", visible_twice)
    monkeypatch.setitem(losses.LOSSES, "centres", lambda cfg, num_ids: Centres(num_ids))
    monkeypatch.setitem(KEYS, "loss_centres", Key("loss_centres", float, 0.0, "weight of the toy's centres", "test"))
    monkeypatch.setitem(engine.step.STEPS, "by_turns", by_turns)


SGD = "optimizer sgd lr 0.05 warmup 2 schedule steps lr_step [1]"
METHODS = {
    "two streams": "model two",
    "three answers": "model three",
    "a second view": "model two augmentation twice",
    "rates of groups": f"model two {SGD}",
    "a loss with a buffer": "model two loss_centres 0.5",
    "two optimisers": f"model rival step by_turns {SGD}",
}


@pytest.mark.parametrize("keys", METHODS.values(), ids=METHODS.keys())
def test_a_method_is_entries_of_dicts(toys, run_main, sysu_root, tmp_path, keys):
    arguments = [*TINY, "data_root", sysu_root, "mda_layers", "[0, 0, 0, 0]", *keys.split()]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_main(*arguments, "output_dir", whole) == 0
    assert run_main(*arguments, "output_dir", parts, "num_epoch", "1") == 0
    assert run_main(*arguments, "output_dir", parts, "resume", only_run(parts)) == 0
    expected, found = (torch.load(only_run(path) / "last.pth", weights_only=True) for path in (whole, parts))
    for part in ("model", "criterion", "optimizer", "scheduler"):
        assert flat(found[part]) == flat(expected[part])
    trained = [name for name, group in TwoStream(8).groups().items() if group]
    assert trained and not torch.equal(found["model"]["classifier.weight"], TwoStream(8).classifier.weight)
    assert ("centres" in keys) == bool(found["criterion"])


def flat(state) -> list:
    """All values of nested dicts and lists, tensors as lists."""
    if isinstance(state, dict):
        return [(name, flat(value)) for name, value in state.items()]
    if isinstance(state, (list, tuple)):
        return [flat(value) for value in state]
    return state.tolist() if isinstance(state, Tensor) else state

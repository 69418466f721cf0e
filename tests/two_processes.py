"""What each of two processes computes for tests/test_distributed.py: python -m tests.two_processes FOLDER DATA_ROOT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from configs import load_config
from data.build import build_augmentation, build_benchmark, build_train_loader
from engine.average import Average
from engine.distributed import GatherRows, attach_statistics, gather_features, send, synchronise_norms, whole
from engine.optim import Optimizers, gradient_scaler
from engine.step import create_learner, create_trainer
from losses import build_criterion
from models import build_model
from tests.conftest import TINY
from utils.cli import run_together
from utils.processes import connect, me, on_main
from utils.types import Features, Group, Output, Stage, Views

CPU = torch.device("cpu")
KEYS = [
    *TINY[4:],
    "sample_method",
    "cross_modality_identity",
    "k_size",
    "2",
    "image_size",
    "(32, 32)",
    "num_workers",
    "0",
]


SMALL = ["backbone", "resnet18", "pretrained", "none"]
# What is compared with one process, and with which keys: several losses, some alone, and networks that answer more
# often.
RECIPES: dict[str, tuple[str, list[str]]] = {
    "both": ("Demo", []),
    "cmr": ("Demo", ["loss_id", "false"]),
    "recomputed": ("Demo", ["grad_checkpoint", "true"]),
    # Of images that Lanczos resized, the gradient of a non-local block's bias is too small a sum for the bound.
    "caj": ("SYSU_CAJ", ["interpolation", "bilinear", "loss_kl", "0.5", *SMALL]),
    "deen": ("SYSU_DEEN", SMALL),
    # A process may have images of one modality alone, and the loss has parameters of its own.
    "agw": (
        "SYSU_AGW",
        ["sample_method", "none", "batch_size", "4", "loss_identity_centre", "1", "centres_trained", "true", *SMALL],
    ),
}


class Steps:
    """Steps of training in float64, by plain gradient descent, with batch norms in eval mode and nothing dropped."""

    def __init__(self, data_root: str, name: str = "both", dtype: torch.dtype = torch.float64):
        yml, keys = RECIPES[name]
        cfg = load_config(f"configs/{yml}.yml", [*KEYS, "data_root", data_root, *keys])
        torch.manual_seed(0)
        benchmark = build_benchmark(cfg, 0)
        self.model = build_model(cfg, benchmark.num_ids).to(dtype)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                nn.init.constant_(module.weight, 0.5)  # at the start it closes the adapter or attention before it
        self.loader = build_train_loader(cfg, benchmark, 0, CPU)
        self.generator, self.augment = torch.Generator().manual_seed(0), build_augmentation(cfg)
        self.scaler = gradient_scaler(CPU, None)
        self.criterion = build_criterion(cfg, benchmark.num_ids).to(dtype)
        self.seen: list[dict[str, Any]] = []

    def augmentation(self, batch):
        views = self.augment(batch, generator=self.generator)
        places = views.places(batch.own)  # of this process's views among all
        self.modalities = batch.modalities if batch.own is None else batch.modalities[batch.own]
        self.images, self.own = views.images, torch.arange(len(views.rows)) if places is None else places
        for module in self.model.modules():
            module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
        return views._replace(images=views.images.to(self.model.classifier.weight.dtype))

    def run(self) -> list[dict[str, Any]]:
        """Losses, gradients and images of two steps."""
        groups = {"all": Group(list(self.model.parameters()))}
        optimizers = Optimizers(groups, lambda groups, decay: torch.optim.SGD(groups), 1e-4, 0, lambda done: 1)
        learner = create_learner(self.model, self.criterion, optimizers, self.augmentation, CPU, None)
        trainer = create_trainer(learner._replace(scaler=self.scaler))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.note)
        trainer.run(self.loader, epoch_length=2)
        return self.seen

    def note(self, engine: Engine) -> None:
        named = (*self.model.named_parameters(), *self.criterion.named_parameters())
        gradients = {name: p.grad for name, p in named if p.requires_grad}
        self.criterion.zero_grad()  # no optimiser has its parameters
        self.seen.append(
            {
                "output": dict(engine.state.output),
                "gradients": {name: None if g is None else g.clone() for name, g in gradients.items()},
                "images": self.images,
                "own": self.own,
                "modalities": self.modalities,
            }
        )


def compute(folder: Path, data_root: str) -> None:
    """Everything that is compared with one process or with numbers."""
    found = {
        **{name: Steps(data_root, name).run() for name in RECIPES},
        "overflow": overflow(data_root),
        "gather": gather(),
        "features": features(),
        "answers": answers(by_turns=True),
        "answers one by one": answers(by_turns=False),
        "statistics": statistics(),
        "main": on_main(lambda: {"rank": me().rank}),
        "stage": on_main(lambda: Stage("test", me().rank), received=lambda stage: Stage(*stage)),
        "path": on_main(lambda: folder / str(me().rank), received=Path),
    }
    torch.save(found, folder / f"{me().rank}.pt")


def overflow(data_root: str) -> tuple[float, bool]:
    """The scale after a step whose gradients overflow, and whether the step was left out."""
    steps = Steps(data_root, dtype=torch.float32)
    steps.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = steps.model.classifier.weight.clone()
    steps.run()
    return steps.scaler.get_scale(), torch.equal(before, steps.model.classifier.weight)


def gather() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [[0, 1], [2, 3]] and [[4, 5], [6, 7]] together, and the gradient of the sum of their cubes."""
    own = (torch.arange(4.0).view(2, 2) + 4 * me().rank).requires_grad_()
    rows = GatherRows.apply(own)
    (rows**3).sum().backward()
    return rows.detach(), own.grad


def answers(by_turns: bool) -> tuple[Output, torch.Tensor]:
    """Two answers for each of six views, of which process 0 has four; and the gradient of the answers' weighted sum.

    An answer is 10 times its view, plus its turn; the weights are its place among all answers.
    """
    shares = torch.tensor([[0, 2], [1, 3]])
    views = Views(torch.empty(0), torch.tensor([0, 1, 2, 3, 0, 2]), torch.zeros(6, dtype=torch.int64))
    places = views.places(shares[me().rank])
    rows, turns = torch.arange(len(places)).repeat(2), torch.arange(2).repeat_interleave(len(places))
    if not by_turns:
        rows, turns = rows.sort().values, turns.view(2, -1).T.flatten()
    own = (10.0 * places[rows] + turns)[:, None].requires_grad_()
    found = whole(Output(own, own, own, rows, {"twice": 2 * own}), views, shares)
    (found.embeddings[:, 0] * torch.arange(12.0)).sum().backward()
    return Output(*(part.detach() for part in found[:4]), {"twice": found.extra["twice"].detach()}), own.grad


def features() -> Features:
    """Five images in two spectra; the image's number is its identity."""
    own = torch.tensor([[0, 1], [2, 3, 4]][me().rank])
    return gather_features(Features(torch.stack([own, 10 + own])[:, :, None].float(), own, -own), 5)


def statistics() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch norm's running mean after an epoch whose batches' means were 1 and 3, a weight sent by process 0, and the
    moving average of that mean."""
    model = synchronise_norms(nn.Sequential(nn.BatchNorm1d(2, momentum=1.0)), CPU)
    engine = Engine(lambda engine, batch: model(batch))
    attach_statistics(engine, model)
    average = Average(model, 0.5)
    average.attach(engine)
    engine.run([torch.full((4, 2), 1.0 + 2 * me().rank)])
    model[0].weight.data.fill_(me().rank + 5.0)
    send(model)
    return model[0].running_mean, model[0].weight.detach(), average.state_dict()["0.running_mean"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run_together(lambda: (connect(CPU), compute(Path(sys.argv[1]), sys.argv[2]))))

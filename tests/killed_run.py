"""A run that is killed amid its second epoch, for tests/test_methods.py; and a backbone small enough for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence

from ignite.engine import Engine, Events
from torchvision.models.resnet import BasicBlock, ResNet

import engine.build
import main
from models.backbones.resnet import RESNETS, Architecture

# Not a fork of the tests' process: the backward pass refuses to run there once an earlier test has started autograd's
# threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


class Small(ResNet):
    """One block in each stage and an eighth of the channels in all but the last, whose width losses rely on."""

    def __init__(self, norm_layer: Callable):
        super().__init__(BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)

    def _make_layer(self, block: type, planes: int, *given, **named):
        return super()._make_layer(block, planes if planes == 512 else planes // 8, *given, **named)


def small(weights: None, norm_layer: Callable) -> ResNet:
    return Small(norm_layer)


SMALL = {"resnet18": Architecture(small, RESNETS["resnet18"].imagenet)}


def killed(arguments: Sequence[str]) -> int | None:
    """The exit code of main.py in a process that gets SIGKILL after the first of several batches of epoch 2."""
    process = PROCESSES.Process(target=train_until_killed, args=(list(map(str, arguments)),))
    process.start()
    process.join()
    return process.exitcode


def train_until_killed(arguments: Sequence[str]) -> None:
    RESNETS.update(SMALL)
    create = engine.build.create_trainer

    def watched(*given) -> Engine:
        trainer = create(*given)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
        return trainer

    engine.build.create_trainer = watched
    main.run(list(arguments))


def kill(trainer: Engine) -> None:
    if trainer.state.epoch == 2 and trainer.state.epoch_length > 1:
        os.kill(os.getpid(), signal.SIGKILL)

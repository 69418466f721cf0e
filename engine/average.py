"""An exponential moving average of a model's weights, and the test of it beside the test of the model itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engine.checkpoint import Checkpoint, load_weights_into, tested_stage
from engine.distributed import attach_statistics
from engine.evaluator import Evaluator
from utils.results import format_table
from utils.types import ResultRow, Stage


class Average:
    """Follows a model: after each step average = decay * average + (1 - decay) * weights, from the weights it finds.

    The running statistics of batch norms are averaged as the weights are, so that they belong to them; what is no float
    is copied. `state_dict` has the names of the model's own.
    """

    def __init__(self, model: nn.Module, decay: float):
        mean = get_ema_multi_avg_fn(decay)

        def update(averages: list[Tensor], now: list[Tensor], count: Tensor) -> None:
            if averages[0].is_floating_point():
                mean(averages, now, count)
            else:
                for average, value in zip(averages, now):
                    average.copy_(value)

        self._followed = model
        self._average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
        self._average.n_averaged.fill_(1)  # at 0 the first update would forget the start

    @property
    def model(self) -> nn.Module:
        """The model with the averaged weights."""
        return self._average.module

    def attach(self, trainer: Engine) -> None:
        """Follow after each iteration. Several processes get the mean of their statistics, as those of the model."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: self._average.update_parameters(self._followed))
        attach_statistics(trainer, self.model)

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state)


def averaged(checkpoint: Checkpoint) -> Checkpoint | None:
    """The checkpoint with the averaged weights in the place of its own; None where it holds none."""
    weights = checkpoint.states.get("ema")
    return checkpoint._replace(weights=weights) if weights else None


def evaluate_checkpoint(
    test: Evaluator, model: nn.Module, checkpoint: Checkpoint, rankings: Sequence[str]
) -> list[ResultRow]:
    """Rows of a checkpoint's model, which `model` is, and after them those of its averaged weights, if it holds any."""
    stage = tested_stage(checkpoint)
    rows, average = test(model, stage, rankings), averaged(checkpoint)
    if average is None:
        return rows
    other = copy.deepcopy(model)
    load_weights_into(other, average, allow_other_head=True)
    return [*rows, *evaluate_average(test, other, stage, rankings)]


def evaluate_average(test: Evaluator, model: nn.Module, stage: Stage, rankings: Sequence[str]) -> list[ResultRow]:
    """Rows of a model of averaged weights, which say so. stage: of the model that was averaged."""
    return test(model, stage._replace(name="averaged"), rankings)


def format_tables(rows: Sequence[ResultRow]) -> str:
    """The table of a test, and apart from it that of the averaged weights, where they were tested."""
    plain, others = ([row for row in rows if (row.stage == "averaged") == which] for which in (False, True))
    return format_table(plain) + (f"\n\naveraged weights (ema):\n{format_table(others)}" if others else "")

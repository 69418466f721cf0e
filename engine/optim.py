"""Optimisers, schedules and numeric precision of training (docs/method.md, 5)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from yacs.config import CfgNode

from models import build_shape
from utils.errors import pick
from utils.logging import logger
from utils.types import Group


def adam(groups: Sequence[dict[str, Any]], decay: float) -> Adam:
    """Adam with coupled L2, one kernel for all parameters where there is one."""
    groups = _listed(groups)
    return Adam(groups, weight_decay=decay, fused=can_fuse(groups))


def sgd(groups: Sequence[dict[str, Any]], decay: float) -> SGD:
    """SGD with Nesterov momentum 0.9 and coupled L2, one kernel for all parameters where there is one."""
    groups = _listed(groups)
    settings = {"lr": groups[0]["lr"], "momentum": 0.9, "nesterov": True, "weight_decay": decay}
    return SGD(groups, **settings, fused=can_fuse(groups))


def can_fuse(groups: Sequence[dict[str, Any]]) -> bool:
    """Whether every torch has one kernel for these parameters: on a Mac's GPU only some do."""
    return all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])


def _listed(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**group, "params": list(group["params"])} for group in groups]


# name -> (parameter groups with their rates, weight decay) -> optimiser
OPTIMIZERS: dict[str, Callable[[Sequence[dict[str, Any]], float], Optimizer]] = {"adam": adam, "sgd": sgd}


class Plan(NamedTuple):
    """How the learning rate changes over a training."""

    num_epoch: int
    steps: Sequence[int]  # epochs after which it falls to a tenth, ascending
    warmup: int = 0  # epochs in which it rises linearly to its full size


Factor = Callable[[int], float]  # epochs done -> what the rate is multiplied with in the next one


def steps(plan: Plan) -> Factor:
    """A tenth after each of the plan's steps."""
    return lambda done: warmth(plan, done) * 0.1 ** bisect_right(plan.steps, done)


def cosine(plan: Plan) -> Factor:
    """From the full rate at the end of the warm-up down to 0 after the last epoch, along half a cosine."""
    length = max(1, plan.num_epoch - plan.warmup)
    return lambda done: warmth(plan, done) * (1 + math.cos(math.pi * max(0, done - plan.warmup) / length)) / 2


def warmth(plan: Plan, done: int) -> float:
    """The linear warm-up: 1 / warmup in the first epoch, 1 from the last warm-up epoch on."""
    return (done + 1) / plan.warmup if done < plan.warmup else 1.0


def steps_from_tenth(plan: Plan) -> Factor:
    """As `steps`, but the warm-up rises from a tenth and reaches the full rate one epoch later (DJANet)."""
    after = steps(plan._replace(warmup=0))
    return lambda done: 0.1 + 0.9 * done / plan.warmup if done < plan.warmup else after(done)


SCHEDULES: dict[str, Callable[[Plan], Factor]] = {
    "steps": steps,
    "steps_from_tenth": steps_from_tenth,
    "cosine": cosine,
}


def build_factor(cfg: CfgNode) -> Factor:
    """The configured schedule."""
    return pick(SCHEDULES, cfg.schedule, "schedule")(Plan(cfg.num_epoch, cfg.lr_step, cfg.warmup))


def rates(cfg: CfgNode) -> dict[str, list[float]]:
    """The learning rate of each of the configured model's parameter groups in each of the `num_epoch` epochs."""
    factor, groups = build_factor(cfg), build_shape(cfg).groups()
    return {
        name: [cfg.lr * group.rate * (factor(done) if group.scheduled else 1.0) for done in range(cfg.num_epoch)]
        for name, group in groups.items()
    }


class Optimizers:
    """The optimisers of a training by name, each with its parameter groups; nearly always one, "main".

    groups: by name; those without parameters are left out. Each keeps its own factor of the rate, and of the schedule.
    """

    def __init__(self, groups: Mapping[str, Group], make: Callable, lr: float, decay: float, factor: Factor):
        self.groups = {name: group for name, group in groups.items() if len(group.parameters)}
        names = dict.fromkeys(group.optimizer for group in self.groups.values())
        self.each: dict[str, Optimizer] = {name: make(self._rated(name, lr), decay) for name in names}
        self.schedule = Schedules({n: LambdaLR(self.each[n], self._factors(n, factor)) for n in names})

    def _of(self, optimizer: str) -> list[Group]:
        return [group for group in self.groups.values() if group.optimizer == optimizer]

    def _rated(self, optimizer: str, lr: float) -> list[dict[str, Any]]:
        return [{"params": list(group.parameters), "lr": lr * group.rate} for group in self._of(optimizer)]

    def _factors(self, optimizer: str, factor: Factor) -> list[Factor]:
        return [factor if group.scheduled else lambda done: 1.0 for group in self._of(optimizer)]

    def __getitem__(self, name: str) -> Optimizer:
        return self.each[name]

    def zero_grad(self) -> None:
        for optimizer in self.each.values():
            optimizer.zero_grad(set_to_none=True)

    def step(self, scaler: torch.amp.GradScaler) -> None:
        for optimizer in self.each.values():
            scaler.step(optimizer)

    def rates(self) -> dict[str, float]:
        """The learning rate of each group now."""
        rates = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in self.each.items()}
        return {name: rates[group.optimizer].pop(0) for name, group in self.groups.items()}

    def follow(self, lr: float, decay: float) -> None:
        """Give restored optimisers the configured rate and decay: a resumed run may be given others than it saved."""
        for name, optimizer in self.each.items():
            schedule = self.schedule.each[name]
            for position, (group, spec) in enumerate(zip(optimizer.param_groups, self._of(name))):
                schedule.base_lrs[position] = group["initial_lr"] = lr * spec.rate
                group["lr"] = lr * spec.rate * schedule.lr_lambdas[position](schedule.last_epoch)
                group["weight_decay"] = decay

    def state_dict(self) -> dict[str, Any]:
        """The one optimiser's own state, as before there could be several; of several, each by its name."""
        return _one_or_named(self.each)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _load(self.each, state)
        for optimizer in self.each.values():
            align(optimizer)


class Schedules:
    """The learning-rate schedules of `Optimizers`, to be stepped once an epoch."""

    def __init__(self, each: dict[str, LambdaLR]):
        self.each = each

    def step(self) -> None:
        for schedule in self.each.values():
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return _one_or_named(self.each)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _load(self.each, state)


def _one_or_named(each: Mapping[str, Any]) -> dict[str, Any]:
    states = {name: part.state_dict() for name, part in each.items()}
    return next(iter(states.values())) if len(states) == 1 else states


def _load(each: Mapping[str, Any], state: dict[str, Any]) -> None:
    states = {next(iter(each)): state} if len(each) == 1 else state
    for name, part in each.items():
        part.load_state_dict(states[name])


def align(optimizer: Optimizer) -> None:
    """Give restored moments the memory layout of their parameters; the fused kernels ignore strides."""
    for parameter, state in optimizer.state.items():
        for name, moment in state.items():
            same = isinstance(moment, torch.Tensor) and moment.shape == parameter.shape
            if same and moment.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(moment)


def precision(enabled: bool, name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of a training step, or None for float32.

    name: auto | fp16 | bf16 | none. auto is bf16 on GPUs that compute in it, fp16 on others, None on a CPU. A Mac's GPU
    trains in float32, whatever is asked for.
    """
    if not enabled or name == "none":
        return None
    if device.type == "mps":
        if name != "auto":
            logger.warning(f"amp_dtype = {name} is not for a Mac's GPU: training in float32")
        return None
    if device.type == "cpu":
        if name == "fp16":
            logger.warning("amp_dtype = fp16 is not for a CPU: training in float32")
        return torch.bfloat16 if name == "bf16" else None
    if name == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"fp16": torch.float16, "bf16": torch.bfloat16}[name]


def gradient_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """Scales the loss where gradients are computed in fp16; does nothing elsewhere."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

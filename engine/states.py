"""What the states in a checkpoint must be, and how a run's parts take them.

A file may come from anywhere, so everything in it is looked at before any part is touched. A part takes the keys that
are named here; all else (rates, factors, methods) is its own, as configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from utils.errors import UserError, reason
from utils.logging import logger
from utils.results import ROW
from utils.schema import TEXT, Kind, Shape, both, choice, each, kind, maybe, misfit, optional, parts, real, table, whole
from utils.tensors import DENSE, WEIGHTS, like

EPOCHS = 10**6  # no run is as long
SEEDS = 2**64 - 1  # the largest that torch takes
PLAIN = kind("a plain value", lambda v: v is None or isinstance(v, (bool, int, float, str, list, tuple)))
WORDS = kind(
    "625 words", lambda v: isinstance(v, tuple) and len(v) == 625 and all(type(w) is int and 0 <= w < 2**32 for w in v)
)

NOT_NEGATIVE = Kind(lambda value, name: f"{name} holds negative numbers" if bool((value < 0).any()) else None)


class Stateful(Protocol):
    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Saved(Protocol):
    """What `restore` needs of a checkpoint."""

    @property
    def path(self) -> Path: ...

    @property
    def epoch(self) -> int: ...

    @property
    def states(self) -> Mapping[str, Any]: ...


def _in_order(progress: Mapping[str, Any], name: str) -> str | None:
    epochs = [progress["best_epoch"], *(row["epoch"] or 0 for row in progress["rows"])]
    late = max(epochs) > progress["epoch"]
    return f"{name} tells of epoch {max(epochs)}, after the last of {progress['epoch']}" if late else None


def _in_step(content: Mapping[str, Any], name: str) -> str | None:
    epoch = content["progress"]["epoch"]
    for schedule in _by_name(content["scheduler"], "last_epoch").values():
        if schedule["last_epoch"] != epoch:
            return f"progress.epoch is {epoch}, and scheduler.last_epoch {schedule['last_epoch']}"
    return None


def _by_name(state: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The states of several parts by name; of the one part that has the key, by ""."""
    return {"": state} if key in state else state


def _one_or_named(key: str, shape: Shape) -> Kind:
    """The state of one part, which has this key, or of several by name."""
    named = table(TEXT, shape)
    return Kind(
        lambda value, name: misfit(value, shape if not isinstance(value, dict) or key in value else named, name)
    )


ORIGIN: Shape = {
    "seed": whole(0, SEEDS),
    "dataset": TEXT,
    "trial": maybe(whole(0)),
    "num_ids": whole(1),
    "selected_on": choice("test", "val", "last"),
    "config": table(TEXT, PLAIN),
}
PROGRESS: Shape = {
    "epoch": whole(0, EPOCHS),
    "best_epoch": whole(0, EPOCHS),
    "best_score": real(-1, 100.001),
    "rows": each(ROW),
}
SCALE: Shape = {"scale": real(2.0**-126, 2.0**127), "_growth_tracker": whole(0)}
RNG: Shape = {
    "python": parts(choice(3), WORDS, maybe(real())),
    "numpy": parts(like(torch.empty(624, dtype=torch.int64)), whole(0, 624), whole(0, 1), real()),
    "torch": like(torch.get_rng_state()),
    "cuda": each(DENSE),
}
OPTIMIZER: Shape = {
    "state": table(whole(0), table(TEXT, maybe(DENSE))),
    "param_groups": each({"params": each(whole(0))}),
}
CONTENT = both(
    {
        "origin": ORIGIN,
        "model": WEIGHTS,
        "criterion": optional(WEIGHTS),
        "ema": optional(WEIGHTS),
        "optimizer": _one_or_named("param_groups", OPTIMIZER),
        "scheduler": _one_or_named("last_epoch", {"last_epoch": whole(0, EPOCHS)}),
        "scaler": Kind(lambda value, name: None if value == {} else misfit(value, SCALE, name)),
        "progress": both(PROGRESS, Kind(_in_order)),
        "rng": RNG,
    },
    Kind(_in_step),
)
TAKEN = {"scaler": tuple(SCALE), "progress": tuple(PROGRESS), "rng": tuple(RNG)}


def restore(live: Mapping[str, Stateful], checkpoint: Saved) -> None:
    """Load a run's states into all parts but the model, whose weights `load_weights_into` loads.

    Raises UserError where one does not fit, after a change of the optimiser, the losses or the model.
    """
    path, states = checkpoint.path, checkpoint.states
    new: list[str] = []
    for name, part in live.items():
        # A run that was not scaled has an empty scaler state; one that resumes in fp16 starts with a new scale.
        # One that kept no average, or an older one, has an empty state of it too.
        if name == "model" or name in ("scaler", "ema") and not states[name]:
            continue
        try:
            part.load_state_dict(_taken(name, live, states[name], new))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path}: its {name} state does not fit ({reason(error)})") from None
    if new and checkpoint.epoch:
        shown = ", ".join(new[:3]) + (", ..." if new[3:] else "")
        logger.warning(f"{path}: holds no moments of {shown}: they start anew")


def _taken(name: str, live: Mapping[str, Any], saved: Mapping[str, Any], new: list[str]) -> Mapping[str, Any]:
    """What a part takes of its saved state, completed by its own. new: told of parameters that have no moments.

    Raises ValueError that names the first thing that is not as the part's own.
    """
    own = live[name].state_dict()
    if name in ("criterion", "ema"):
        if wrong := misfit(saved, {key: like(value) for key, value in own.items()}):
            raise ValueError(wrong)
        return saved
    if name in ("optimizer", "scheduler"):
        key = "param_groups" if name == "optimizer" else "last_epoch"
        owns, found = _by_name(own, key), _by_name(saved, key)
        if owns.keys() != found.keys():
            raise ValueError("it is of other optimisers")
        if name == "scheduler":
            epochs = {which: found[which][key] for which in owns}
            taken = {w: {**owns[w], key: epochs[w], "_step_count": epochs[w] + 1} for w in owns}
        else:
            named = {
                id(p): n for part in ("criterion", "model") if part in live for n, p in live[part].named_parameters()
            }
            each = zip(owns, live[name].each.values())
            taken = {which: _moments(optimizer, owns[which], found[which], named, new) for which, optimizer in each}
        return taken.get("", taken)
    return {**own, **{key: saved[key] for key in TAKEN[name]}}


def _moments(optimizer: Optimizer, own: Mapping, saved: Mapping, names: Mapping[int, str], new: list[str]) -> dict:
    """A state of the optimiser's own settings and the saved moments, each of which is as its parameter is."""
    if [group["params"] for group in saved["param_groups"]] != [group["params"] for group in own["param_groups"]]:
        raise ValueError("it is of other parameters")
    state = {}
    for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        name, shape = names[id(parameter)], MOMENTS.get(type(optimizer), _of_any)(parameter)
        if number not in saved["state"]:
            new.append(name)
        elif wrong := misfit(saved["state"][number], shape, name):
            raise ValueError(wrong)
        else:
            state[number] = {key: saved["state"][number][key] for key in shape or saved["state"][number]}
    return {"state": state, "param_groups": own["param_groups"]}


def _of_adam(parameter: Tensor) -> Shape:
    step, own = like(torch.zeros(())), like(parameter)
    return {"step": both(step, NOT_NEGATIVE), "exp_avg": own, "exp_avg_sq": both(own, NOT_NEGATIVE)}


def _of_sgd(parameter: Tensor) -> Shape:
    return {"momentum_buffer": like(parameter)}


def _of_any(parameter: Tensor) -> Shape:
    """Of an optimiser whose moments are not known here: torch checks what it loads."""
    return {}


MOMENTS = {Adam: _of_adam, SGD: _of_sgd}

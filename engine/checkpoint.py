"""Checkpoints: one dict that both saves and resumes, and files of weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ignite.handlers import DiskSaver
from torch import Tensor, nn

from configs.defaults import NOTHING, affecting
from utils.errors import UserError, reason
from utils.logging import logger
from utils.runs import BEST, LAST, RECORD
from utils.tensors import is_weights, load_torch
from utils.types import Benchmark, Stage

FORMAT = "mcja-run-1"
HEAD = "classifier.weight"
HARMLESS = affecting(NOTHING)


class Stateful(Protocol):
    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Origin(NamedTuple):
    """What a checkpoint says about the run that wrote it; plain values, kept under "origin"."""

    seed: int
    dataset: str
    trial: int | None
    num_ids: int
    selected_on: str
    config: dict[str, Any]


class Checkpoint(NamedTuple):
    """A read checkpoint file."""

    path: Path
    weights: Mapping[str, Tensor]
    origin: Origin | None  # None: the file holds weights only
    states: Mapping[str, Any]  # optimizer, scheduler, ...; empty for weights only

    @property
    def folder(self) -> Path | None:
        """The run folder that the checkpoint lies in, if it lies in one."""
        return self.path.parent if self.origin and (self.path.parent / RECORD).is_file() else None

    @property
    def epoch(self) -> int:
        """Epochs that the model was trained for; 0 if the file does not say."""
        return self.states["progress"]["epoch"] if self.origin else 0


def open_checkpoint(path: str, best: bool) -> Checkpoint:
    """Read a checkpoint file, or a run folder's best (where there is one) or last. Never runs code from the file.

    Raises UserError for a missing, damaged or foreign file.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        choices = [file / name for name in ((BEST, LAST) if best else (LAST,)) if (file / name).is_file()]
        if not choices:
            raise UserError(f"resume = {path}: the folder holds no {LAST}; give a run folder or a checkpoint file")
        file = choices[0]
    content = load_torch(file)
    if is_weights(content):
        return Checkpoint(file, content, None, {})
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file}: neither a checkpoint of this project nor a file of named weights")
    try:
        states = {name: content[name] for name in ("optimizer", "scheduler", "scaler", "progress", "rng")}
        states["criterion"] = content.get("criterion", {})  # those of older versions hold none
        return Checkpoint(file, content["model"], Origin(**content["origin"]), states)
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: an incomplete checkpoint ({error})") from None


def save_checkpoint(folder: Path, name: str, origin: Origin, parts: Mapping[str, Stateful]) -> None:
    """Write the parts' states to folder/name under a temporary name, then rename.

    Raises UserError where that fails, for lack of space for instance; the previous file is then as it was.
    """
    content = {"format": FORMAT, "origin": origin._asdict()}
    content.update({key: part.state_dict() for key, part in parts.items()})
    try:
        DiskSaver(str(folder), atomic=True, create_dir=False, require_empty=False)(content, name)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{folder / name} could not be written ({reason(error)}); the previous checkpoint is as it was"
        ) from None


def restore(parts: Mapping[str, Stateful], checkpoint: Checkpoint) -> None:
    """Load a run's states into all `parts` but the model, whose weights `load_weights_into` loads.

    Raises UserError where one does not fit, after a change of the optimiser or of the model.
    """
    for name, part in parts.items():
        # A run that was not scaled has an empty scaler state; one that goes on in fp16 starts with a new scale.
        if name == "model" or name == "scaler" and not checkpoint.states[name]:
            continue
        try:
            part.load_state_dict(checkpoint.states[name])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{checkpoint.path}: its {name} state does not fit ({reason(error)})") from None


def tested_stage(checkpoint: Checkpoint) -> Stage:
    """How rows of results name this checkpoint's model when it is tested."""
    if checkpoint.origin is None:
        return Stage("test", 0, None)
    selected = checkpoint.states["progress"]["best_epoch"] == checkpoint.epoch
    return Stage("test", checkpoint.epoch, checkpoint.origin.selected_on if selected else "last")


def load_weights_into(model: nn.Module, checkpoint: Checkpoint, allow_other_head: bool) -> None:
    """Load weights by name. A head of another identity count is left out with a warning, where that is allowed.

    Raises UserError that lists everything else that does not fit; the model is then unchanged.
    """
    weights, own = dict(checkpoint.weights), model.state_dict()
    if allow_other_head and HEAD in weights and HEAD in own and weights[HEAD].shape != own[HEAD].shape:
        head = weights.pop(HEAD)
        own.pop(HEAD)
        logger.warning(f"{checkpoint.path}: its head of {len(head)} identities is left out")
    wrong = [f"{name} is missing" for name in own if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in own]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if wrong:
        raise UserError(
            f"{checkpoint.path}: does not fit the configured model (backbone, mda_layers, mda_m), {len(wrong)} entries: "
            + ", ".join(wrong)
        )
    model.load_state_dict(weights, strict=False)


def require_same_split(checkpoint: Checkpoint, benchmark: Benchmark, testing: bool, allowed: bool) -> None:
    """UserError where the model saw the test identities in training, or a run would go on with other data."""
    origin = checkpoint.origin
    if origin is None and benchmark.trial is not None:
        logger.warning(f"{checkpoint.path} does not say its split; results mean nothing unless it is {benchmark.trial}")
    if origin is None or (origin.dataset, origin.trial) == (benchmark.name, benchmark.trial):
        return
    if not testing:
        raise UserError(
            f"{checkpoint.path}: a run on {split_name(origin.dataset, origin.trial)} cannot go on with "
            f"{split_name(benchmark.name, benchmark.trial)}"
        )
    if origin.dataset == benchmark.name and not allowed:
        raise UserError(
            f"{checkpoint.path}: trained on {split_name(origin.dataset, origin.trial)}, whose training identities are "
            f"among the test identities of split {benchmark.trial}: set trial {origin.trial}, or allow_split_mismatch true"
        )


def split_name(dataset: str, trial: int | None) -> str:
    """The data set as a message names it: sysu, or regdb, split 3."""
    return dataset if trial is None else f"{dataset}, split {trial}"


def resume_notes(checkpoint: Checkpoint, config: Mapping[str, Any], seed: int | None) -> list[str]:
    """What is asked differently than when the resumed run was started, one line each. seed: None if not asked for."""
    before = checkpoint.origin.config
    lines = [
        f"differs from the run that is resumed: {key}: {_plain(before[key])} -> {_plain(value)}"
        for key, value in config.items()
        if key in before and key not in HARMLESS and _plain(before[key]) != _plain(value)
    ]
    if checkpoint.path.name == BEST:
        lines.append(f"the run goes on from its best epoch, {checkpoint.epoch}: what followed it is done again")
    if seed not in (None, checkpoint.origin.seed):
        lines.append(f"--seed {seed} is ignored: the resumed run goes on with its seed {checkpoint.origin.seed}")
    return lines


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

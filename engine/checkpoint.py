"""Checkpoints: one dict that both saves and resumes, and files of weights alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from configs.defaults import MODEL_KEYS
from engine.portable import SUFFIX, read_portable
from engine.states import CONTENT, ORIGIN, PROGRESS
from utils.errors import UserError
from utils.files import expanded
from utils.logging import logger
from utils.runs import BEST, LAST, RECORD
from utils.schema import Shape, misfit
from utils.tensors import WEIGHTS, is_weights, load_torch, peek
from utils.types import Stage

FORMAT = "mcja-run-1"
STATES = ("criterion", "ema", "optimizer", "scheduler", "scaler", "progress", "rng")
WRAPPERS = ("net", "state_dict", "model")  # under which released checkpoints hold their weights
PARALLEL = "module."
COUNTER = ".num_batches_tracked"  # of a batch norm; nothing reads it, and torch 0.4.0 did not save it


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
    """Read a checkpoint file, or that of a run folder: of its last state, or of the model that it tests (`best`).

    A safetensors file says for a test which model it holds; a training starts from it as from weights alone. Never runs
    code from the file. Raises UserError for a missing, damaged or foreign file, and for one that holds what no run
    writes.
    """
    file = expanded(path)
    if file.is_dir():
        file = _choose(file, best)
    if file.suffix == SUFFIX:
        return _portable(file, best)
    try:
        content = load_torch(file)
    except UserError as error:
        spare = file.with_name(BEST)
        whole = file.name == LAST and peek(spare) is not None
        raise UserError(f"{error}" + (f"; resume {spare} continues from the best epoch" if whole else "")) from None
    content = _unwrapped(content)
    if is_weights(content):
        _require(file, content, WEIGHTS)
        return Checkpoint(file, content, None, {})
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file}: neither a checkpoint of this project nor a file of named weights")
    _require(file, content, CONTENT)
    if not (file.parent / RECORD).is_file() and not best:
        logger.warning(f"{file} lies in no run folder: the run continues in a new one")
    states = {name: content.get(name, {}) for name in STATES}  # older versions wrote no criterion; ema is a choice
    return Checkpoint(file, content["model"], _origin(content), states)


def _portable(file: Path, best: bool) -> Checkpoint:
    weights, said = read_portable(file)
    if said is None or not best:
        return Checkpoint(file, weights, None, {})
    return Checkpoint(file, weights, _origin(said), {"progress": said["progress"]})


def _origin(content: Mapping[str, Any]) -> Origin:
    return Origin(**{name: content["origin"][name] for name in Origin._fields})


def _unwrapped(content: Any) -> Any:
    """The weights of a released checkpoint, which holds numbers of its own beside them; anything else as it is.

    Names lose the `module.` that torch's DataParallel puts before each of them.
    """
    if not isinstance(content, dict) or {"format", "origin"} & content.keys():  # one of this project, whole or not
        return content
    found = next((content[name] for name in WRAPPERS if is_weights(content.get(name))), content)
    if not all(isinstance(name, str) and name.startswith(PARALLEL) for name in found):
        return found
    return {name.removeprefix(PARALLEL): value for name, value in found.items()}


def _require(file: Path, content: Any, shape: Shape) -> None:
    if wrong := misfit(content, shape):
        raise UserError(f"{file}: not as a run writes it: {wrong}")


def _choose(folder: Path, best: bool) -> Path:
    """The checkpoint file of a run folder: the newer one; or the one that holds the selected model, where one does."""
    files = [folder / name for name in (LAST, BEST) if (folder / name).is_file()]
    if not files:
        started = (folder / RECORD).is_file()
        way = ": the run was stopped before its first checkpoint; start it again" if started else "; give a run folder"
        raise UserError(f"resume = {folder}: the folder holds no {LAST}{way}, or a checkpoint file")
    seen = [_Seen.of(file) for file in files]
    if None in seen:
        return files[-1 if best else 0]  # reading it says what is wrong
    newest = max(seen, key=lambda found: found.epoch)  # of equals the first one, LAST
    if not best and newest.file.name == BEST:
        logger.warning(f"{folder}: resumes from {BEST}, of epoch {newest.epoch}: {LAST} is missing or older")
    if not best or not newest.selected:
        return newest.file
    chosen = [found.file for found in seen[::-1] if found.epoch == newest.selected]
    if not chosen:
        logger.warning(
            f"{folder}: {BEST} is not of the selected epoch {newest.selected}; the last model is tested instead"
        )
    return [*chosen, newest.file][0]


class _Seen(NamedTuple):
    """What choosing among checkpoint files needs of each."""

    file: Path
    epoch: int
    selected: int  # the epoch of the selected model; 0: none was selected, the last one is tested

    @classmethod
    def of(cls, file: Path) -> _Seen | None:
        """None for a file that is no whole checkpoint."""
        content = peek(file)
        if misfit(content, {"origin": ORIGIN, "progress": PROGRESS}):
            return None
        last = content["origin"]["selected_on"] == "last"
        return cls(file, content["progress"]["epoch"], 0 if last else content["progress"]["best_epoch"])


def tested_stage(checkpoint: Checkpoint) -> Stage:
    """How rows of results name this checkpoint's model when it is tested."""
    if checkpoint.origin is None:
        return Stage("test", None, None)
    selected = 0 < checkpoint.states["progress"]["best_epoch"] == checkpoint.epoch
    return Stage("test", checkpoint.epoch, checkpoint.origin.selected_on if selected else "last")


def load_weights_into(
    model: nn.Module, checkpoint: Checkpoint, allow_other_head: bool, config: Mapping[str, Any] | None = None
) -> None:
    """Load weights by name. A head of another identity count is left out with a warning, where that is allowed.

    Weights alone may have the names of the method's released checkpoints. config: what the model was built from. Raises
    UserError where anything else does not fit, naming the keys that differ from those of the checkpoint's run; the
    model is then unchanged.
    """
    weights, own = _by_our_names(model, checkpoint), model.state_dict()
    other = [n for n in getattr(model, "HEAD", ()) if n in weights and n in own and weights[n].shape != own[n].shape]
    if allow_other_head and other:
        logger.warning(f"{checkpoint.path}: its head of {len(weights[other[0]])} identities is left out")
        for name in other:
            del weights[name], own[name]
    wrong = [f"{name} is unknown" for name in weights if name not in own]
    wrong += [f"{name} is missing" for name in own if name not in weights]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    wrong += [
        f"{name} is of {weights[name].dtype}, not of {value.dtype}"
        for name, value in own.items()
        if name in weights and weights[name].is_floating_point() != value.is_floating_point()
    ]
    if wrong:
        raise UserError(_misfit(checkpoint, config or {}, wrong))
    model.load_state_dict(weights, strict=False)


def _by_our_names(model: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The checkpoint's weights; those of a released one renamed, with what it lacks and no test needs left as it is."""
    weights, table = dict(checkpoint.weights), getattr(model, "released_names", dict)()
    if checkpoint.origin is not None:
        return weights
    found, optional = weights, []
    if any(name != ours and name in weights for name, ours in table.items()):
        found = {ours: weights.pop(name) for name, ours in table.items() if name in weights}
        optional = list(getattr(model, "TRAINING_ONLY", ()))
        if weights:
            logger.info(
                f"{checkpoint.path}: {len(weights)} entries that nothing uses are ignored, {next(iter(weights))} ..."
            )
    own, counted = model.state_dict(), any(name.endswith(COUNTER) for name in found)
    lacking = [n for n in own if n.startswith(tuple(optional)) or n.endswith(COUNTER) and not counted]
    return {name: own[name] for name in lacking} | found


def _misfit(checkpoint: Checkpoint, config: Mapping[str, Any], wrong: Sequence[str]) -> str:
    """One short line: the keys that the weights were trained with where they differ, else the first entries that do."""
    before = checkpoint.origin.config if checkpoint.origin else {}
    keys = [
        key for key in config if key in MODEL_KEYS & before.keys() and as_saved(before[key]) != as_saved(config[key])
    ]
    if keys:
        trained = ", ".join(f"{key} {as_saved(before[key])}" for key in keys)
        asked = ", ".join(f"{as_saved(config[key])}" for key in keys)
        return f"{checkpoint.path} was trained with {trained}, not {asked}: leave out what changes these keys"
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    way = "; give the keys that it was trained with" if checkpoint.origin is None else ""
    return f"{checkpoint.path}: does not fit the model in {len(wrong)} entries: {', '.join(wrong[:3])}{more}{way}"


def as_saved(value: Any) -> Any:
    """The value of a key as the configuration in a checkpoint holds it."""
    return list(value) if isinstance(value, tuple) else value

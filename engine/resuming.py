"""What a run that is resumed or tested must share with the command's data, and what differs from how it was started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.defaults import BOTH, NOTHING, TEST, affecting
from engine.checkpoint import Checkpoint, as_saved
from utils.errors import UserError
from utils.logging import logger
from utils.runs import BEST
from utils.types import Benchmark


def require_same_split(checkpoint: Checkpoint, benchmark: Benchmark, testing: bool, allowed: bool) -> None:
    """UserError where the model saw the test identities in training, or a run would continue with other data."""
    origin = checkpoint.origin
    if origin is None and benchmark.trial is not None:
        logger.warning(f"{checkpoint.path} does not say its split; results mean nothing unless it is {benchmark.trial}")
    if origin is None:
        return
    if origin.dataset == benchmark.name and benchmark.drawn not in (None, origin.seed) and not allowed:
        raise UserError(
            f"{checkpoint.path}: trained with --seed {origin.seed}, whose training identities are among the test "
            f"identities that seed {benchmark.drawn} draws: leave --seed out, or set allow_split_mismatch true"
        )
    if (origin.dataset, origin.trial) == (benchmark.name, benchmark.trial):
        return
    if not testing:
        raise UserError(
            f"{checkpoint.path}: a run on {split_name(origin.dataset, origin.trial)} cannot go on with "
            f"{split_name(benchmark.name, benchmark.trial)}"
        )
    if origin.dataset == benchmark.name and not allowed:
        raise UserError(
            f"{checkpoint.path}: trained on {split_name(origin.dataset, origin.trial)}, whose training identities are "
            f"among the test identities of split {benchmark.trial}: set trial {origin.trial}, or allow_split_mismatch "
            "true"
        )


def split_name(dataset: str, trial: int | None) -> str:
    """The data set as a message names it: sysu, or regdb, split 3."""
    return dataset if trial is None else f"{dataset}, split {trial}"


def resume_notes(checkpoint: Checkpoint, config: Mapping[str, Any], seed: int | None, testing: bool) -> list[str]:
    """What is asked differently than when the run was started and changes results, one line each.

    seed: None if not asked for. testing: the run's model is tested, so that what only its training depends on is left
    out.
    """
    looked_at = affecting(BOTH, TEST) if testing else config.keys() - affecting(NOTHING)
    before = {key: value for key, value in checkpoint.origin.config.items() if key in looked_at}
    what = "tested" if testing else "resumed"
    lines = [
        f"differs from the run that is {what}: {key}: {as_saved(before[key])} -> {as_saved(value)}"
        for key, value in config.items()
        if key in before and as_saved(before[key]) != as_saved(value)
    ]
    if testing:
        return lines
    if checkpoint.path.name == BEST:
        lines.append(f"the run resumes from its best epoch, {checkpoint.epoch}: what followed it is done again")
    if seed not in (None, checkpoint.origin.seed):
        lines.append(f"--seed {seed} is ignored: the resumed run keeps its seed {checkpoint.origin.seed}")
    return lines

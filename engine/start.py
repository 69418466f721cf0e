"""How a command starts: anew, from a run that it resumes, or with a model that it tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import nn
from yacs.config import CfgNode

from configs import cautions, configuration, given_keys
from configs.command import DEFAULT_CFG, DEFAULT_SEED
from engine.checkpoint import Checkpoint, load_weights_into, open_checkpoint
from engine.resuming import require_same_split, resume_notes
from models import build_model
from utils.logging import logger
from utils.processes import on_main
from utils.runs import hold_resumed
from utils.types import Benchmark


class Start(NamedTuple):
    """What a command is about."""

    cfg: CfgNode
    seed: int
    checkpoint: Checkpoint | None  # what `resume` names
    resumed: Checkpoint | None  # the same, where its run is to be resumed


def build_start(path: str | None, opts: Sequence[str], asked_seed: int | None) -> Start:
    """What a command line gives: a yml file, KEY VALUE pairs and a seed; None where not given.

    A run that `resume` names gives its own configuration and seed; what differs from them is logged. Its seed may have
    drawn the test identities, so a test takes it too, unless another one is asked for.
    """
    cfg, checkpoint = build_asked(path, opts)
    own = checkpoint if checkpoint and checkpoint.origin else None  # of a run, not weights alone
    for line in [*cautions(cfg), *(resume_notes(own, cfg, asked_seed, cfg.test_only) if own else [])]:
        logger.warning(line)
    resumed = None if cfg.test_only else own
    asked = asked_seed if resumed is None else None
    seed = asked if asked is not None else own.origin.seed if own else DEFAULT_SEED
    return Start(cfg, seed, checkpoint, resumed)


def build_asked(path: str | None, opts: Sequence[str]) -> tuple[CfgNode, Checkpoint | None]:
    """The configuration, and what `resume` names. A run's own configuration is the base of what is given."""
    given = given_keys(path, opts)
    source, testing = given.get("resume"), given.get("test_only", False)
    if source and not testing:
        on_main(partial(hold_resumed, source))
    checkpoint = open_checkpoint(source, best=testing) if source else None
    if checkpoint and checkpoint.origin:
        return configuration(given, (str(checkpoint.path), checkpoint.origin.config)), checkpoint
    return configuration(given if path else {**given_keys(DEFAULT_CFG, ()), **given}), checkpoint


def build_network(start: Start, benchmark: Benchmark) -> nn.Module:
    """The configured model, with the weights of what `resume` names."""
    model = build_model(start.cfg, benchmark.num_ids)
    if start.checkpoint:
        require_same_split(start.checkpoint, benchmark, start.cfg.test_only, start.cfg.allow_split_mismatch)
        load_weights_into(model, start.checkpoint, allow_other_head=not start.resumed, config=start.cfg)
    return model

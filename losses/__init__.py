"""The objective, built from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from yacs.config import CfgNode

from losses.cmr import cross_modality_retrieval_loss, pick_ranker
from losses.identity import identity_loss
from utils.types import Batch, Output

Term = Callable[[Output, Batch], Tensor]


class Criterion:
    """Sum of named terms: (output, batch) -> (total, {name: term}), all scalars in float32 or better."""

    def __init__(self, terms: Mapping[str, Term]):
        self.terms = dict(terms)

    def __call__(self, output: Output, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        # Under mixed precision the losses are computed in full precision too.
        with torch.autocast(output.embeddings.device.type, enabled=False):
            parts = {name: term(output, batch) for name, term in self.terms.items()}
        return sum(parts.values()), parts


def build_criterion(cfg: CfgNode) -> Criterion:
    """The configured terms, each of weight 1."""
    return Criterion({name: make(cfg) for name, make in LOSSES.items() if cfg[f"loss_{name}"]})


def build_identity(cfg: CfgNode) -> Term:
    return lambda output, batch: identity_loss(output.logits, batch.pids)


def build_cmr(cfg: CfgNode) -> Term:
    ranker = pick_ranker(cfg.soft_rank)
    return lambda output, batch: cross_modality_retrieval_loss(
        output.embeddings, batch.pids, batch.modalities, cfg.cmr_strength, ranker
    )


LOSSES = {"id": build_identity, "cmr": build_cmr}

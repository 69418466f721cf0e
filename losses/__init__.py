"""The objective, built from the configuration."""

from __future__ import annotations

from collections.abc import Callable

from yacs.config import CfgNode

from losses.cmr import cross_modality_retrieval_loss, pick_ranker
from losses.criterion import Criterion, Term
from losses.cross_entropy import identity_loss


def build_criterion(cfg: CfgNode, num_ids: int) -> Criterion:
    """The terms whose key `loss_NAME` is not 0, each times that weight, for `num_ids` training identities."""
    weights = {name: float(cfg[f"loss_{name}"]) for name in LOSSES}
    used = {name: weight for name, weight in weights.items() if weight}
    return Criterion({name: LOSSES[name](cfg, num_ids) for name in used}, used)


def build_identity(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: identity_loss(output.logits, labels.pids)


def build_cmr(cfg: CfgNode, num_ids: int) -> Term:
    ranker = pick_ranker(cfg.soft_rank)
    return lambda output, labels: cross_modality_retrieval_loss(
        output.embeddings, labels.pids, labels.modalities, cfg.cmr_strength, ranker
    )


# name -> (cfg, num_ids) -> term; the key `loss_` + name is its weight.
LOSSES: dict[str, Callable[[CfgNode, int], Term]] = {"id": build_identity, "cmr": build_cmr}

"""The objective, built from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from yacs.config import CfgNode

from losses.cmr import cross_modality_retrieval_loss, pick_ranker
from losses.criterion import Criterion, Term
from losses.cross_entropy import identity_loss
from losses.deen import cross_modality_pair, orthogonality
from losses.mclnet import MarginalCentres, modality_confusion
from losses.mutual import head_distillation, head_identity, view_distillation
from losses.triplet import batch_hard, centre_cross_modality, weighted_regularised
from utils.errors import UserError
from utils.types import Labels, Modality, Output

RELEASED_CENTRES = 395  # of identities, for every data set; a data set that has more gets as many as it has
RELEASED_CAMERAS = 6
NARROW = ("resnet18", "resnet34")  # backbones whose embeddings have 512 values; those of the others have 2048


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


def build_hard(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: batch_hard(getattr(output, cfg.triplet_on), labels.pids, cfg.margin)


def build_weighted(square: bool, cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: weighted_regularised(
        output.pooled, labels.pids, cfg.wrt_alpha, cfg.wrt_gamma, square, cfg.wrt_shifted
    )


def build_centre(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: centre_cross_modality(output.pooled, labels.pids, labels.modalities, cfg.margin)


def build_view_distillation(cfg: CfgNode, num_ids: int) -> Term:
    return _views


def _views(output: Output, labels: Labels) -> Tensor:
    """Of the first visible view and the last infrared one, whose rows show the same identities in the same order."""
    count = int((labels.modalities == Modality.INFRARED).sum())
    if count and not bool((labels.modalities[:count] == Modality.VISIBLE).all()):
        raise UserError("loss_kl needs as many visible images as infrared ones: sample_method cross_modality_drawn")
    return view_distillation(output.logits[:count], output.logits[len(output.logits) - count :])


def build_confusion(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: modality_confusion(_extra(output, "modality_logits", "mclnet"))


def build_marginal(by_camera: bool, cfg: CfgNode, num_ids: int) -> Term:
    count = (cfg.num_cam or RELEASED_CAMERAS) if by_camera else max(num_ids, RELEASED_CENTRES)
    width = 512 if cfg.backbone in NARROW else 2048
    return MarginalCentres(count, width, cfg.centre_sigma, cfg.centre_rho, by_camera, cfg.centres_trained)


def build_pairs(cfg: CfgNode, num_ids: int) -> Term:
    return _pairs


def _pairs(output: Output, labels: Labels) -> Tensor:
    """Of the original branch and of each generated one."""
    base, *generated = _branches(output)
    pids, modalities = labels.pids[: len(base)], labels.modalities[: len(base)]
    return sum(cross_modality_pair(base, branch, pids, modalities) for branch in generated)


def build_orthogonality(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: orthogonality(*_branches(output)[1:])


def _branches(output: Output) -> tuple[Tensor, ...]:
    if output.rows is None:
        raise UserError("loss_cpm and loss_ort compare the three branches of model deen; another model has none")
    return output.pooled.chunk(3)


def build_heads(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: head_identity(*_heads(output), labels.pids, labels.modalities)


def build_distillation(cfg: CfgNode, num_ids: int) -> Term:
    return lambda output, labels: head_distillation(*_heads(output), labels.modalities, cfg.distillation)


def _heads(output: Output) -> tuple[Tensor, Tensor]:
    return tuple(_extra(output, f"{name}_logits", "ivreid") for name in ("visible", "infrared"))


def _extra(output: Output, name: str, model: str) -> Tensor:
    if name not in output.extra:
        raise UserError(
            f"the losses ask for {name}, which model {model} gives; set model {model} or their weights to 0"
        )
    return output.extra[name]


# name -> (cfg, num_ids) -> term; the key `loss_` + name is its weight.
LOSSES: dict[str, Callable[[CfgNode, int], Term]] = {
    "id": build_identity,
    "cmr": build_cmr,
    "hard": build_hard,
    "wrt": partial(build_weighted, False),
    "adp": partial(build_weighted, True),
    "kl": build_view_distillation,
    "centre": build_centre,
    "confusion": build_confusion,
    "identity_centre": partial(build_marginal, False),
    "camera_centre": partial(build_marginal, True),
    "cpm": build_pairs,
    "ort": build_orthogonality,
    "heads": build_heads,
    "distillation": build_distillation,
}

"""Losses in which one set of logits teaches another: IV-REID's heads, CAJ's views.

L = mean over rows of KL(softmax(teacher / T) || softmax(student / T)), times T^2 between views.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses.distance import beside, full_precision
from utils.types import Modality


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of each row, [R, C], [R, C] -> [R]; the teacher gets no gradient."""
    target = (full_precision(teacher).detach() / temperature).softmax(dim=1)
    return F.kl_div((full_precision(student) / temperature).log_softmax(dim=1), target, reduction="none").sum(dim=1)


def head_distillation(
    visible_logits: Tensor, infrared_logits: Tensor, modalities: Tensor, reduction: str = "batchmean"
) -> Tensor:
    """Each head learns, on images of its own modality, from the other head (IV-REID): [R, C], [R, C], [R] -> scalar.

    The mean over the rows of each modality, both added; reduction "mean" divides by the number of classes as well, as
    the released RegDB script does. A modality without rows adds 0. Raises ValueError for another reduction.
    """
    if reduction not in ("batchmean", "mean"):
        raise ValueError(f"reduction = {reduction!r}: choose batchmean or mean")
    total = _mean_of(divergence(visible_logits, infrared_logits), modalities == Modality.VISIBLE)
    total = total + _mean_of(divergence(infrared_logits, visible_logits), modalities == Modality.INFRARED)
    return total / visible_logits.shape[1] if reduction == "mean" else total


def head_identity(visible_logits: Tensor, infrared_logits: Tensor, pids: Tensor, modalities: Tensor) -> Tensor:
    """Cross entropy of each head over images of its own modality, both added: [R, C], [R, C], [R], [R] -> scalar."""
    pairs = ((visible_logits, Modality.VISIBLE), (infrared_logits, Modality.INFRARED))
    return sum(
        _mean_of(F.cross_entropy(full_precision(logits), pids, reduction="none"), modalities == modality)
        for logits, modality in pairs
    )


def view_distillation(student: Tensor, teacher: Tensor, temperature: float = 3.0) -> Tensor:
    """CAJ's KL, temperature^2 times the mean over rows: [N, C] logits of plain visible views and of infrared -> scalar.

    As released, 1e-7 is added to the teacher's probabilities, which are not normalised again, so that equal logits do
    not quite give 0. The teacher gets no gradient.
    """
    target = (full_precision(teacher).detach() / temperature).softmax(dim=1) + 1e-7
    log_student = (full_precision(student) / temperature).log_softmax(dim=1)
    return F.kl_div(log_student, target, reduction="batchmean") * temperature**2


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, [R], bool [R] -> scalar; 0 with a graph where none is chosen."""
    weights = beside(chosen, values).to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1)

"""Losses of MCLNet (Hao et al., ICCV 2021): modality confusion and marginal centres.

Confusion = mean over rows of the cross entropy to (1/2, 1/2). Marginal centre = [compact - near - sigma]_+ + [rho -
apart]_+.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.distance import FLOOR, beside, full_precision
from utils.types import Labels, Output

NEAREST_ROWS = 8.0  # hard-coded in the released identity loss: rows of an identity in its batches


def modality_recognition(logits: Tensor, modalities: Tensor) -> Tensor:
    """Cross entropy of the discriminator, which it alone minimises: [R, 2], [R] -> scalar."""
    return F.cross_entropy(full_precision(logits), beside(modalities, logits))


def modality_confusion(logits: Tensor) -> Tensor:
    """Cross entropy to (1/2, 1/2), which the network minimises: [R, 2] -> scalar, ln 2 at the least."""
    return -full_precision(logits).log_softmax(dim=1).mean()


def marginal_centre(
    features: Tensor, labels: Tensor, centres: Tensor, sigma: float, rho: float, nearest: str = "constant"
) -> Tensor:
    """[compact - near - sigma]_+ + [rho - apart]_+ of squared distances, a scalar.

    features: [R, D], not normalised; labels: [R], the centre that each row belongs to; centres: [C, D]. compact: mean
    of the rows' distances to their centres. near: each centre's nearest row that is not on it, summed and divided by R,
    times 8 ("constant", the identity loss) or times the centre's rows not on it ("count", the camera loss). apart: mean
    over rows of the distance from their centre to the nearest other centre. While the first hinge is active the nearest
    rows are pushed away, as released. Raises ValueError for another `nearest`.
    """
    if nearest not in ("constant", "count"):
        raise ValueError(f"nearest = {nearest!r}: choose constant or count")
    features, centres = full_precision(features), full_precision(centres)
    labels = beside(labels, features)
    own = (features - centres[labels]).square().sum(dim=1)
    off = own != 0
    empty = own.new_full((len(centres),), torch.inf)
    closest = empty.scatter_reduce(0, labels, own.masked_fill(~off, torch.inf), "amin")
    closest = torch.where(closest.isinf(), torch.zeros_like(closest), closest)
    rows = torch.zeros_like(empty).scatter_add(0, labels, off.to(own.dtype))
    factor = NEAREST_ROWS if nearest == "constant" else rows
    near = (factor * closest).sum() / len(features)
    return F.relu(own.mean() - near - sigma) + F.relu(rho - _apart(centres)[labels].mean())


def _apart(centres: Tensor) -> Tensor:
    """Squared distance of each centre to its nearest other one: [C, D] -> [C]; infinite where there is no other."""
    squares = centres.square().sum(dim=1)
    distances = torch.addmm(squares[:, None] + squares, centres, centres.T, alpha=-2).clamp(min=FLOOR)
    itself = torch.eye(len(centres), dtype=torch.bool, device=centres.device)
    return distances.masked_fill(itself, torch.inf).amin(dim=1)


class MarginalCentres(nn.Module):
    """The marginal-centre loss of embeddings to `count` centres from N(0, 1), [count, width], by identity or by camera.

    trained: whether the centres learn; the released code gives them to no optimiser, so they stay where they start.
    """

    def __init__(
        self, count: int, width: int, sigma: float, rho: float, by_camera: bool = False, trained: bool = False
    ):
        super().__init__()
        self.sigma, self.rho, self.by_camera = sigma, rho, by_camera
        self.centres = nn.Parameter(torch.randn(count, width), requires_grad=trained)

    def forward(self, output: Output, labels: Labels) -> Tensor:
        """labels: of the output's rows; cameras are numbered from 1, and any others wrap around."""
        if self.by_camera:
            cameras = (labels.cameras - 1) % len(self.centres)
            return marginal_centre(output.embeddings, cameras, self.centres, self.sigma, self.rho, "count")
        return marginal_centre(output.embeddings, labels.pids, self.centres, self.sigma, self.rho)

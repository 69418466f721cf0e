"""DEEN (Zhang and Wang, CVPR 2023): aggregation of levels, and two generated branches beside the original one.

Two stems -> stages with MFA -> DEE makes three maps of one -> each: f = GeM(map), e = BN(f), logits = W e.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from models.backbones.resnet import stage_width
from models.backbones.stages import through
from models.backbones.streams import Streams, restored
from models.modules.aggregation import Aggregation, Expansion
from models.modules.neck import bn_neck, classifier, head_groups
from models.modules.pooling import gem_pool
from models.modules.vectors import SHARES, flipped, joined, unit
from models.released import TWO_STREAM, released_names
from utils.types import Group, Output

BRANCHES = 3


class DEEN(nn.Module):
    """Images [R, 3, H, W], streams [R] -> Output of 3 R rows: originals, branch 1, branch 2, each in the order given.

    depth: the stages that are used, 4, or 3 for small data sets (as released for RegDB); the last is entered with three
    times the batch. vector: what is ranked by inner products, "s7" (all six vectors of an image), "s8" (the same,
    weighted 0.1 before the neck and 0.9 after it), or the original branch's "neck" or "pool" alone. flip: the sum of
    both mirrored views' unit vectors, as released, instead of one view's. recompute: keep each block's input only.
    """

    HEAD = ("classifier.weight",)

    def __init__(
        self,
        backbone: ResNet,
        num_ids: int,
        depth: int = 4,
        vector: str = "s7",
        flip: bool = True,
        recompute: bool = False,
    ):
        super().__init__()
        self.depth, self.vector, self.flip, self.recompute = depth, vector, flip, recompute
        self.backbone = Streams(backbone, 2, depth)
        widths = [backbone.conv1.out_channels] + [stage_width(self.blocks(stage)) for stage in range(1, depth + 1)]
        for stage in range(1, depth):
            self.add_module(f"MFA{stage}", Aggregation(widths[stage], widths[stage - 1], stride=1 if stage == 1 else 2))
        self.DEE = Expansion(widths[depth - 1])
        self.bn_neck = bn_neck(widths[depth])
        self.classifier = classifier(widths[depth], num_ids)

    def blocks(self, stage: int) -> nn.Sequential:
        return getattr(self.backbone, f"layer{stage}")

    def features(self, maps: Tensor) -> Tensor:
        """Maps of the stems -> the last feature maps of the three branches, [R, 64, h, w] -> [3 R, D, ...]."""
        recompute = self.recompute and self.training
        for stage in range(1, self.depth):
            lower, maps = maps, through(self.blocks(stage), maps, recompute)
            maps = getattr(self, f"MFA{stage}")(maps, lower)
        return through(self.blocks(self.depth), self.DEE(maps), recompute)

    def forward(self, images: Tensor, streams: Tensor | None = None) -> Output:
        """`rows` tells which image each answer is for; streams: 0 visible, 1 infrared, None: all visible."""
        maps, order = self.backbone.enter(images, streams)
        branches = gem_pool(self.features(maps), p=1.0).chunk(BRANCHES)
        pooled = torch.cat([restored(branch, order) for branch in branches])
        embeddings = self.bn_neck(pooled)
        rows = torch.arange(images.shape[0]).repeat(BRANCHES)  # on the CPU, as the labels that they pick
        return Output(embeddings, self.classifier(embeddings), pooled, rows)

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        """The vectors that are ranked, [R, 6 D], or [R, D] for one branch's."""
        vectors = self._view(images, modalities)
        return vectors + self._view(flipped(images), modalities) if self.flip else vectors

    def _view(self, images: Tensor, modalities: Tensor) -> Tensor:
        output = self(images, modalities)
        if self.vector in SHARES:
            return torch.cat(joined(self.vector, output.pooled, output.embeddings).chunk(BRANCHES), dim=1)
        vectors = output.embeddings if self.vector == "neck" else output.pooled
        return unit(vectors[: images.shape[0]])

    def groups(self) -> dict[str, Group]:
        """Parameters for the optimiser: all but neck and classifier learn at a tenth of the rate."""
        return head_groups(self)

    def released_names(self) -> dict[str, str]:
        """{name in the released checkpoints: name here}."""
        return released_names(self.state_dict(), TWO_STREAM)

"""A ResNet whose first layers exist once for each stream, and whose stages are shared."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torchvision.models import ResNet


class Stem(nn.Module):
    """A copy of a ResNet's layers before its stages: [B, 3, H, W] -> [B, 64, H / 4, W / 4]."""

    def __init__(self, network: ResNet):
        super().__init__()
        self.conv1, self.bn1 = copy.deepcopy(network.conv1), copy.deepcopy(network.bn1)
        self.relu, self.maxpool = network.relu, network.maxpool

    def forward(self, images: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))


class Streams(nn.Module):
    """`count` stems, all as the given network's, before its first `depth` stages; nothing else of it is kept."""

    def __init__(self, network: ResNet, count: int, depth: int = 4):
        super().__init__()
        self.stems = nn.ModuleList(Stem(network) for _ in range(count))
        for stage in range(1, depth + 1):
            self.add_module(f"layer{stage}", getattr(network, f"layer{stage}"))

    def enter(self, images: Tensor, streams: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(maps [R, 64, h, w] stream by stream, where each image's row went, [R] int64 or None: nowhere).

        streams: [R], best on the CPU, where asking which rows take which stem waits for no GPU; None: all take the
        first, as they do where there is one. ValueError for a stream that has no stem. Each stem's batch norm sees its
        own images, the shared ones see all; `restored` puts rows back into their order.
        """
        if streams is None or len(self.stems) == 1:
            return self.stems[0](images), None
        groups = [(streams == number).nonzero()[:, 0] for number in range(len(self.stems))]
        if sum(map(len, groups)) < len(streams):
            raise ValueError(
                f"streams from {int(streams.min())} to {int(streams.max())}: there are {len(self.stems)} stems"
            )
        taken = [(stem, rows) for stem, rows in zip(self.stems, groups) if len(rows)]
        if len(taken) == 1:
            return taken[0][0](images), None
        maps = [stem(images[rows.to(images.device, non_blocking=True)]) for stem, rows in taken]
        return torch.cat(maps), torch.cat(groups).argsort().to(images.device, non_blocking=True)


def restored(values: Tensor, order: Tensor | None) -> Tensor:
    """Rows that were grouped by `Streams.enter`, in the order of the images again: [R, ...] -> [R, ...]."""
    return values if order is None else values[order]

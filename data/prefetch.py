"""Batches that are on the GPU before they are needed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Sampler

from utils.types import Batch


class Prefetcher:
    """A loader whose images arrive on the GPU: the next batch is copied, on a stream of its own, while one is used.

    Labels stay on the CPU, where the augmentation wants them. On a CPU it is the loader itself. For copies that
    overlap, the loader must pin its memory.
    """

    def __init__(self, loader: DataLoader, device: torch.device):
        self.loader = loader
        self.device = device

    @property
    def batch_sampler(self) -> Sampler:
        return self.loader.batch_sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self._ahead() if self.device.type == "cuda" else iter(self.loader)

    def _ahead(self) -> Iterator[Batch]:
        side, waiting = torch.cuda.Stream(self.device), None
        for batch in self.loader:
            with torch.cuda.stream(side):
                images = batch.images.to(self.device, non_blocking=True)
            sent = batch._replace(images=images), side.record_event()
            if waiting is not None:
                yield self._arrived(*waiting)
            waiting = sent
        if waiting is not None:
            yield self._arrived(*waiting)

    def _arrived(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        # Allocated on the side stream: its memory must not be taken again before this stream is done with it.
        batch.images.record_stream(current)
        return batch

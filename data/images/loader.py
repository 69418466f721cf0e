"""Batches that are on the GPU before they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch.utils.data import DataLoader, Sampler

from utils.errors import UserError
from utils.processes import alone, me
from utils.sharding import split_in_order
from utils.types import Batch


def own_run(rows: Sequence[int]) -> Sequence[int]:
    """The run of rows that is this process's, all of them if it is alone. UserError where there are too few."""
    if len(rows) < me().world and not alone():
        raise UserError(f"{len(rows)} test images are too few for {me().world} processes; start fewer")
    run = split_in_order(len(rows), me().rank, me().world)
    return rows[run.start : run.stop]


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream that copies to a GPU: memory freed on one stream serves that stream only."""
    return torch.cuda.Stream(device)


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

    def of(self, rows: Sequence[int]) -> Prefetcher:
        """A loader of these rows of the same images, in this order; of several processes each gets a run of them."""
        kept = ("batch_size", "num_workers", "collate_fn", "pin_memory", "generator")
        settings = {name: getattr(self.loader, name) for name in kept}
        return Prefetcher(type(self.loader)(self.loader.dataset, sampler=own_run(rows), **settings), self.device)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self._ahead() if self.device.type == "cuda" else iter(self.loader)

    def _ahead(self) -> Iterator[Batch]:
        side, waiting = side_stream(self.device), None
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

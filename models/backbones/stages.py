"""Running the stages of a ResNet, with adapters between their blocks, in little memory where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def through(blocks: nn.Sequential, x: Tensor, recompute: bool, adapters: Sequence[nn.Module] = ()) -> Tensor:
    """Run a stage, [R, C, H, W] -> [R, C', H', W']; each of the last blocks with an adapter after it.

    recompute: keep each block's input only.
    """
    for position, block in enumerate(blocks, start=len(adapters) - len(blocks)):
        step = block if position < 0 else nn.Sequential(block, adapters[position])
        x = recomputed(step, x) if recompute else step(x)
    return x


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """block(x), [R, C, H, W] -> [R, C', H', W']; its inner maps are computed again in the backward pass, not kept."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(block)))


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Computing a block again must not count the batch twice in its batch norms' running statistics."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0  # the statistics are then written as they are
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(counted)

"""torch.compile for a training step, with a way back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.errors import reason
from utils.logging import logger
from utils.types import Output


class Compiled:
    """A model's forward pass through torch.compile. If that fails, the model itself runs, with one warning.

    The backward pass is compiled when it first runs, far from here, so the first batch is tried in both directions
    beforehand. The trial leaves no gradient, and the batch norms' statistics and the random states as they were.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.run = torch.compile(model)
        self.tried = False

    def __call__(self, images: Tensor, streams: Tensor) -> Output:
        if not self.tried:
            self.tried = True
            self._try(images, streams)
        return self.run(images, streams)

    def _try(self, images: Tensor, streams: Tensor) -> None:
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        try:
            with torch.random.fork_rng([images.device] if images.is_cuda else []):
                output = self.run(images, streams)
                answers = (output.embeddings, output.logits, output.pooled, *output.extra.values())
                sum(answer.float().sum() for answer in answers if answer is not None).backward()
        except Exception as error:  # the compiler raises anything
            logger.warning(f"compile: failed ({reason(error)}); training continues without it")
            self.run = self.model
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        self.model.zero_grad(set_to_none=True)

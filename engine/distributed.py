"""Several processes that train one model: what one process would compute of the whole batch (docs/distributed.md).

Every process computes the losses of the whole batch from the outputs of all. Going back, each takes the gradient of its
own rows, and the gradients of the parameters are added up: together that is the gradient of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from data.shares import split_in_order
from utils.logging import logger
from utils.processes import alone, me
from utils.types import Features, Output


def parallel(model: nn.Module, compute: Callable[..., Any]) -> Callable[..., Any]:
    """compute, whose loss then gives the model the gradients of all processes together; itself where there is one.

    compute: gives, among its outputs, the one loss that is differentiated; whatever else it gives carries no graph. All
    processes start with the main one's parameters.
    """
    if alone():
        return compute
    # Static: every step takes the same parameters. One that no loss needs is then left without a gradient, as alone.
    network = DistributedDataParallel(_Held(model, compute), static_graph=True)
    network.broadcast_buffers = False  # statistics are alike already, or made so at an epoch's end
    network.register_comm_hook(None, _add_up)
    return network


class _Held(nn.Module):
    """A function as the forward pass of a module that holds the parameters it uses."""

    def __init__(self, model: nn.Module, compute: Callable[..., Any]):
        super().__init__()
        self.model = model
        self.compute = compute

    def forward(self, *arguments: Any) -> Any:
        return self.compute(*arguments)


def _add_up(_, bucket):
    """Sums, where DistributedDataParallel would take means: a GradBucket -> a future of its tensor.

    Not annotated, because torch compares the annotations with its types, and here they would be texts.
    """
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


class GatherRows(torch.autograd.Function):
    """The rows of all processes, one after the other: [b, ...] -> [W b, ...].

    The gradient is that of this process's rows of a loss that every process computes alike from all of them.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        return gather_equal(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient.chunk(me().world)[me().rank]


def gather_equal(rows: Tensor) -> Tensor:
    """The rows of all processes, of which each has equally many: [b, ...] -> [W b, ...]."""
    found = rows.new_empty(me().world * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(found, rows.contiguous())
    return found


def whole(output: Output, shares: Tensor | None) -> Output:
    """The whole batch's output, its rows in the batch's order, from this process's. shares: of the batch."""
    if shares is None:
        return output
    places = shares.flatten().argsort().to(output.logits.device, non_blocking=True)
    embeddings, logits = (
        GatherRows.apply(rows).index_select(0, places) for rows in (output.embeddings, output.logits)
    )
    return Output(embeddings, logits)


def gather_features(own: Features, count: int) -> Features:
    """The features of all `count` pictures of a modality, from each process's run of them (data/shares.py)."""
    if alone():
        return own
    runs = [split_in_order(count, rank, me().world) for rank in range(me().world)]
    longest = max(map(len, runs))

    def join(rows: Tensor) -> Tensor:
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        found = gather_equal(padded).chunk(me().world)
        return torch.cat([rows[: len(run)] for rows, run in zip(found, runs)])

    embeddings = join(own.embeddings.transpose(0, 1)).transpose(0, 1).contiguous()
    return Features(embeddings, join(own.pids), join(own.cameras))


def synchronise_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with batch norms over the whole batch, where it is shared out and on GPUs; the parameters stay.

    On a CPU, for which torch has none, each process normalises over its own rows, and the log says so.
    """
    if alone():
        return model
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    logger.warning("batch norm is synchronised on GPUs only: each process normalises over its own share of a batch")
    return model


def attach_statistics(trainer: Engine, model: nn.Module) -> None:
    """At an epoch's end, give all processes the mean of their batch norms' running statistics."""
    if alone():
        return

    @trainer.on(Events.EPOCH_COMPLETED)
    def average(engine: Engine) -> None:
        for norm in model.modules():
            if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm):
                for statistic in (norm.running_mean, norm.running_var):
                    dist.all_reduce(statistic)
                    statistic /= me().world


def send(model: nn.Module) -> None:
    """Give every process the main one's weights and statistics."""
    if alone():
        return
    for tensor in model.state_dict().values():
        sent = tensor.contiguous()
        dist.broadcast(sent, 0)
        tensor.copy_(sent)

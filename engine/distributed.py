"""Several processes that train one model: what one process would compute of the whole batch (docs/distributed.md).

Every process computes the losses of the whole batch from the outputs of all. Going back, each takes the gradient of its
own rows, and the gradients of the parameters are added up: together that is the gradient of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from utils.logging import logger
from utils.processes import alone, me
from utils.sharding import split_in_order
from utils.types import Features, Output, Views


def parallel(model: nn.Module, criterion: nn.Module, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `compute` so that `backward()` sums the gradients of all processes. With one process, return it unchanged.

    model, criterion: what `compute` differentiates; all processes start with the main one's parameters. compute: gives,
    among its outputs, the one loss that is differentiated; whatever else it gives carries no graph.
    """
    if alone():
        return compute
    for parameter in criterion.parameters():
        if parameter.requires_grad:  # every process computes the whole loss, and so the whole gradient: it adds a share
            parameter.register_hook(lambda gradient: gradient / me().world)
    # A process whose images all lack one modality leaves that one's entrance out. What no process uses has no gradient.
    held = _Held(nn.ModuleList([model, criterion]), compute)
    network = DistributedDataParallel(held, find_unused_parameters=True)
    network.broadcast_buffers = False  # statistics are alike already, or made so at an epoch's end
    network.register_comm_hook(None, _add_up)
    return network


class _Held(nn.Module):
    """A function as the forward pass of a module that holds the parameters it uses."""

    def __init__(self, modules: nn.Module, compute: Callable[..., Any]):
        super().__init__()
        self.modules_used = modules
        self.compute = compute
        # Of no use: where the first step leaves no parameter out, torch warns that none ever will be.
        self.unused = nn.Parameter(next(modules.parameters()).new_zeros(()))

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


def whole(output: Output, views: Views, shares: Tensor | None) -> Output:
    """The answers of all processes, [S, ...] in the order of the batch's views, from this one's. shares: of the batch.

    Where a network answers c times for a view, the views are answered once, then all again, and `rows` says so. Every
    view must be answered equally often; ValueError otherwise.
    """
    if shares is None:
        return output
    places = [views.places(share) for share in shares]
    count, rest = divmod(len(output.logits), len(places[me().rank]))
    if rest:
        raise ValueError("several processes need a network that answers equally often for each view")
    order = None if output.rows is None else _by_turns(output.rows)
    longest = max(map(len, places))
    turns = [torch.arange(count)[:, None] * longest + torch.arange(len(part)) for part in places]
    found = torch.cat([rank * count * longest + turn for rank, turn in enumerate(turns)], dim=1)
    picked = found[:, torch.cat(places).argsort()].flatten().to(output.logits.device, non_blocking=True)

    def join(rows: Tensor) -> Tensor:
        rows = rows if order is None else rows[order.to(rows.device, non_blocking=True)]
        rows = rows.unflatten(0, (count, -1))
        rows = F.pad(rows, (0, 0) * (rows.dim() - 2) + (0, longest - rows.shape[1])).flatten(0, 1)
        return GatherRows.apply(rows).index_select(0, picked)

    return Output(
        embeddings=join(output.embeddings),
        logits=join(output.logits),
        pooled=None if output.pooled is None else join(output.pooled),
        rows=None if output.rows is None else torch.arange(len(views.rows)).repeat(count),
        extra={name: join(rows) for name, rows in output.extra.items()},
    )


def _by_turns(rows: Tensor) -> Tensor:
    """The order in which every row is answered once, then every row again: [S] int64 -> [S] int64."""
    order = rows.argsort(stable=True)
    _, counts = torch.unique_consecutive(rows[order], return_counts=True)
    turn = torch.cat([torch.arange(int(count)) for count in counts])
    return order[turn.argsort(stable=True)]


def gather_features(own: Features, count: int) -> Features:
    """The features of all `count` images of a modality, from each process's run of them (utils/sharding.py)."""
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

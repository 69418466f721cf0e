"""Several processes that work on one run, as torchrun starts them: who this one is, and what they tell one another.

Tensors go through torch.distributed's process group, which `connect` opens for one kind of device. Small objects, and
the choice of the process that prints, go through torchrun's key-value store, which needs no device and outlives a
process that ends.
A process that torchrun did not start is alone: then every function here does its work at once, or nothing. torch is
imported where it is needed, so that the tools which need none start fast.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from utils.errors import UserError, reason

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

T = TypeVar("T")
# Longer than any process is waited for: decoding all images, or ranking on a CPU, is done by one of them.
PATIENCE = timedelta(minutes=30)
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOST = (
    f"another process of this run ended, or did not answer within {PATIENCE.seconds // 60} minutes; "
    "`resume` continues after the last finished epoch"
)


class Member(NamedTuple):
    """One of the processes of a run."""

    rank: int = 0  # among all; 0 is the main process, the only one that writes
    world: int = 1  # how many there are
    local_rank: int = 0  # among those on this machine
    local_world: int = 1
    store: Store | None = None  # None: alone


_me = Member()
_calls: Counter[str] = Counter()  # every process counts the same ones, so the counts name what they exchange


def me() -> Member:
    """Who this process is."""
    return _me


def alone() -> bool:
    """Whether the run has one process."""
    return _me.world == 1


def is_main() -> bool:
    """Whether this is the process that writes."""
    return _me.rank == 0


def started_together() -> bool:
    """Whether torchrun (or what sets the same variables) started this process as one of several."""
    return all(name in os.environ for name in VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def join() -> None:
    """Meet the other processes, as the environment describes them. No device is used yet.

    Raises UserError where their store is not found.
    """
    import torch.distributed as dist

    global _me
    try:
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
    except RuntimeError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(f"the other processes of this run were not met at {place} ({reason(error)})") from None
    rank, world, local_rank, local_world = (int(os.environ[name]) for name in VARIABLES[:4])
    _me = Member(rank, world, local_rank, local_world, dist.PrefixStore("run", store))


def connect(device: torch.device) -> torch.device:
    """Open the process group for tensors on `device`: NCCL on GPUs, gloo on the CPU. Returns the device."""
    if not alone():
        import ignite.distributed as idist
        import torch.distributed as dist

        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("tensors", _me.store),
            rank=_me.rank,
            world_size=_me.world,
            timeout=PATIENCE,
        )
        if (
            "SLURM_JOB_ID" in os.environ
        ):  # then Ignite reads Slurm's variables, which do not describe torchrun's processes
            os.environ["SLURM_LOCALID"] = str(_me.local_rank)
        idist.sync()  # Ignite would look at the group when first asked, which must happen in all processes at once
    return device


def part() -> None:
    """Wait until all processes are here, and close the process group."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process at once, while others may still wait for it: torchrun then ends those.

    An ordinary end would close the process group, and NCCL's waits for what the others never send.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def on_main(work: Callable[[], T], received: Callable[[Any], T] = lambda found: found) -> T:
    """work() in the main process alone; its result in every process.

    It travels as JSON, a path as text and a tuple as a list: received(that) makes the result of it again. Nothing that
    a stranger could put in its place is ever run. All processes must call this, in the same order. They wait: for the
    main process, whatever it is doing.
    """
    if alone():
        return work()
    key = _next("result")
    if is_main():
        result = work()
        _me.store.set(key, json.dumps(result, default=os.fspath))
        return result
    return received(json.loads(_me.store.get(key)))


@contextmanager
def machine_first() -> Iterator[None]:
    """The block in one process of each machine first, then in its others: they find the files that the first made."""
    key = f"{_next('machine')}/{_me.rank - _me.local_rank}"
    if not alone() and _me.local_rank:
        _me.store.get(key)
    try:
        yield
    finally:
        if not alone() and not _me.local_rank:
            _me.store.set(key, "done")


def claim(what: str) -> bool:
    """True for the first process that calls this with `what`, and for every process once the store is gone."""
    if alone():
        return True
    try:
        return _me.store.add(f"claim/{what}", 1) == 1
    except RuntimeError:
        return True


def lost_another(error: BaseException) -> bool:
    """Whether the error says that another process is gone or silent, rather than that something went wrong here."""
    if alone():
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo" in str(error)  # what gloo raises has no type of its own


def hide_bar() -> bool | None:
    """tqdm's `disable`: a bar on a terminal, of the main process only."""
    return None if is_main() and sys.stderr is not None else True


def _next(kind: str) -> str:
    _calls[kind] += 1
    return f"{kind}/{_calls[kind]}"

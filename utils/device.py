"""Which device to compute on, and what stays there."""

from __future__ import annotations

import re
from functools import cache

import torch
from torch import Tensor

from utils.errors import UserError
from utils.logging import logger
from utils.processes import alone, me
from utils.resources import keep_freed_memory

CPU = torch.device("cpu")
MAC = torch.device("mps")


@cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """These float32 numbers, [n], on the device; copied there once, as a copy waits for all that a GPU has to do."""
    with torch.inference_mode(False):  # the first caller may run in inference mode, others may differentiate
        return torch.tensor(values, device=device)


def with_float64(device: torch.device) -> torch.device:
    """Where that is computed which needs float64: on the device itself; on the CPU for a Mac's GPU, which has none."""
    return CPU if device.type == "mps" else device


def parse_device(name: str, argument: str = "--device") -> torch.device:
    """The device that "cpu", "mps" (a Mac's GPU), "cuda", "cuda:N" or N alone names, whether or not it is here.

    argument: the one that gave the name, for the UserError about another name.
    """
    found = re.fullmatch("(cpu|mps)|cuda(?::([0-9]+))?|([0-9]+)", name)
    if not found:
        hint = "; torchrun --nproc_per_node=N main.py ... uses N GPUs" if argument == "--gpu" else ""
        raise UserError(f"{argument} {name}: give cpu, cuda, cuda:N or mps{hint}")
    place, *numbers = found.groups()
    return torch.device(place) if place else torch.device("cuda", int("".join(filter(None, numbers)) or 0))


def pick_device(name: str | None, argument: str = "--device") -> torch.device:
    """The named device, ready to compute on; None: the first GPU, or the CPU if there is none.

    A number alone, as main.py's default is, falls back to the CPU with a warning where there is no GPU. On the CPU,
    memory that is freed stays the process's own from now on (utils/resources.py). Where torchrun started several
    processes, each takes the GPU of its number on the machine. Raises UserError for a GPU that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = parse_device(("cuda" if count else "cpu") if name is None else name, argument)
    if wanted.type == "mps":
        return _mac(argument)
    if wanted.type == "cpu":
        return _cpu()
    if name is not None and name.isdecimal() and not count:
        hint = f"; {argument} mps takes this Mac's" if torch.backends.mps.is_available() else ""
        logger.warning(f"{argument} {name}: no GPU is available, using the CPU{hint}")
        return _cpu()
    if not alone() and me().local_world > count:
        raise UserError(
            f"{me().local_world} processes were started on a machine with {count} GPUs: each needs one of its own; "
            f"give torchrun --nproc_per_node={count}, or give main.py --gpu cpu"
        )
    number = (wanted.index or 0) if alone() else me().local_rank
    if number >= count:
        raise UserError(f"{argument} {name}: there are {count or 'no'} GPUs" + (", numbered from 0" if count else ""))
    torch.cuda.set_device(number)  # code that uses "the current GPU" should use this one
    return torch.device("cuda", number)


def _cpu() -> torch.device:
    keep_freed_memory()
    return CPU


def _mac(argument: str) -> torch.device:
    if not torch.backends.mps.is_available():
        raise UserError(f"{argument} mps: torch finds no GPU of a Mac here; give cpu")
    if not alone():
        raise UserError(f"{argument} mps: a Mac's GPU serves one process; start one, or give cpu")
    return MAC

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
    """These float32 numbers, [n], on the device; copied there once, because the copy waits for all that a GPU has to do."""
    with torch.inference_mode(False):  # whoever asks first, others may differentiate
        return torch.tensor(values, device=device)


def with_float64(device: torch.device) -> torch.device:
    """Where that is computed which needs float64: on the device itself, but for a Mac's GPU, which has none: on the CPU."""
    return CPU if device.type == "mps" else device


def pick_device(name: str) -> torch.device:
    """The device that `--gpu` means: "cpu", "mps" (a Mac's GPU) or a GPU's number; the CPU, with a warning, if there is none.

    On the CPU, memory that is freed stays the process's own from now on (utils/resources.py). Where torchrun started several processes, each takes the GPU of its number on the machine. Raises UserError for
    several GPUs in one process and for a GPU that is not there.
    """
    if name == "cpu":
        return _cpu()
    if name == "mps":
        return _mac("--gpu")
    if not name.isdecimal():
        raise UserError(
            f"--gpu {name}: give the number of one GPU, cpu, or mps; torchrun --nproc_per_node=N main.py ... uses N GPUs"
        )
    if not torch.cuda.is_available():
        hint = "; --gpu mps takes this Mac's" if torch.backends.mps.is_available() else ""
        logger.warning(f"--gpu {name}: no GPU is available, using the CPU{hint}")
        return _cpu()
    number, count = int(name) if alone() else me().local_rank, torch.cuda.device_count()
    if not alone() and me().local_world > count:
        raise UserError(
            f"{me().local_world} processes were started on a machine with {count} GPUs: each needs one of its own; "
            f"give torchrun --nproc_per_node={count}, or give main.py --gpu cpu"
        )
    if number >= count:
        raise UserError(f"--gpu {name}: there are {count} GPUs, numbered from 0")
    torch.cuda.set_device(number)  # what asks for "the current GPU" should mean this one
    return torch.device("cuda", number)


def named_device(name: str | None) -> torch.device:
    """The device that `--device` means: "cpu", "cuda", "cuda:N" or "mps"; None: the first GPU, or the CPU if there is none.

    Raises UserError for another name and for a GPU that is not there.
    """
    if name == "mps":
        return _mac("--device")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = re.fullmatch("cpu|cuda(?::([0-9]+))?", ("cuda" if count else "cpu") if name is None else name)
    if not found:
        raise UserError(f"--device {name}: give cpu, cuda, cuda:N or mps")
    if found[0] == "cpu":
        return CPU
    number = int(found[1] or 0)
    if number >= count:
        raise UserError(f"--device {name}: there are {count or 'no'} GPUs" + (", numbered from 0" if count else ""))
    torch.cuda.set_device(number)
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

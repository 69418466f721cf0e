"""Which device to compute on."""

from __future__ import annotations

import re

import torch

from utils.errors import UserError
from utils.logging import logger
from utils.processes import alone, me


def pick_device(name: str) -> torch.device:
    """The device that `--gpu` means: "cpu", or a GPU's number; the CPU, with a warning, where there is no GPU.

    Where torchrun started several processes, each takes the GPU of its number on the machine. Raises UserError for
    several GPUs in one process and for a GPU that is not there.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not name.isdecimal():
        raise UserError(
            f"--gpu {name}: give the number of one GPU, or cpu; torchrun --nproc_per_node=N main.py ... uses N GPUs"
        )
    if not torch.cuda.is_available():
        logger.warning(f"--gpu {name}: no GPU is available, using the CPU")
        return torch.device("cpu")
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
    """The device that `--device` means: "cpu", "cuda" or "cuda:N"; None: the first GPU, or the CPU where there is none.

    Raises UserError for another name and for a GPU that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = re.fullmatch("cpu|cuda(?::([0-9]+))?", ("cuda" if count else "cpu") if name is None else name)
    if not found:
        raise UserError(f"--device {name}: give cpu, cuda or cuda:N")
    if found[0] == "cpu":
        return torch.device("cpu")
    number = int(found[1] or 0)
    if number >= count:
        raise UserError(f"--device {name}: there are {count or 'no'} GPUs" + (", numbered from 0" if count else ""))
    torch.cuda.set_device(number)
    return torch.device("cuda", number)

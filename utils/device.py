"""Which device to compute on."""

from __future__ import annotations

import torch

from utils.errors import UserError
from utils.logging import logger


def pick_device(name: str) -> torch.device:
    """The device that `--gpu` means: "cpu", or a GPU's number; the CPU, with a warning, where there is no GPU.

    Raises UserError for several GPUs and for a GPU that is not there.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not name.isdecimal():
        raise UserError(f"--gpu {name}: give the number of one GPU, or cpu; several GPUs are not supported yet")
    if not torch.cuda.is_available():
        logger.warning(f"--gpu {name}: no GPU is available, using the CPU")
        return torch.device("cpu")
    if int(name) >= torch.cuda.device_count():
        raise UserError(f"--gpu {name}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    torch.cuda.set_device(int(name))  # what asks for "the current GPU" should mean this one
    return torch.device("cuda", int(name))

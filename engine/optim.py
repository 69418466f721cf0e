"""Optimiser, schedule and numeric precision of training (docs/method.md, 5)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from utils.logging import logger


def adam(model: nn.Module, lr: float, weight_decay: float) -> Adam:
    """Adam with coupled L2 on all trainable parameters, one kernel for all of them."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return Adam(trained, lr=lr, weight_decay=weight_decay, fused=True)


def step_schedule(optimizer: Adam, epochs: Sequence[int]) -> LambdaLR:
    """The learning rate falls to a tenth after each of the given epochs (ascending); to be stepped once an epoch."""
    return LambdaLR(optimizer, lambda done: 0.1 ** bisect_right(epochs, done))


def align(optimizer: Adam) -> None:
    """Lay restored moments out as their parameters are: the fused step reads both side by side, without a look at strides."""
    for parameter, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(moment)


def follow(schedule: LambdaLR, lr: float, weight_decay: float) -> None:
    """Give a restored optimiser the configured rate and decay: a resumed run may ask for others than it was saved with."""
    for position, group in enumerate(schedule.optimizer.param_groups):
        schedule.base_lrs[position] = group["initial_lr"] = lr
        group["lr"] = lr * schedule.lr_lambdas[position](schedule.last_epoch)
        group["weight_decay"] = weight_decay


def precision(enabled: bool, name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of a training step, or None for float32.

    name: auto | fp16 | bf16 | none. auto is bf16 on GPUs that compute in it, fp16 on others, None on a CPU.
    """
    if not enabled or name == "none":
        return None
    if device.type == "cpu":
        if name == "fp16":
            logger.warning("amp_dtype = fp16 is not for a CPU: training in float32")
        return torch.bfloat16 if name == "bf16" else None
    if name == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"fp16": torch.float16, "bf16": torch.bfloat16}[name]


def gradient_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """Scales the loss where gradients are computed in fp16; does nothing elsewhere."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

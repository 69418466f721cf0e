"""Mamba-1 (Gu and Dao, arXiv:2312.00752) in plain torch; on a GPU with mamba_ssm installed its kernel scans instead."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK = 16  # tokens whose states are kept at once in the backward pass, and computed again


class Mamba(nn.Module):
    """A selective state space over tokens: [B, L, D] -> [B, L, D]. Parameter names and starting values are mamba_ssm's.

    states: of each of the expand * D channels; width: tokens that the causal convolution before the scan sees.
    """

    def __init__(self, dim: int, states: int = 64, width: int = 4, expand: int = 2):
        super().__init__()
        inner, rank = expand * dim, math.ceil(dim / 16)
        self.states, self.rank = states, rank
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, width, groups=inner, padding=width - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        start_steps(self.dt_proj)

    def forward(self, tokens: Tensor) -> Tensor:
        x, gate = self.in_proj(tokens).mT.chunk(2, dim=1)  # [B, inner, L] each
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        steps, write, read = self.x_proj(x.mT).split([self.rank, self.states, self.states], dim=2)
        steps = F.linear(steps, self.dt_proj.weight).mT
        with torch.autocast(x.device.type, enabled=False):
            parts = (x, steps, -at_least_float32(self.A_log).exp(), write.mT, read.mT, self.D, gate, self.dt_proj.bias)
            y = _scan(*parts)
        return self.out_proj(y.mT.to(tokens.dtype))


def start_steps(projection: nn.Linear, shortest: float = 1e-3, longest: float = 0.1) -> None:
    """Steps that start between the two lengths, evenly in their logarithm, through a softplus."""
    bound = projection.in_features**-0.5
    nn.init.uniform_(projection.weight, -bound, bound)
    spread = torch.rand_like(projection.bias) * (math.log(longest) - math.log(shortest))
    lengths = (spread + math.log(shortest)).exp().clamp(min=1e-4)
    with torch.no_grad():
        projection.bias.copy_(lengths + (-(-lengths).expm1()).log())  # softplus of this is `lengths`


def _scan(
    x: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, skip: Tensor, gate: Tensor, bias: Tensor
) -> Tensor:
    """The gated output of the state space, [B, I, L].

    x, steps, gate: [B, I, L]; decay: [I, N]; write, read: [B, N, L].
    """
    if (kernel := _kernel(x.device)) is not None:
        write, read, gate = (part.to(x.dtype).contiguous() for part in (write, read, gate))
        return kernel(
            x.contiguous(), steps.contiguous(), decay, write, read, skip.float(), z=gate, delta_bias=bias.float(),
            delta_softplus=True,
        )  # fmt: skip
    x, steps, write, read, gate = map(at_least_float32, (x, steps, write, read, gate))
    steps = F.softplus(steps + bias[:, None])
    y = selective_scan(x, steps, decay.to(x.dtype), write, read)
    return (y + skip[:, None] * x) * F.silu(gate)


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32; float64 stays."""
    return values.float() if values.element_size() < 4 else values


def _kernel(device: torch.device):
    """mamba_ssm's selective scan, or None where it is not installed or the device is none of its."""
    if device.type != "cuda":
        return None
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


def selective_scan(x: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """y_t = h_t read_t with h_t = exp(steps_t decay) h_(t-1) + steps_t x_t write_t, h_0 = 0: -> [B, I, L].

    x, steps: [B, I, L]; decay: [I, N]; write, read: [B, N, L]. Where gradients are needed only the states between
    chunks of 16 tokens are kept, so that the memory is that of L / 16 + 16 states and not of several times L.
    """
    state = x.new_zeros(*x.shape[:2], decay.shape[1])
    outputs = []
    for start in range(0, x.shape[2], CHUNK):
        parts = [part[..., start : start + CHUNK] for part in (x, steps, write, read)]
        if torch.is_grad_enabled():
            y, state = checkpoint(_chunk, state, decay, *parts, use_reentrant=False)
        else:
            y, state = _chunk(state, decay, *parts)
        outputs.append(y)
    return torch.cat(outputs, dim=2)


def _chunk(
    state: Tensor, decay: Tensor, x: Tensor, steps: Tensor, write: Tensor, read: Tensor
) -> tuple[Tensor, Tensor]:
    """(outputs [B, I, l], the state after them [B, I, N]) of l tokens, one after another."""
    outputs = []
    inputs = x * steps
    for t in range(x.shape[2]):
        kept = (steps[:, :, t, None] * decay).exp()
        state = torch.addcmul(kept * state, inputs[:, :, t, None], write[:, None, :, t])
        outputs.append(state @ read[:, :, t, None])
    return torch.cat(outputs, dim=2), state

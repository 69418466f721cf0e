"""Differentiable ranks (Blondel et al., Fast Differentiable Sorting and Ranking, ICML 2020).

r = s - v, with s = values / strength in descending order, and v the non-increasing least-squares fit of s - (n, ...,
1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from utils.device import with_float64

ROWS_AT_ONCE = 2**24  # entries of the [rows, n, n] table of means that `isotonic_blocks` holds


def soft_rank(values: Tensor, strength: float, spread: float | None = None) -> Tensor:
    """Soft ascending ranks of each row, [B, n] float -> [B, n], from 1 for the smallest value (l2 regularisation).

    strength: > 0; as it goes to 0 the ranks become the hard ones. spread: an upper bound of max - min within every row,
    where the caller knows one. With n * strength >= 2 * spread the isotonic fit is one block and the result is the
    affine (n + 1) / 2 + (values - mean) / strength, taken without looking at the values; else the general form is used,
    which equals torchsort.soft_rank in value and gradient.
    """
    n = values.shape[1]
    if spread is not None and n * strength >= 2 * spread:
        return (n + 1) / 2 + (values - values.mean(dim=1, keepdim=True)) / strength
    ordered, order = torch.sort(values / strength, dim=1, descending=True, stable=True)
    target = ordered - torch.arange(n, 0, -1, dtype=values.dtype, device=values.device)
    return torch.zeros_like(values).scatter(1, order, ordered - isotonic_fit(target))


def isotonic_fit(target: Tensor) -> Tensor:
    """The non-increasing least-squares fit of each row, [B, n] -> [B, n].

    It is the mean of `target` over each block of the fit: written so, autograd gives the exact gradient.
    """
    block = isotonic_blocks(target.detach())
    totals = torch.zeros_like(target).scatter_add(1, block, target)
    sizes = torch.zeros_like(target).scatter_add(1, block, torch.ones_like(target))
    return (totals / sizes.clamp(min=1)).gather(1, block)


def isotonic_blocks(target: Tensor) -> Tensor:
    """Which block of the isotonic fit each entry belongs to, [B, n] -> [B, n] int64, 0, 0, 1, ... from the left.

    The fit is v_i = min over j <= i of max over k >= i of mean(target_j..k) (the min-max formula of isotonic
    regression); a block is a run of equal v. Neighbouring blocks of equal mean are one, as in pool-adjacent-violators.
    """
    n = target.shape[1]
    parts = target.to(with_float64(target.device)).double().split(max(1, ROWS_AT_ONCE // (n * n)))
    fit = torch.cat([_min_max(part) for part in parts])
    # float64 rounding must not split a block: one fitted value may come from differently summed means
    falls = fit[:, :-1] - fit[:, 1:] > 1e-9 * (1 + fit[:, 1:].abs())
    return torch.nn.functional.pad(falls.long(), (1, 0)).cumsum(dim=1).to(target.device)


def _min_max(target: Tensor) -> Tensor:
    n = target.shape[1]
    sums = torch.nn.functional.pad(target.cumsum(dim=1), (1, 0))
    position = torch.arange(n, device=target.device)
    lengths = (position[None, :] - position[:, None] + 1).clamp(min=1)
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / lengths  # [B, j, k]
    means = means.masked_fill(position[None, :] < position[:, None], -torch.inf)
    best_end = means.flip(2).cummax(dim=2).values.flip(2)  # [B, j, i]: max over k >= i
    return best_end.masked_fill(position[None, :] < position[:, None], torch.inf).amin(dim=1)

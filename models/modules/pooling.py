"""Pooling of feature maps."""

from __future__ import annotations

from torch import Tensor


def gem_pool(fmap: Tensor, p: float = 3.0) -> Tensor:
    """Generalised-mean pooling, (mean(x^p) + 1e-12)^(1/p): [B, C, H, W] -> [B, C] (Radenovic et al., arXiv:1711.02512).

    p = 1 is the average, p -> infinity the maximum. Half-precision maps are pooled in float32. Values below 0 count as
    0: a map after a ReLU holds none, but behind adapters in stage 4 there are some, of which the root would be NaN.
    """
    if fmap.element_size() < 4:
        fmap = fmap.float()
    # Added to the mean, not used as a floor of the values: an all-zero channel gives 1e-4 at p = 3, with gradient 0.
    return (fmap.clamp(min=0).pow(p).mean(dim=(2, 3)) + 1e-12).pow(1.0 / p)

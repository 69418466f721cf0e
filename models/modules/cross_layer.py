"""DJANet's fusion of an earlier map into a later one: attention between channels, then a Mamba layer over positions."""

from __future__ import annotations

from torch import Tensor, nn

from models.modules.mamba import Mamba

OTHER_SHARE = 0.1  # of the earlier map, added to the later one before they attend
# How an earlier map of that many times the side length is brought to the later one's size.
SHRINK = {4: {"kernel_size": 6, "stride": 4, "padding": 2}, 2: {"kernel_size": 4, "stride": 2, "padding": 1}}


class FeedForward(nn.Module):
    """Two linear maps around a GELU, [..., D] -> [..., D]."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        for layer in (self.fc1, self.fc2):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class MambaLayer(nn.Module):
    """FFN(LN(r)), r = u + Mamba(LN(u)), of positions as tokens: [B, C, P] -> [B, C, P].

    As released, no shortcut leads around the FFN.
    """

    def __init__(self, channels: int, states: int = 64):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mamba, self.mlp = Mamba(channels, states), FeedForward(channels)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = maps.mT
        tokens = tokens + self.mamba(self.norm1(tokens))
        return self.mlp(self.norm2(tokens)).mT


class CrossLayerFusion(nn.Module):
    """Later map [B, C, h, w], earlier map [B, E, h s, w s] -> [B, C, h, w], without a shortcut around it, as released.

    Channels, brought to `inner`, are tokens whose width is the number of positions, so one size of image is fixed:
    `positions` = h w. scale: s, 4 or 2; 1 is a second look at the later map's own stage, which is brought to `inner`
    channels by the same convolution and keeps a shortcut around its Mamba layer.
    """

    def __init__(self, channels: int, earlier: int, scale: int, positions: int, inner: int = 256):
        super().__init__()
        self.scale = scale
        self.narrow = nn.Conv2d(channels, inner, kernel_size=1)
        if scale != 1:
            self.other = nn.Conv2d(earlier, inner, **SHRINK[scale])
        self.norm, self.other_norm = nn.LayerNorm(positions), nn.LayerNorm(positions)
        self.attention = nn.MultiheadAttention(positions, head_count(positions), batch_first=True)
        self.mamba = MambaLayer(inner)
        self.broad = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, later: Tensor, earlier: Tensor) -> Tensor:
        other = self.narrow(earlier) if self.scale == 1 else self.other(earlier)
        narrow, other = self.norm(self.narrow(later).flatten(2)), self.other_norm(other.flatten(2))
        x = narrow + OTHER_SHARE * other
        x = x + self.attention(x, other, other, need_weights=False)[0]
        x = x + self.mamba(x) if self.scale == 1 else self.mamba(x)
        return self.broad(x.unflatten(2, later.shape[2:]))


def head_count(positions: int) -> int:
    """A ninth of the positions (32 of 288), or the next smaller number that divides them."""
    return next(heads for heads in range(max(positions // 9, 1), 0, -1) if positions % heads == 0)

"""MCLNet (Hao et al., ICCV 2021): AGW's network and a discriminator of modalities that it is trained to confuse.

f and e as in AGW; a discriminator D(f) tells the modalities apart, while the network minimises the cross entropy of
D(f) to (1/2, 1/2): L = mean over rows of -(log p_visible + log p_infrared) / 2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models import ResNet

from models.agw import AGW
from models.modules.neck import trained, without
from models.released import TWO_STREAM, Rules, released_names
from utils.types import Group, Output

RULES: Rules = (
    (r"discriminator\.hidden\.", "map1."),
    (r"discriminator\.output\.", "map3."),
    (r"discriminator\.bn\.", "bn."),
    *TWO_STREAM,
)


class Discriminator(nn.Module):
    """Pooled vectors -> logits of visible and infrared, [R, D] -> [R, 2]: an affine map, a batch norm, as released."""

    def __init__(self, width: int, inner: int = 128):
        super().__init__()
        self.hidden, self.output, self.bn = nn.Linear(width, inner), nn.Linear(inner, 2), nn.BatchNorm1d(2)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.bn(self.output(self.hidden(pooled)))


class MCLNet(AGW):
    """In training `extra` holds "modality_logits", [R, 2]. Arguments as AGW's.

    Released checkpoints lack the discriminator.
    """

    TRAINING_ONLY = ("discriminator.",)

    def __init__(self, backbone: ResNet, num_ids: int, **options: Any):
        super().__init__(backbone, num_ids, **options)
        self.discriminator = Discriminator(self.classifier.in_features)

    def answer(self, maps: Tensor, order: Tensor | None = None) -> Output:
        output = super().answer(maps, order)
        if not self.training:
            return output
        return output._replace(extra={"modality_logits": self.discriminator(output.pooled)})

    def groups(self) -> dict[str, Group]:
        """AGW's groups, and the discriminator's parameters: their own optimiser and a constant rate, as released."""
        groups, own = super().groups(), trained(self.discriminator)
        rest = groups["backbone"]
        groups["backbone"] = rest._replace(parameters=without(rest.parameters, own))
        return groups | {"discriminator": Group(own, scheduled=False, optimizer="discriminator")}

    def released_names(self) -> dict[str, str]:
        """{released name: name here}, the released discriminator's among them."""
        return released_names(self.state_dict(), RULES)

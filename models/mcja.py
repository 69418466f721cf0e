"""The MCJA network (IEEE TCSVT 2024, doi 10.1109/TCSVT.2024.3377252; docs/method.md, 3).

ResNet with adapters -> f = GeM(map) -> e = BN(f) -> logits = W e. e is trained by all losses, and ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models import ResNet

from models.backbones.resnet import stage_width
from models.backbones.stages import through
from models.modules.mda import ModalityDistributionAdapter
from models.modules.pooling import gem_pool
from utils.errors import UserError
from utils.types import Group, Output


class MCJA(nn.Module):
    """A ResNet shared by both modalities -> GeM -> BN neck -> classifier: [B, 3, H, W] float -> Output.

    mda_layers: adapters after the last n blocks of each of the four stages. Parameter names are those of published
    checkpoints (`backbone.*`, `MDA_2.0.*` for stage 2, `bn_neck.*`, `classifier.weight`). recompute: in training, keep
    each block's input only and compute the block again in the backward pass; slower, in a fraction of the memory.
    """

    HEAD = ("classifier.weight",)  # what another number of identities changes

    def __init__(
        self, backbone: ResNet, num_ids: int, mda_layers: Sequence[int], mda_masks: int, recompute: bool = False
    ):
        super().__init__()
        self.recompute = recompute
        self.backbone = backbone
        for stage, (blocks, count) in enumerate(zip(self.stages(), mda_layers), start=1):
            if count > len(blocks):
                raise UserError(f"mda_layers = {tuple(mda_layers)}: stage {stage} has only {len(blocks)} blocks")
            if count:
                width = stage_width(blocks)
                adapters = (ModalityDistributionAdapter(width, mda_masks) for _ in range(count))
                self.add_module(f"MDA_{stage}", nn.ModuleList(adapters))
        width = stage_width(backbone.layer4)
        self.bn_neck = nn.BatchNorm1d(width)
        self.bn_neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, num_ids, bias=False)

    def stages(self) -> tuple[nn.Sequential, ...]:
        """The four residual stages."""
        return self.backbone.layer1, self.backbone.layer2, self.backbone.layer3, self.backbone.layer4

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, [B, 3, H, W] -> [B, D, h, w]."""
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for stage, blocks in enumerate(self.stages(), start=1):
            x = through(blocks, x, self.recompute and self.training, getattr(self, f"MDA_{stage}", ()))
        return x

    def forward(self, images: Tensor, streams: Tensor | None = None) -> Output:
        """Embeddings are taken after the neck: the losses, the classifier and the test all use them.

        streams: not used, both modalities take the one entrance.
        """
        pooled = gem_pool(self.features(images))
        embeddings = self.bn_neck(pooled)
        return Output(embeddings, self.classifier(embeddings), pooled)

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        """The vectors that are ranked, [R, 3, H, W] float, [R] int64 -> [R, D]."""
        return self.forward(images, modalities).embeddings

    def groups(self) -> dict[str, Group]:
        """All trained parameters, at one rate."""
        return {"all": Group([parameter for parameter in self.parameters() if parameter.requires_grad])}

    def released_names(self) -> dict[str, str]:
        """{name in the released checkpoints: name here}: the same."""
        return {name: name for name in self.state_dict()}

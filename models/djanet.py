"""DJANet: AGW's network with two stems for each modality and earlier maps fused into the third stage's.

Four stems -> shared stages, map 3 = fusion of maps 1 to 3 -> f = GeM(map 4) -> e = BN(f) -> logits = W e.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models import ResNet

from models.agw import AGW
from models.backbones.resnet import stage_width
from models.modules.cross_layer import CrossLayerFusion
from models.modules.vectors import joined
from models.released import Rules, released_names

SCALES = (4, 4, 2, 1)  # side lengths of the maps after the stems and stages 1 to 3, in those of stage 3's
RULES: Rules = (
    (r"backbone\.stems\.0\.", "visible_module.visible."),
    (r"backbone\.stems\.1\.", "visible_moduleA.visible."),
    (r"backbone\.stems\.2\.", "thermal_module.thermal."),
    (r"backbone\.stems\.3\.", "thermal_moduleA.thermal."),
    (r"backbone\.layer", "base_resnet.base.layer"),
    (r"bn_neck\.", "bottleneck."),
    (r"(NL_\d\.\d)\.g\.", r"\1.g.0."),
    (r"fusion\.(\d)\.narrow\.", r"layerATT\1.ATT_narrow."),
    (r"fusion\.([01])\.other\.", r"layerATT\1.ATT_narrow1."),
    (r"fusion\.2\.other\.", "layerATT2.ATT_narrow2."),
    (r"fusion\.(\d)\.norm\.", r"layerATT\1.ln_1."),
    (r"fusion\.(\d)\.other_norm\.", r"layerATT\1.ln_1o."),
    (r"fusion\.(\d)\.attention\.", r"layerATT\1.attn."),
    (r"fusion\.3\.mamba\.", "layerATT3.mambablock_2."),
    (r"fusion\.(\d)\.mamba\.", r"layerATT\1.mambablock."),
    (r"fusion\.(\d)\.broad\.", r"layerATT\1.mamba_broad."),
)


class DJANet(AGW):
    """Streams 0 to 3: visible, its second view, infrared, its second view. A test averages both stems of a modality.

    image_size: (height, width), multiples of 16; the fusion is built for one size. vector: "neck" or "pool", as AGW's,
    or both in one for inner products, "s7" (their sum of similarities) or "s8" (0.1 pool + 0.9 neck), as released for
    LLCM.
    """

    def __init__(
        self, backbone: ResNet, num_ids: int, image_size: tuple[int, int], inner: str = "half", **options: Any
    ):
        super().__init__(backbone, num_ids, inner=inner, streams=4, **options)
        positions = (image_size[0] // 16) * (image_size[1] // 16)
        stages = [getattr(backbone, f"layer{stage}") for stage in (1, 2, 3)]
        widths = [backbone.conv1.out_channels, *map(stage_width, stages)]
        fusion = (CrossLayerFusion(widths[-1], width, scale, positions) for width, scale in zip(widths, SCALES))
        self.fusion = nn.ModuleList(fusion)

    def fused(self, maps: Tensor) -> Tensor:
        """Maps of the stems -> what the last stage gets, [R, C, h, w]."""
        earlier = [maps]
        for number in (1, 2, 3):
            earlier.append(self.stage(number, earlier[-1]))
        later = earlier[-1]
        for block, other in zip(self.fusion, earlier):
            later = block(later, other)
        return later

    def trunk(self, maps: Tensor) -> Tensor:
        return self.stage(4, self.fused(maps))

    def ranked(self, images: Tensor, modalities: Tensor) -> Tensor:
        first, order = self.backbone.enter(images, 2 * modalities.long())
        second, _ = self.backbone.enter(images, 2 * modalities.long() + 1)
        output = self.answer((first + second) / 2, order)
        if self.vector in ("neck", "pool"):
            return output.embeddings if self.vector == "neck" else output.pooled
        return joined(self.vector, output.pooled, output.embeddings)

    def released_names(self) -> dict[str, str]:
        """{name in the released checkpoints: name here}."""
        return released_names(self.state_dict(), RULES)

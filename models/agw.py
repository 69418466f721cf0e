"""AGW (Ye et al., TPAMI 2021, arXiv:2001.04193): the two-stream network from which most siblings start, and CAJ's.

A stem for each modality -> shared stages with non-local blocks -> f = GeM(map) -> e = BN(f) -> logits = W e.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import ResNet

from models.backbones.resnet import stage_width
from models.backbones.stages import through
from models.backbones.streams import Streams, restored
from models.modules.neck import bn_neck, classifier, head_groups
from models.modules.nonlocal_block import NonLocalBlock
from models.modules.pooling import gem_pool
from models.modules.vectors import flipped, unit
from models.released import TWO_STREAM, released_names
from utils.types import Group, Output

NON_LOCAL = {2: 2, 3: 3}  # stage -> how many of its last blocks a non-local block follows


class AGW(nn.Module):
    """One stem a stream -> shared stages -> GeM -> BN neck -> classifier: images [R, 3, H, W], streams [R] -> Output.

    inner: width of the non-local blocks, "one" as released (a ratio divided by itself), "half" of the channels as was
    meant, or "none" of them. power: of the pooling, 1 is the average. vector: what is ranked, the embedding after the
    neck ("neck") or before it ("pool"). flip: rank the mean of both mirrored views' unit vectors. recompute: keep each
    block's input only.
    """

    HEAD = ("classifier.weight",)

    def __init__(
        self,
        backbone: ResNet,
        num_ids: int,
        inner: str = "one",
        power: float = 3.0,
        vector: str = "neck",
        flip: bool = False,
        recompute: bool = False,
        streams: int = 2,
    ):
        super().__init__()
        self.power, self.vector, self.flip, self.recompute = power, vector, flip, recompute
        self.backbone = Streams(backbone, streams)
        for stage, count in NON_LOCAL.items() if inner != "none" else ():
            blocks = getattr(backbone, f"layer{stage}")
            width = stage_width(blocks)
            added = (NonLocalBlock(width, {"one": 1, "half": width // 2}[inner]) for _ in blocks[-count:])
            self.add_module(f"NL_{stage}", nn.ModuleList(added))
        width = stage_width(backbone.layer4)
        self.bn_neck = bn_neck(width)
        self.classifier = classifier(width, num_ids)

    def stage(self, number: int, x: Tensor) -> Tensor:
        """One shared stage and its non-local blocks: [R, C, H, W] -> [R, C', H', W']."""
        blocks, adapters = getattr(self.backbone, f"layer{number}"), getattr(self, f"NL_{number}", ())
        return through(blocks, x, self.recompute and self.training, adapters)

    def trunk(self, maps: Tensor) -> Tensor:
        """Maps of the stems -> the last feature map, [R, D, h, w]."""
        for number in range(1, 5):
            maps = self.stage(number, maps)
        return maps

    def answer(self, maps: Tensor, order: Tensor | None = None) -> Output:
        """What follows the stems: maps [R, 64, h, w] -> R answers; `order` [R] as Streams.enter gives it."""
        pooled = restored(gem_pool(self.trunk(maps), self.power), order)
        embeddings = self.bn_neck(pooled)
        return Output(embeddings, self.classifier(embeddings), pooled)

    def forward(self, images: Tensor, streams: Tensor | None = None) -> Output:
        """One answer for each image, in the order given; streams: 0 visible, 1 infrared, None: all visible."""
        return self.answer(*self.backbone.enter(images, streams))

    def ranked(self, images: Tensor, modalities: Tensor) -> Tensor:
        """The vectors of one view, [R, D]."""
        output = self(images, modalities)
        return output.embeddings if self.vector == "neck" else output.pooled

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        """The vectors that are ranked, [R, D]; unit vectors with `flip`, else as they come."""
        vectors = self.ranked(images, modalities)
        if not self.flip:
            return vectors
        return unit(unit(vectors) + unit(self.ranked(flipped(images), modalities)))

    def groups(self) -> dict[str, Group]:
        """Parameters for the optimiser: all but neck and classifier learn at a tenth of the rate."""
        return head_groups(self)

    def released_names(self) -> dict[str, str]:
        """{name in the released checkpoints: name here}."""
        return released_names(self.state_dict(), TWO_STREAM)

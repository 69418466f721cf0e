"""IV-REID (linyq17, 2021): one network for both modalities, and a visible and an infrared head that teach each other.

ResNet -> f = pooled map -> e = BN(f) -> logits = W e; two more heads give the logits that losses/mutual.py compares.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from models.backbones.resnet import stage_width
from models.backbones.stages import through
from models.modules.neck import trained, without
from models.modules.pooling import gem_pool
from models.released import Rules, released_names
from utils.types import Group, Output

RULES: Rules = (
    (r"backbone\.", "base."),
    (r"bn_neck\.", "bottleneck."),
    (r"classifier\.", "share_classifier."),
    (r"visible_head\.", "rgb_"),
    (r"infrared_head\.", "ir_"),
)


class Head(nn.Module):
    """Embeddings -> logits, [R, D] -> [R, num_ids]: batch norm, two linear maps, nothing between these, as released."""

    def __init__(self, width: int, num_ids: int, inner: int = 512):
        super().__init__()
        self.bn = nn.BatchNorm1d(width)
        self.fc1, self.fc2 = linear(width, inner), linear(inner, num_ids)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.bn(embeddings)))


class IVReID(nn.Module):
    """Images [R, 3, H, W] -> Output; in training `extra` holds both heads' logits of every image, [R, num_ids].

    Quirks of the released network, each with its switch: no ReLU after the first batch norm (stem_relu), and a bias in
    every convolution, drawn at random because the ImageNet weights have none (conv_bias). recompute: keep each block's
    input only.
    """

    HEAD = ("classifier.weight", "classifier.bias", "visible_head.fc2.weight", "visible_head.fc2.bias",
            "infrared_head.fc2.weight", "infrared_head.fc2.bias")  # fmt: skip
    TRAINING_ONLY = ("visible_head.", "infrared_head.")

    def __init__(
        self,
        backbone: ResNet,
        num_ids: int,
        stem_relu: bool = False,
        conv_bias: bool = True,
        recompute: bool = False,
    ):
        super().__init__()
        self.stem_relu, self.recompute = stem_relu, recompute
        if conv_bias:
            add_biases(backbone)
        self.backbone = backbone
        backbone.fc = nn.Identity()
        width = stage_width(backbone.layer4)
        self.bn_neck = nn.BatchNorm1d(width)
        self.classifier = linear(width, num_ids)
        self.visible_head, self.infrared_head = Head(width, num_ids), Head(width, num_ids)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, [R, 3, H, W] -> [R, D, h, w]."""
        net = self.backbone
        x = net.bn1(net.conv1(images))
        x = net.maxpool(net.relu(x) if self.stem_relu else x)
        for blocks in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = through(blocks, x, self.recompute and self.training)
        return x

    def forward(self, images: Tensor, streams: Tensor | None = None) -> Output:
        """All images take the same way, whatever their stream."""
        pooled = gem_pool(self.features(images), p=1.0)
        embeddings = self.bn_neck(pooled)
        logits = self.classifier(embeddings)
        if not self.training:
            return Output(embeddings, logits, pooled)
        heads = {"visible_logits": self.visible_head(embeddings), "infrared_logits": self.infrared_head(embeddings)}
        return Output(embeddings, logits, pooled, extra=heads)

    def embed(self, images: Tensor, modalities: Tensor) -> Tensor:
        """The vectors that are ranked: embeddings after the neck, [R, D]."""
        return self(images, modalities).embeddings

    def groups(self) -> dict[str, Group]:
        """Parameters for the optimiser: the heads learn at ten times the rate of the rest."""
        heads = [*self.visible_head.parameters(), *self.infrared_head.parameters()]
        return {"backbone": Group(without(trained(self), heads)), "heads": Group(heads, rate=10.0)}

    def released_names(self) -> dict[str, str]:
        """{released name: name here}; released checkpoints lack the heads."""
        return released_names(self.state_dict(), RULES)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Kaiming-normal weights by the outputs, bias 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.zeros_(layer.bias)
    return layer


def add_biases(network: nn.Module) -> None:
    """Give every convolution a bias from PyTorch's default, U(-1, 1) / sqrt(inputs)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            module.bias = nn.Parameter(torch.empty(module.out_channels).uniform_(-bound, bound))

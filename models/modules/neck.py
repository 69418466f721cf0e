"""The head of the two-stream family: batch norm neck and classifier, started as released."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from utils.types import Group


def bn_neck(width: int) -> nn.BatchNorm1d:
    """Batch norm of pooled vectors whose shift stays 0; scales from N(1, 0.01^2)."""
    neck = nn.BatchNorm1d(width)
    nn.init.normal_(neck.weight, 1.0, 0.01)
    neck.bias.requires_grad_(False)
    return neck


def classifier(width: int, num_ids: int) -> nn.Linear:
    """Linear without bias; weights from N(0, 0.001^2)."""
    linear = nn.Linear(width, num_ids, bias=False)
    nn.init.normal_(linear.weight, 0.0, 0.001)
    return linear


def head_groups(model: nn.Module) -> dict[str, Group]:
    """Trained parameters: neck and classifier at the full learning rate, all others ("backbone") at a tenth."""
    parts = {"neck": trained(model.bn_neck), "classifier": trained(model.classifier)}
    rest = without(trained(model), [parameter for part in parts.values() for parameter in part])
    return {"backbone": Group(rest, rate=0.1)} | {name: Group(part) for name, part in parts.items()}


def trained(module: nn.Module) -> list[nn.Parameter]:
    """The module's parameters that are not frozen."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def without(parameters: Iterable[nn.Parameter], left_out: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those parameters that are not among the others."""
    known = {id(parameter) for parameter in left_out}
    return [parameter for parameter in parameters if id(parameter) not in known]

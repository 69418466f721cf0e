"""The head of the two-stream family: batch norm neck and classifier, started as released."""

from __future__ import annotations

from torch import nn


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


Groups = dict[str, tuple[list[nn.Parameter], float]]


def head_groups(model: nn.Module, rest: float = 0.1) -> Groups:
    """Trained parameters by name of group, each with the factor of its learning rate: `rest` for all but neck and classifier."""
    parts = {"neck": list(model.bn_neck.parameters()), "classifier": list(model.classifier.parameters())}
    head = {id(parameter) for parameters in parts.values() for parameter in parameters}
    groups = {"backbone": ([p for p in model.parameters() if id(p) not in head], rest)}
    groups |= {name: (parameters, 1.0) for name, parameters in parts.items()}
    return {name: ([p for p in parameters if p.requires_grad], factor) for name, (parameters, factor) in groups.items()}

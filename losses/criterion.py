"""The objective: a weighted sum of named terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from utils.types import Labels, Output

Term = Callable[[Output, Labels], Tensor]  # labels: of the output's rows


class Criterion(nn.Module):
    """Weighted sum of named terms: (output, labels of its rows) -> (total, {name: term}), scalars in float32 or better.

    terms: functions, or modules where a term holds tensors (the centres of identities, for instance): those are moved,
    saved and restored with the criterion. weights: 1 where none is given; the named parts are reported unweighted.
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, float] | None = None):
        super().__init__()
        modules = {name: term if isinstance(term, nn.Module) else Function(term) for name, term in terms.items()}
        self.terms = nn.ModuleDict(modules)
        self.weights = {name: 1.0 for name in terms} | dict(weights or {})

    def forward(self, output: Output, labels: Labels) -> tuple[Tensor, dict[str, Tensor]]:
        # Under mixed precision the losses are computed in full precision too.
        with torch.autocast(output.embeddings.device.type, enabled=False):
            parts = {name: term(output, labels) for name, term in self.terms.items()}
        weighted = (part if self.weights[name] == 1 else self.weights[name] * part for name, part in parts.items())
        return sum(weighted), parts


class Function(nn.Module):
    """A function as a module that holds nothing."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)

"""Names of parameters in released checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Rules = Sequence[tuple[str, str]]  # (regular expression at the start of our name, what the released name has instead)

TWO_STREAM: Rules = (
    (r"backbone\.stems\.0\.", "visible_module.visible."),
    (r"backbone\.stems\.1\.", "thermal_module.thermal."),
    (r"backbone\.layer", "base_resnet.base.layer"),
    (r"bn_neck\.", "bottleneck."),
    (r"(NL_\d\.\d)\.g\.", r"\1.g.0."),
)


def released_names(ours: Iterable[str], rules: Rules) -> dict[str, str]:
    """{released name: our name}; the first rule that fits a name rewrites it, a name that none fits is the same."""
    return {_released(name, rules): name for name in ours}


def _released(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return name

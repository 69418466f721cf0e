"""A model as a safetensors file: weights that any framework reads, and in the header what this project knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.states import ORIGIN, PROGRESS
from utils.errors import UserError, reason
from utils.extras import require
from utils.files import require_regular, write_bytes
from utils.schema import TEXT, Shape, misfit
from utils.tensors import WEIGHTS, digest, is_weights

SUFFIX = ".safetensors"
KEY = "mcja"  # the header's entry that this project writes
SAID: Shape = {"origin": ORIGIN, "progress": PROGRESS, "sha256": TEXT}


def write_portable(path: Path, weights: Mapping[str, Tensor], origin: Mapping, progress: Mapping) -> None:
    """Replace the file at once. UserError where it cannot be written.

    origin and progress: as in a checkpoint; of the results, those of this very model are kept.
    """
    library = require("safetensors.torch", f"a {SUFFIX} file")
    rows = [row for row in progress["rows"] if row["epoch"] == progress["epoch"]]
    known = {**{name: progress[name] for name in PROGRESS}, "rows": rows}
    said = {"origin": dict(origin), "progress": known, "sha256": digest(weights)}
    own = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_bytes(path, library.save(own, {"format": "pt", KEY: json.dumps(said)}))


def read_portable(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """(weights, {"origin", "progress"}, or None where another program wrote the file).

    Never runs code from the file. UserError for one that is missing, damaged or foreign.
    """
    library = require("safetensors", f"{path}: a {SUFFIX} file")
    require_regular(path)
    try:
        with library.safe_open(path, framework="pt") as file:
            header, weights = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        said = json.loads(header[KEY]) if KEY in header else None
    except Exception as error:  # safetensors raises several kinds on a damaged file
        raise UserError(f"{path}: damaged, or not a {SUFFIX} file ({reason(error)})") from None
    if not is_weights(weights):
        raise UserError(f"{path}: holds no named tensors, so it is not a file of weights")
    wrong = misfit(weights, WEIGHTS) or (misfit(said, SAID) if KEY in header else None)
    if wrong:
        raise UserError(f"{path}: not as this project writes it: {wrong}")
    if said and said["sha256"] != digest(weights):
        raise UserError(f"{path}: damaged: its numbers are not those that were written")
    return weights, said

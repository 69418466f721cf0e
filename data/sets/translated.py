"""Training on infrared images that another program translated: the same names below a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from data.sets.common import fingerprint
from utils.errors import UserError, brief, shown
from utils.types import Modality, Record

WANTED = (
    "it needs every infrared training image under its name below data_root; complete it, or leave infrared_root empty"
)


def translated(records: Iterable[Record], root: str, infrared_root: str) -> list[Record]:
    """The training records, the infrared ones with their paths below `infrared_root` instead of `root`.

    UserError where one of them has no translation.
    """
    if not os.path.isdir(infrared_root):
        raise UserError(f"infrared_root {shown(infrared_root)}: no such folder; {WANTED}")
    found = [
        record._replace(path=os.path.join(infrared_root, os.path.relpath(record.path, root)))
        if record.modality == Modality.INFRARED
        else record
        for record in records
    ]
    infrared = [record.path for record in found if record.modality == Modality.INFRARED]
    missing = [os.path.relpath(path, infrared_root) for path in infrared if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"infrared_root {shown(infrared_root)}: {len(missing)} of {len(infrared)} images are missing, "
            f"{brief(missing[0])} first; {WANTED}"
        )
    return found


def fingerprints(train: Sequence[Record], test: Sequence[Record], root: str, infrared_root: str) -> str:
    """What `fingerprint` gives for each of the two folders, joined: which images are translations is part of it."""
    own = [*(record for record in train if record.modality != Modality.INFRARED), *test]
    other = [record for record in train if record.modality == Modality.INFRARED]
    return f"{fingerprint(root, own)}-{fingerprint(infrared_root, other)}"

"""RegDB (Nguyen et al., Sensors 2017), from its published layout. Opens no picture.

`root/{Visible,Thermal}/{identity}/*.bmp`; `root/idx/{train,test}_{visible,thermal}_{1..10}.txt` list ten random
halvings of the identities, lines `relative/path.bmp label`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.listing import differences, require_folder, require_records
from utils.errors import UserError
from utils.types import Benchmark, Modality, MserDefaults, Record, Setting, Split, Trial

DEFAULT_ROOT = "datasets/RegDB"
MSER = MserDefaults(k1=50, k2=10, lam=0.2, queries_only=False)
CAMERAS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
FILES = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
PUBLISHED = {
    f"{part} {what}": number
    for part in ("training", "test")
    for what, number in (("identities", 206), ("visible images", 2060), ("infrared images", 2060))
}


def load(root: str, trial: int = 1, hold_out: bool = False, seed: int = 0) -> Benchmark:
    """Read split `trial` (1..10) of RegDB below `root`.

    hold_out: keep a tenth of the training identities, drawn with `seed`, out of training as the validation split.
    An identity is a picture's folder number; training labels are ranks of the sorted numbers.
    Raises UserError for a missing or unreadable part.
    """
    folder = require_folder(root, "idx", "RegDB")
    listed = {part: read_part(folder, part, trial) for part in ("train", "test")}
    kept, held = divide(sorted({record.pid for record in listed["train"]}), seed if hold_out else None)
    labels = {identity: label for label, identity in enumerate(kept)}
    train = [record._replace(pid=labels[record.pid]) for record in listed["train"] if record.pid in labels]
    warnings = (
        []
        if hold_out
        else differences("RegDB", PUBLISHED, {**counts("training", train), **counts("test", listed["test"])})
    )
    return Benchmark(
        name="regdb",
        trial=trial,
        num_ids=len(kept),
        train=train,
        test=evaluation_split("regdb", listed["test"]),
        validation=evaluation_split("regdb-val", [r for r in listed["train"] if r.pid in held]) if hold_out else None,
        excluded=excluded,
        mser=MSER,
        warnings=[*warnings, *contradictions(folder, trial)],
    )  # fmt: skip


def excluded(query_pids: Tensor, query_cameras: Tensor, gallery_pids: Tensor, gallery_cameras: Tensor) -> Tensor:
    """Gallery pictures that a query skips, [Q], [Q], [G], [G] int64 -> [Q, G] bool: none."""
    return torch.zeros(len(query_pids), len(gallery_pids), dtype=torch.bool, device=query_pids.device)


def read_part(folder: Path, part: str, trial: int) -> list[Record]:
    """Records of the visible and the thermal list of one part ("train" or "test"), sorted by path."""
    records = []
    for modality, camera in CAMERAS.items():
        path = list_path(folder, part, modality, trial)
        names = [name for name, _ in read_list(path)]
        require_records(names, f"{path}: lists no pictures; restore the file")
        records += [Record(str(folder / name), identity_of(name), camera, modality) for name in names]
    return sorted(records)


def list_path(folder: Path, part: str, modality: Modality, trial: int) -> Path:
    return folder / "idx" / f"{part}_{FILES[modality]}_{trial}.txt"


def read_list(path: Path) -> list[tuple[str, int]]:
    """(relative path, label) of every line."""
    try:
        lines = [line.rsplit(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [(name.replace("\\", "/"), int(label)) for name, label in lines]
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: RegDB comes with idx/*_1.txt to *_10.txt; check data_root and trial"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a list of `relative/path.bmp label` lines ({error})") from None


def identity_of(name: str) -> int:
    """The number of the folder that holds the picture: Visible/12/x.bmp -> 12."""
    try:
        return int(Path(name).parent.name)
    except ValueError:
        raise UserError(f"RegDB list: {name!r} is not in a folder named by its identity's number") from None


def divide(identities: Sequence[int], seed: int | None) -> tuple[list[int], set[int]]:
    """(kept, held): a tenth, at least one, held out by `seed`; none where seed is None."""
    if seed is None:
        return list(identities), set()
    drawn = np.random.default_rng(seed).permutation(identities)[: max(1, len(identities) // 10)]
    held = set(drawn.tolist())
    return [identity for identity in identities if identity not in held], held


def evaluation_split(name: str, records: Sequence[Record]) -> Split:
    """Both directions, one trial each: every picture of one modality against every picture of the other."""
    visible = [record for record in records if record.modality == Modality.VISIBLE]
    infrared = [record for record in records if record.modality == Modality.INFRARED]
    settings = protocol_settings(name, len(visible), len(infrared))
    return Split(visible, infrared, settings, quick=tuple(setting.protocol for setting in settings))


def protocol_settings(name: str, num_visible: int, num_infrared: int) -> list[Setting]:
    """Infrared against visible and the reverse, everything in one trial."""
    v2i = Trial(np.arange(num_visible), np.arange(num_infrared))
    return [
        Setting(f"{name}/i2v", Modality.INFRARED, [Trial(v2i.gallery, v2i.query)]),
        Setting(f"{name}/v2i", Modality.VISIBLE, [v2i]),
    ]


def counts(part: str, records: Sequence[Record]) -> dict[str, int]:
    visible = sum(record.modality == Modality.VISIBLE for record in records)
    values = (len({record.pid for record in records}), visible, len(records) - visible)
    return dict(zip((name for name in PUBLISHED if name.startswith(part)), values))


def contradictions(folder: Path, trial: int) -> list[str]:
    """One line per list whose label column is not the rank of the sorted folder numbers."""
    lines = []
    for part in ("train", "test"):
        for modality in CAMERAS:
            path = list_path(folder, part, modality, trial)
            entries = [(name, identity_of(name), label) for name, label in read_list(path)]
            rank = {identity: position for position, identity in enumerate(sorted({e[1] for e in entries}))}
            wrong = [(name, label, rank[identity]) for name, identity, label in entries if label != rank[identity]]
            if wrong:
                name, label, expected = wrong[0]
                lines.append(f"{path}: {len(wrong)} labels contradict the folder numbers, first {name}: {label}, not {expected}; the folder counts")  # fmt: skip
    return lines

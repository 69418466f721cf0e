"""The folder of an export: written beside its place, and there at once when everything in it was compared."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from engine.embed import MODALITIES, Embedder
from tools.exporting.network import OPSET
from utils.errors import UserError, reason
from utils.files import PARTIAL, interrupts_wait, read_json
from utils.images import IMAGENET_MEAN, IMAGENET_STD
from utils.locks import lock

FORMAT = "mcja-export-1"
WHOLE, CORE, PORTABLE = "model.onnx", "model-core.onnx", "model.safetensors"
CARD, SCRIPT, SIDECAR = "card.json", "use.py", f"{CORE}.metadata.json"
HELD = ".held"  # in the folder of a running export, which keeps it locked
BEFORE = ".before"  # ends the name of an old export that makes way for a new one
FILES = {WHOLE, CORE, PORTABLE, CARD, SCRIPT, SIDECAR}


def require_place(out: Path, overwrite: bool) -> None:
    """UserError where an export cannot go: its place is taken by anything but an export that may be replaced.

    What a killed export left there is put right before.
    """
    with suppress(OSError):
        sweep_exports(Path(os.path.realpath(out)))
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it, or give another one")
    if not out.exists() or out.is_dir() and not any(out.iterdir()):
        return
    if not out.is_dir() or not _is_ours(out):
        raise UserError(f"--out {out}: exists, and holds other things than an export; give another folder")
    if not overwrite:
        raise UserError(f"--out {out}: holds an export; --overwrite replaces it")


def _is_ours(folder: Path) -> bool:
    try:
        card = read_json(folder / CARD)
    except UserError:
        return False
    return isinstance(card, dict) and card.get("format") == FORMAT and {p.name for p in folder.iterdir()} <= FILES


@contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` that takes its place at the end, or is removed, whatever goes wrong.

    A link stays; what it leads to is replaced. UserError where it cannot be written; what was at `out` is then as it
    was.
    """
    partial: Path | None = None
    try:
        place = Path(os.path.realpath(out))
        partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."[-200:], suffix=PARTIAL))
        partial.chmod(0o755)
        with (partial / HELD).open("wb") as held:
            lock(held)
            yield partial
        with interrupts_wait():
            (partial / HELD).unlink()
            take_place(partial, place)
    except OSError as error:
        raise UserError(f"--out {out}: could not be written ({error.strerror or reason(error)})") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def sweep_exports(place: Path) -> None:
    """Remove what killed exports to this place left beside it, and put back an export that one of them moved away."""
    beside = escape(f".{place.name}."[-200:]) + "?" * 8  # what tempfile adds: `reid` is not to take what `reid.v2` left
    for before in place.parent.glob(beside + BEFORE):
        if place.exists():
            shutil.rmtree(before, ignore_errors=True)
        else:
            before.rename(place)
    for left in place.parent.glob(beside + PARTIAL):
        with suppress(OSError), (left / HELD).open("r+b") as held:
            if lock(held):
                shutil.rmtree(left, ignore_errors=True)


def take_place(new: Path, place: Path) -> None:
    """Move a folder to its place; what is there goes once the new one has come, and else stays. Raises OSError."""
    if not place.exists():
        new.rename(place)
        return
    before = new.with_suffix(BEFORE)
    place.rename(before)
    try:
        new.rename(place)
    except BaseException:
        before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)


def card(embedder: Embedder, reads_modality: bool, default: str) -> dict[str, Any]:
    """What the files are, for people and for programs that run them: plain values.

    reads_modality: whether vectors depend on it. default: the modality that model-core.onnx assumes where it is left
    out.
    """
    height, width = embedder.size
    vectors = {"vectors": {"type": "float32", "shape": ["batch", embedder.dimension]}}
    pixels = {"type": "uint8", "shape": ["batch", "height", "width", 3], "colour_order": "RGB"}
    normalised = {"type": "float32", "shape": ["batch", 3, height, width], "colour_order": "RGB"}
    modality = {"type": "int64", "values": {name: int(value) for name, value in MODALITIES.items()}}
    one = {**modality, "shape": ["one_or_batch"], "default": default}
    return {
        **embedder.card,
        "format": FORMAT,
        "opset": OPSET,
        "files": {
            WHOLE: {"inputs": {"images": pixels, "modality": {**modality, "shape": ["batch"]}}, "outputs": vectors},
            CORE: {
                "inputs": {"images": normalised, **({"modality": one} if reads_modality else {})},
                "outputs": vectors,
            },
        },
        "reads_modality": reads_modality,
        "preprocessing": {  # of model-core.onnx; model.onnx does it itself
            "input_size": [height, width],
            "interpolation": embedder.interpolation,
            "antialias": True,
            "keep_ratio": False,
            "colour_order": "RGB",
            "scale": 1 / 255,
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "embedding": {"size": embedder.dimension, "unit_length": True, "distance": "cosine"},
    }


def sidecar(embedder: Embedder) -> dict[str, Any]:
    """What BoxMOT keeps beside an exported network, by its own names."""
    size = list(embedder.size)
    return {
        "schema_version": 1,
        "model_name": embedder.card["method"],
        "img_size": size,
        "preprocess": "resize",
        "model_kwargs": {"img_size": size},
        "model_kwargs_schema_version": 1,
    }


def write_texts(folder: Path, embedder: Embedder, reads_modality: bool, default: str) -> None:
    """The card, the trackers' file and the script."""
    for name, content in ((CARD, card(embedder, reads_modality, default)), (SIDECAR, sidecar(embedder))):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)

"""Whether exported files give what the trained model gives, on images of any sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from PIL import Image

from data.images import decode
from engine.embed import Embedder
from tools.exporting import graphs
from utils.extras import require
from utils.images import normalise
from utils.types import Modality

COSINE, DIFFERENCE, LEVELS = 0.9999, 1e-3, 1  # at least, at most, at most
BATCHES = (1, 5)


class Line(NamedTuple):
    """One comparison."""

    what: str
    found: str
    passed: bool | None  # None: it is told, and no condition

    def __str__(self) -> str:
        verdict = {True: "passed", False: "FAILED", None: ""}[self.passed]
        return f"{self.what:38} {self.found:42} {verdict}".rstrip()


def compare(folder: Path, embedder: Embedder, images: Sequence[ndarray]) -> Iterator[Line]:
    """The files of an export against the model. images: [h, w, 3] uint8, RGB, of any sizes, each as both modalities.

    The network is compared on the pixels that model.onnx resizes, and its resizing with Pillow's. The last line tells
    how far both together are from the model's own reading of the images.
    """
    size = embedder.size
    whole, core = (session(folder / name) for name in ("model.onnx", "model-core.onnx"))
    resizing = session(graphs.resizing(size, embedder.interpolation).SerializeToString())

    def resized(pixels: ndarray) -> torch.Tensor:
        return torch.from_numpy(resizing.run(None, {"images": pixels})[0].astype(np.uint8))

    def pillow(image: ndarray) -> ndarray:
        return decode.resized(Image.fromarray(image), size, embedder.interpolation).numpy()

    def by_core(pixels: ndarray, modalities: ndarray) -> ndarray:
        return _run(core, normalise(resized(pixels)).numpy(), modalities)

    for name, run in (("model.onnx", lambda *given: _run(whole, *given)), ("model-core.onnx", by_core)):
        for batch in BATCHES:
            cosine, difference = _vectors(run, lambda p, m: embedder(resized(p), m), list(batches(images, batch)))
            passed = cosine >= COSINE and difference <= DIFFERENCE
            yield Line(f"{name}, batch of {batch}", _words(cosine, difference), passed)
    forms = list(_forms(images, size))
    levels = max(np.abs(resized(form[None])[0].numpy().astype(int) - pillow(form)).max() for form in forms)
    yield Line(f"resizing, {len(forms)} images", f"|d| <= {levels} of 255 grey levels", bool(levels <= LEVELS))
    own = _vectors(
        lambda *given: _run(whole, *given),
        lambda p, m: embedder(torch.from_numpy(np.stack([pillow(image) for image in p])), m),
        list(batches(images, 1)),
    )
    yield Line("from files to vectors, for comparison", _words(*own), None)


def session(model: Path | bytes) -> Any:
    """An onnxruntime session, on the CPU."""
    runtime = require("onnxruntime", "the comparison of an export")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch computes in between
    source = model if isinstance(model, bytes) else str(model)
    return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def batches(images: Sequence[ndarray], count: int) -> Iterator[ndarray]:
    """Batches [count, h, w, 3] of all images, the first of each giving the size; the last is filled from the start."""
    for start in range(0, len(images), count):
        group = [images[row % len(images)] for row in range(start, start + count)]
        height, width = group[0].shape[:2]
        yield np.stack([_scaled(image, (height, width)) for image in group])


def _run(session: Any, images: ndarray, modalities: ndarray) -> ndarray:
    """Vectors [B, D] of a session that may have no use for the modalities."""
    given = {"images": images, "modality": modalities}
    known = {value.name for value in (*session.get_inputs(), *session.get_overridable_initializers())}
    return session.run(None, {name: value for name, value in given.items() if name in known})[0]


def _vectors(
    exported: Callable[[ndarray, ndarray], ndarray],
    model: Callable[[ndarray, Modality], torch.Tensor],
    given: Sequence[ndarray],
) -> tuple[float, float]:
    """(smallest cosine, largest difference) of both ways, over batches [B, h, w, 3] as both modalities; NaN stays."""
    cosine, difference = np.float64(1), np.float64(0)
    for pixels in given:
        for modality in Modality:
            own = model(pixels, modality).numpy().astype(np.float64)
            found = exported(pixels, np.full(len(pixels), int(modality))).astype(np.float64)
            cosine = np.minimum(cosine, (own * found).sum(axis=1).min())
            difference = np.maximum(difference, np.abs(own - found).max())
    return float(cosine), float(difference)


def _words(cosine: float, difference: float) -> str:
    return f"cosine >= {cosine:.7f}, |d| <= {difference:.1e}"


def _forms(images: Sequence[ndarray], size: tuple[int, int]) -> Iterator[ndarray]:
    """Every image as it is, and smaller, larger and distorted."""
    height, width = size
    others = [(2 * height, 2 * width), (height // 2 + 1, 2 * width + 1), (2 * height + 1, width // 3 + 1), (7, 5), size]
    for image in images:
        yield from (image, *(_scaled(image, other) for other in others))


def _scaled(image: ndarray, size: tuple[int, int]) -> ndarray:
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))

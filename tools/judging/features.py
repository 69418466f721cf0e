"""Embeddings that any code extracted: read from a .npz file and checked (docs/features_format.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils.errors import UserError, reason
from utils.files import require_regular
from utils.types import Features, Modality

SIDES = {Modality.VISIBLE: "visible", Modality.INFRARED: "infrared"}
SPECTRA = (1, 4)
# Shorter or longer rows cannot be normalised in float32.
SHORTEST, LONGEST = 1e-12, 1e19


class Form(NamedTuple):
    """What an array must look like."""

    kinds: str  # numpy's letters for kinds of dtypes
    dimensions: int
    words: str


PIDS, CAMERAS = (Form("iu", 1, f"whole {what} [N]") for what in ("identity numbers", "camera numbers"))
NAMES = Form("U", 1, "texts [N] (dtype str)")
ARRAYS = {
    "visible_embeddings": Form("f", 3, "floats [V, N, D], V being 1 (original) or 4 (original, R, G, B)"),
    "visible_pids": PIDS,
    "visible_cameras": CAMERAS,
    "visible_names": NAMES,
    "infrared_embeddings": Form("f", 2, "floats [N, D]"),
    "infrared_pids": PIDS,
    "infrared_cameras": CAMERAS,
    "infrared_names": NAMES,
}


class FeatureFile(NamedTuple):
    """What a file holds, checked."""

    path: Path
    features: Mapping[Modality, Features]
    names: Mapping[Modality, list[str]]  # of the images of the modalities that were asked for


def read_features(path: Path, named: Collection[Modality]) -> FeatureFile:
    """Embeddings of both modalities as float32 on the CPU, and the images' names of those that are `named`.

    Never runs code from the file. Raises UserError naming the file and the array that is missing or wrong.
    """
    texts = {modality: f"{SIDES[modality]}_names" for modality in named}
    arrays = read_arrays(path, [name for name, form in ARRAYS.items() if form is not NAMES or name in texts.values()])
    for name, array in arrays.items():
        require_form(path, name, array)
    require_sizes(path, arrays)
    features = {modality: side_of(path, arrays, side) for modality, side in SIDES.items()}
    if not np.isin(arrays["infrared_pids"], arrays["visible_pids"]).any():
        raise UserError(
            f"{path}: infrared_pids and visible_pids have no identity in common; expected the data set's own numbers"
        )
    return FeatureFile(path, features, {modality: arrays[name].tolist() for modality, name in texts.items()})


def read_arrays(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """The wanted arrays of a .npz file, by name."""
    require_regular(path, hint="give a .npz file")
    try:
        file = np.load(path, allow_pickle=False)
    except ValueError:  # numpy takes any unknown file for a pickle, and its message recommends to load it
        raise UserError(f"{path}: not a .npz file, or one of pickles, which are refused; use numpy.savez") from None
    except Exception as error:  # numpy and zipfile raise many kinds on a damaged file
        raise UserError(f"{path}: damaged or not a .npz file ({reason(error)})") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise UserError(f"{path}: a single array, not a .npz file of named ones; use numpy.savez")
    with file:
        missing = [name for name in wanted if name not in file.files]
        if missing:
            raise UserError(
                f"{path}: {', '.join(missing)} missing; the file holds {', '.join(file.files) or 'nothing'}"
            )
        return {name: read_array(path, file, name) for name in wanted}


def read_array(path: Path, file: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    try:
        return np.asarray(file[name])
    except Exception as error:  # as above
        raise UserError(f"{path}: {name} is damaged or needs pickles, which are refused ({reason(error)})") from None


def require_form(path: Path, name: str, array: np.ndarray) -> None:
    """UserError unless the dtype, the number of dimensions and that of the spectra are as expected."""
    form = ARRAYS[name]
    fits = array.dtype.kind in form.kinds and array.ndim == form.dimensions
    if not fits or array.ndim == 3 and len(array) not in SPECTRA:
        raise UserError(f"{path}: {name} is {array.dtype} {list(array.shape)}; expected {form.words}")


def require_sizes(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """UserError for an empty side, for another length than the embeddings', and for sides of different D."""
    for side in SIDES.values():
        shape = arrays[f"{side}_embeddings"].shape
        if 0 in shape:
            raise UserError(f"{path}: {side}_embeddings is empty, {list(shape)}; expected one image at least")
        for name, array in arrays.items():
            if name.startswith(side) and array.ndim == 1 and len(array) != shape[-2]:
                raise UserError(
                    f"{path}: {name} has {len(array)} entries, {side}_embeddings {shape[-2]} images; expected as many"
                )
    widths = [arrays[f"{side}_embeddings"].shape[-1] for side in SIDES.values()]
    if widths[0] != widths[1]:
        raise UserError(
            f"{path}: visible_embeddings has D = {widths[0]}, infrared_embeddings D = {widths[1]}; expected the same"
        )


def side_of(path: Path, arrays: Mapping[str, np.ndarray], side: str) -> Features:
    """The features of one modality, [V, N, D]; UserError for a row that cannot be normalised."""
    name = f"{side}_embeddings"
    with np.errstate(over="ignore"):
        embeddings = np.ascontiguousarray(arrays[name], dtype=np.float32)
    embeddings = embeddings.reshape(-1, *embeddings.shape[-2:])
    require_directions(path, name, embeddings)
    labels = (torch.from_numpy(arrays[f"{side}_{what}"].astype(np.int64)) for what in ("pids", "cameras"))
    return Features(torch.from_numpy(embeddings), *labels)


def require_directions(path: Path, name: str, embeddings: np.ndarray) -> None:
    """UserError naming the first row of [V, N, D] float32 that is not finite, or whose length is out of bounds."""
    unusual = ~np.isfinite(embeddings).all(axis=2)
    if unusual.any():
        raise UserError(f"{path}: {name}, {_first(unusual)}: NaN or infinity in float32; expected finite numbers")
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.einsum("vnd,vnd->vn", embeddings, embeddings))
    unusual = ~((lengths >= SHORTEST) & (lengths <= LONGEST))
    if unusual.any():
        raise UserError(
            f"{path}: {name}, {_first(unusual)}: no direction, its length is {lengths[unusual][0]:g} in float32; "
            f"expected {SHORTEST:g} to {LONGEST:g}"
        )


def _first(unusual: np.ndarray) -> str:
    spectrum, row = np.argwhere(unusual)[0]
    return f"row {row}" + (f" of spectrum {spectrum}" if len(unusual) > 1 else "")

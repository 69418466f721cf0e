"""From a checkpoint to vectors: the one way that evaluation, search and export share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from configs import load_config
from configs.defaults import VECTOR_KEYS
from data.images.decode import BILINEAR, load_image
from engine.checkpoint import Checkpoint, load_weights_into, open_checkpoint
from engine.gallery.card import card_of
from models import build_model
from models.fusion import folded
from utils.errors import UserError, pick
from utils.images import normalise
from utils.tensors import digest
from utils.types import Modality

MODALITIES = {modality.name.lower(): modality for modality in Modality}


def embed_images(network: nn.Module, images: Tensor, modalities: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The vectors that are ranked: [B, 3, H, W] uint8 on the network's device -> [B, D] float32, not normalised.

    modalities: [B] int64, on the CPU. dtype: of autocast; None for float32. network: in eval mode.
    """
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        return network.embed(normalise(images), modalities).float()


class Embedder:
    """A trained model that turns images into vectors of unit length, whose inner products are cosines.

    size: (height, width) in pixels of its images, to which files are resized by `interpolation`. config: of the run
    that trained it. `hash` names the model, `dimension` is D; `card` says what the model is (engine/gallery/card.py)
    and `file` where it lies, both from open_model.
    """

    def __init__(
        self,
        model: nn.Module,
        size: tuple[int, int],
        device: torch.device,
        config: Mapping[str, Any],
        interpolation: str = BILINEAR,
    ):
        self.hash = model_hash(model, size, config)
        self.network = folded(model.to(device))
        self.size, self.interpolation = tuple(size), interpolation
        self.device = device
        self.config = dict(config)
        self.card: dict[str, Any] = {}
        self.file: Path | None = None
        self.dimension = self(torch.zeros(1, 3, *self.size, dtype=torch.uint8), Modality.VISIBLE).shape[1]

    @torch.inference_mode()
    def __call__(self, images: Tensor | Sequence[str | Path], modality: Modality | str) -> Tensor:
        """Images of one modality -> [B, D] float32 of unit length, on the CPU.

        images: uint8 [B, 3, H, W] (RGB, of this embedder's size), or names of image files, which are resized to it.
        modality: "visible" or "infrared". Raises UserError for another size, type or modality, and for a file that
        cannot be read.
        """
        kind = modality if isinstance(modality, Modality) else pick(MODALITIES, modality, "modality")
        if isinstance(images, (str, Path)):
            raise UserError(f"{images}: give a list of image files, of one where there is one")
        if not isinstance(images, Tensor):
            names = [str(name) for name in images]
            loaded = [load_image(name, self.size, self.interpolation) for name in names]
            images = torch.stack(loaded) if loaded else torch.empty(0, 3, *self.size, dtype=torch.uint8)
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != (3, *self.size):
            raise UserError(
                f"images of type {images.dtype} and shape {tuple(images.shape)}: this model takes uint8 "
                f"[B, 3, {self.size[0]}, {self.size[1]}]"
            )
        if not len(images):  # of which most networks make nothing
            return torch.empty(0, self.dimension)
        modalities = torch.full((len(images),), int(kind))
        vectors = embed_images(self.network, images.to(self.device, non_blocking=True), modalities)
        return F.normalize(vectors, dim=1).cpu()


class Opened(NamedTuple):
    """A trained model as its file holds it: in training mode, on the CPU, nothing of it fused."""

    checkpoint: Checkpoint
    model: nn.Module
    cfg: CfgNode  # of a test of it

    def embedder(self, device: torch.device | str = "cpu") -> Embedder:
        assert self.checkpoint.origin is not None
        size, way, config = self.cfg.image_size, self.cfg.interpolation, self.checkpoint.origin.config
        embedder = Embedder(self.model, size, torch.device(device), config, way)
        embedder.card = card_of(self.checkpoint, embedder)
        embedder.file = self.checkpoint.path.absolute()
        return embedder


def open_model(path: str | Path, device: torch.device | str = "cpu") -> Embedder:
    """The model of a checkpoint file, or the best one of a run folder, built from the checkpoint alone.

    Its weights are the trained ones, not their moving average (ema).

    Raises UserError as of `open_trained`.
    """
    return open_trained(path).embedder(device)


def open_trained(path: str | Path) -> Opened:
    """The same before it is made to embed fast.

    Raises UserError for a file that is missing, damaged or foreign, and for weights alone, which say no configuration.
    """
    checkpoint = open_checkpoint(str(path), best=True)
    if checkpoint.origin is None:
        raise UserError(
            f"{checkpoint.path}: holds weights alone, which do not say what model they are of; give a checkpoint "
            "of a run"
        )
    opts = ["resume", str(checkpoint.path), "test_only", "true"]
    cfg = load_config(None, opts, (str(checkpoint.path), checkpoint.origin.config))
    model = build_model(cfg, checkpoint.origin.num_ids)
    load_weights_into(model, checkpoint, allow_other_head=False)
    return Opened(checkpoint, model, cfg)


def model_hash(model: nn.Module, size: tuple[int, int], config: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of all that a model's vectors depend on: weights, image size and the keys that shape them.

    Whatever file the weights come from, the same model has the same hash.
    """
    shaping = {key: config[key] for key in sorted(VECTOR_KEYS & config.keys())}
    return digest(model.state_dict(), json.dumps([list(size), shaping]).encode())

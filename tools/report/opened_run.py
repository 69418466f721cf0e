"""What the images of a run are made of: its files, its model and its data, opened when first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from configs import load_config
from data.augmentation import build_recipe
from data.augmentation.mcja import Recipe
from data.build import build_benchmark
from data.images.decode import load_image
from engine.build import build_evaluator, rankings
from engine.checkpoint import load_weights_into, open_checkpoint
from engine.evaluator import Evaluator
from engine.resuming import require_same_split
from engine.retrieval.ranked import RankedSetting, rank_setting
from engine.retrieval.rankers import keeps_lengths, need_spectra
from models import build_model
from tools.figures.masks import collect_masks
from tools.report.scalars import read_scalars
from utils.errors import UserError
from utils.images import normalise
from utils.results import read_rows
from utils.runs import CONFIG, RESULTS, TENSORBOARD, read_record
from utils.types import Benchmark, Features, Modality, Record, ResultRow, Setting


class Choice(NamedTuple):
    """What of a run is shown."""

    rankings: Sequence[str] | None = None  # None: those of the run's final test
    protocol: str | None = None  # whose first trial is looked at closely; None: the data set's quick one
    queries: int = 1  # of each kind, in ranked lists
    small: bool = False  # PNG files for web pages


class Material:
    """A run, opened for its images, which share one pass over the test images and one ranking of each setting.

    opts: KEY VALUE pairs that differ now, such as data_root. The model is the one that the run tests. Raises UserError
    where the folder is no run folder, and, once it is asked for, where a part of the run is missing.
    """

    def __init__(self, folder: Path, device: torch.device, choice: Choice, opts: Sequence[str] = ()):
        self.record = read_record(folder)
        shown = [] if choice.rankings is None else ["rankers", ", ".join(choice.rankings)]
        written = load_config(str(folder / CONFIG), opts)
        # A run that only tested has no checkpoint of its own.
        self.source = written.resume if written.test_only else str(folder)
        self.cfg = load_config(str(folder / CONFIG), [*opts, *shown, "resume", self.source, "test_only", "true"])
        self.folder, self.device, self.choice = folder, device, choice
        self.rankings = tuple(rankings(self.cfg))
        self._ranked: dict[tuple[str, str], RankedSetting] = {}

    @cached_property
    def rows(self) -> list[ResultRow]:
        return read_rows(self.folder / RESULTS)

    @cached_property
    def scalars(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        return read_scalars(self.folder / TENSORBOARD)

    @cached_property
    def benchmark(self) -> Benchmark:
        return build_benchmark(self.cfg, self.record["seed"])

    @cached_property
    def recipe(self) -> Recipe:
        return build_recipe(self.cfg)

    @cached_property
    def model(self) -> nn.Module:
        checkpoint = open_checkpoint(self.source, best=True)
        model = build_model(self.cfg, self.benchmark.num_ids)
        require_same_split(checkpoint, self.benchmark, testing=True, allowed=self.cfg.allow_split_mismatch)
        load_weights_into(model, checkpoint, allow_other_head=True, config=self.cfg)
        return model.to(self.device).eval()

    @cached_property
    def evaluator(self) -> Evaluator:
        return build_evaluator(self.cfg, self.benchmark, self.benchmark.test, self.device)

    @cached_property
    def features(self) -> Mapping[Modality, Features]:
        """Of every test image; with spectra where a ranking compares them."""
        model = self.model  # a checkpoint that is missing should be said before the images are decoded
        return self.evaluator.extract(model, with_spectra=need_spectra(self.rankings))

    @property
    def settings(self) -> Sequence[Setting]:
        return self.benchmark.test.settings

    @cached_property
    def shown(self) -> Setting:
        """The setting whose first trial is looked at closely."""
        wanted = self.choice.protocol or self.benchmark.test.quick[0]
        found = {setting.protocol: setting for setting in self.settings}
        if wanted not in found:
            raise UserError(f"--protocol {wanted}: {self.benchmark.name} has {', '.join(found)}")
        return found[wanted]

    def ranked(self, setting: Setting, ranking: str) -> RankedSetting:
        """A setting under a ranking."""
        key = setting.protocol, ranking
        if key not in self._ranked:
            rank, memory_gb = self.evaluator.rankers[ranking], self.evaluator.memory_gb
            excluded = self.benchmark.excluded
            self._ranked[key] = rank_setting(self.features, setting, excluded, rank, memory_gb, keeps_lengths(ranking))
        return self._ranked[key]

    def records(self, modality: Modality) -> Sequence[Record]:
        """The test images of a modality, as rows of its features."""
        return self.benchmark.test.records[modality]

    def image(self, record: Record) -> Tensor:
        """As the model gets it, [3, H, W] uint8."""
        return load_image(record.path, self.cfg.image_size)

    def masks(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        """The masks that the model's adapters lay over these images (tools/figures/masks.py)."""
        images = torch.stack([self.image(record) for record in records]).to(self.device)
        return collect_masks(self.model, normalise(images))

"""From images to rows of results: one pass over the test images, then every setting and ranking."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from ignite.engine import Engine
from ignite.handlers import EpochOutputStore, ProgressBar
from torch import Tensor, nn

from data.augmentation.colour import spectra
from engine.distributed import gather_features
from engine.embed import embed_images
from engine.retrieval.evaluation import chance, evaluate_settings, narrowed
from engine.retrieval.rankers import Rank, keeps_lengths, need_spectra
from models.fusion import folded
from utils.device import with_float64
from utils.errors import UserError
from utils.logging import logger
from utils.processes import on_main
from utils.resources import lacks_memory
from utils.terminal import bar_options
from utils.types import Batch, Exclusion, Features, Modality, Record, ResultRow, Setting, Split, Stage


class Evaluator:
    """Evaluates models on one split. Holds no model and no results; evaluations do not depend on their order.

    loaders: every image of a modality, in the order of the split's records. rankers: by their names in RANKERS.
    memory_gb: for ranking, beside the embeddings. dtype: of autocast while embedding; None for float32.
    """

    def __init__(
        self,
        split: Split,
        loaders: Mapping[Modality, Iterable[Batch]],
        rankers: Mapping[str, Rank],
        excluded: Exclusion,
        trial: int | None,
        device: torch.device,
        memory_gb: float,
        dtype: torch.dtype | None = None,
    ):
        self.split = split
        self.loaders = loaders
        self.rankers = rankers
        self.excluded = excluded
        self.trial = trial
        self.device = device
        self.memory_gb = memory_gb
        self.dtype = dtype

    def __call__(self, model: nn.Module, stage: Stage, rankings: Sequence[str]) -> list[ResultRow]:
        """Rows of every setting under each ranking, in percent; the model is left as it is."""
        clock = time.perf_counter()
        features = self.extract(model, with_spectra=need_spectra(rankings))
        extracted = time.perf_counter()
        rankers = {name: self.rankers[name] for name in rankings}
        # Every process gets the main one's rows: all decide alike which model is the best.
        rows = on_main(
            lambda: result_rows(
                features, self.split.settings, self.excluded, rankers, self.memory_gb, self.trial, stage
            ),
            received=lambda rows: [ResultRow(*row) for row in rows],
        )
        logger.info(
            f"evaluated epoch {'not known' if stage.epoch is None else stage.epoch}: embedding "
            f"{extracted - clock:.1f} s, ranking {time.perf_counter() - extracted:.1f} s"
        )
        return rows

    def extract(self, model: nn.Module, with_spectra: bool) -> dict[Modality, Features]:
        """Embeddings of both modalities; visible images in four spectra if `with_spectra`, infrared images in one.

        Each process embeds the images that its loaders have, and gets the embeddings of all.
        """
        network = folded(model, autocast=self.dtype is not None)
        records = self.split.records
        own = {
            modality: extract_features(
                network, loader, self.device, with_spectra and modality == Modality.VISIBLE, self.dtype
            )
            for modality, loader in self.loaders.items()
        }
        features = {modality: gather_features(part, len(records[modality])) for modality, part in own.items()}
        for modality, part in features.items():
            require_finite(part.embeddings, records[modality])
        return features

    def narrowed(self, protocols: Sequence[str]) -> Evaluator:
        """An evaluator of these protocols that embeds only the images they use."""
        split, rows = narrowed(self.split, protocols)
        evaluator = copy.copy(self)
        evaluator.split = split
        evaluator.loaders = {
            modality: loader.of(rows[modality])  # type: ignore[attr-defined]
            for modality, loader in self.loaders.items()
        }
        return evaluator

    def chance(self) -> dict[str, float]:
        """Rank-1 of a random order, in percent, by protocol."""
        features = {
            modality: Features(torch.empty(1, len(records), 0), *_labels(records))
            for modality, records in self.split.records.items()
        }
        return {s.protocol: 100 * chance(features, s, self.excluded) for s in self.split.settings}


def result_rows(
    features: Mapping[Modality, Features],
    settings: Sequence[Setting],
    excluded: Exclusion,
    rankers: Mapping[str, Rank],
    memory_gb: float,
    trial: int | None,
    stage: Stage,
) -> list[ResultRow]:
    """A row of every setting under each ranking, in percent. UserError where memory does not suffice."""
    results = {}
    for name, ranker in rankers.items():
        with enough_memory(name, memory_gb):
            results[name] = evaluate_settings(features, settings, excluded, ranker, memory_gb, keeps_lengths(name))
    rows = []
    for setting in settings:
        for ranking, metrics in results.items():
            percent = {name: round(100 * value, 6) for name, value in metrics[setting.protocol].items()}
            rows.append(
                ResultRow(stage.name, stage.epoch, setting.protocol, trial, stage.selected_on, ranking, **percent)
            )
    return rows


@contextmanager
def enough_memory(ranking: str, memory_gb: float) -> Iterator[None]:
    """Turns what numpy, numba and torch raise where memory is lacking into one line with the way out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise UserError(
            f"ranking ({ranking}): not enough memory, though it was told to hold {memory_gb:g} GB beside the "
            "embeddings; give less: main.py's key eval_memory_gb, --memory-gb of tools.evaluate"
        ) from None


def extract_features(
    model: nn.Module,
    loader: Iterable[Batch],
    device: torch.device,
    with_spectra: bool,
    dtype: torch.dtype | None = None,
) -> Features:
    """Embed every image once per spectrum; each is decoded once. The features are float32 and stay on the device.

    Nothing waits for the device before the last image. What a Mac's GPU embeds goes to the CPU, to be ranked there.

    model: in eval mode.
    """
    views: Callable[[Tensor], list[Tensor]] = spectra if with_spectra else lambda images: [images]

    @torch.inference_mode()
    def step(engine: Engine, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        images = batch.images.to(device, non_blocking=True)
        vectors = [embed_images(model, view, batch.modalities, dtype) for view in views(images)]
        return torch.stack(vectors), batch.pids, batch.cameras

    engine, store = Engine(step), EpochOutputStore()
    store.attach(engine, "features")
    ProgressBar(desc="embedding", **bar_options()).attach(engine)
    engine.run(loader)
    embeddings, pids, cameras = zip(*store.data)
    place = with_float64(device)
    return Features(torch.cat(embeddings, dim=1).to(place), torch.cat(pids).to(place), torch.cat(cameras).to(place))


def require_finite(embeddings: Tensor, records: Sequence[Record]) -> None:
    """UserError that names an image whose embedding, in [V, N, D] of N records, has a NaN or an infinity."""
    rows = (~embeddings.isfinite().all(dim=2).all(dim=0)).nonzero()[:, 0].tolist()
    if rows:
        raise UserError(
            f"{len(rows)} of {len(records)} {records[rows[0]].modality.name.lower()} test images have embeddings that "
            f"are not finite, {records[rows[0]].path} first: the model's weights are damaged or diverged; test "
            "another checkpoint, or with eval_amp false if that is true"
        )


def mean_rank1(rows: Sequence[ResultRow]) -> float:
    """The score that selects a model: mean cosine rank-1 of the rows, in percent."""
    return sum(row.r1 for row in rows) / len(rows)


def _labels(records) -> tuple[Tensor, Tensor]:
    return torch.tensor([record.pid for record in records]), torch.tensor([record.camera for record in records])

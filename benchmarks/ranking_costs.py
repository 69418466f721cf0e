"""Seconds and memory of a ranking, ours and the plain way's, on embeddings that are drawn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple, TypeVar
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import plain
from benchmarks.features import SPREAD, Data, draw, regdb_like
from data.sets import regdb
from engine.retrieval import cpu_ranking as kernels
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.rankers import RANKERS
from utils.resources import peak_memory_gb
from utils.types import Modality, Record, Setting, Trial

Result = TypeVar("Result")


class Cost(NamedTuple):
    seconds: float
    peak_gb: float | None
    extrapolated: bool = False


def tensor_cost(*arguments) -> Cost:
    """`fast_cost` without the compiled loops."""
    with mock.patch.object(kernels, "on_cpu", lambda tensor: False):
        return fast_cost(*arguments)


def timed(data: Data, ranking: str, protocols: Sequence[str], device: str, runs: int) -> Cost:
    """Median seconds, and on a GPU the most memory beside what was there before."""
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = [shortly(lambda: rank(data, ranking, protocols, device)) for _ in range(runs)]
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else None
    return Cost(statistics.median(times), peak and peak / 2**30)


def shortly(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def on_device(data: Data, device: str) -> Data:
    moved = {modality: type(side)(*(part.to(device) for part in side)) for modality, side in data.features.items()}
    return data._replace(features=moved)


def one_trial(gallery: int, queries: int, width: int) -> Data:
    """One trial of the given size, ten infrared images of each identity, the original spectrum only."""
    visible, infrared = (
        [Record("", number % (queries // 10), camera, modality) for number in range(count)]
        for count, camera, modality in ((gallery, 1, Modality.VISIBLE), (queries, 2, Modality.INFRARED))
    )
    features = draw(visible, infrared, SPREAD["clean"], width, spectra=1)
    setting = Setting("growth", Modality.INFRARED, [Trial(np.arange(queries), np.arange(gallery))])
    return Data(features, [setting], regdb.excluded, regdb.MSER)


def fast_cost(make: Callable[[], Data], ranking: str, protocols: Sequence[str], device: str, runs: int) -> Cost:
    """Median seconds of our evaluation, and the process's peak memory."""
    rank(regdb_like(3, 1.0, 16), ranking, ["regdb/i2v", "regdb/v2i"], device)  # compiles
    data = on_device(make(), device)
    times = [shortly(lambda: rank(data, ranking, protocols, device)) for _ in range(runs)]
    return Cost(statistics.median(times), peak_memory_gb(torch.device(device)))


def rank(data: Data, ranking: str, protocols: Sequence[str], device: str) -> None:
    data = on_device(data, device)
    settings = [setting for setting in data.settings if setting.protocol in protocols]
    evaluate_settings(data.features, settings, data.excluded, RANKERS[ranking].make(data.mser), 1.0)
    if device == "cuda":
        torch.cuda.synchronize()


def plain_cost(make: Callable[[], Data], ranking: str, protocol: str, quick: bool) -> Cost:
    """Seconds of the plain way, on the CPU; quick: of one trial, times the number of trials."""
    data = make()
    setting = next(setting for setting in data.settings if setting.protocol == protocol)
    trials = setting.trials[:1] if quick else setting.trials
    start = time.perf_counter()
    for trial in trials:
        plain_trial(data, ranking, setting, trial)
    seconds = time.perf_counter() - start
    factor = len(setting.trials) / len(trials)
    return Cost(seconds * factor, peak_memory_gb(torch.device("cpu")), extrapolated=factor > 1)


def plain_trial(data: Data, ranking: str, setting: Setting, trial: Trial) -> dict[str, float]:
    first, second = setting.query_modality, Modality(1 - setting.query_modality)
    parts = ((data.features[first], trial.query), (data.features[second], trial.gallery))
    query, gallery = (F.normalize(features.embeddings[:, rows], dim=2).numpy() for features, rows in parts)
    labels = [part[rows] for features, rows in parts for part in features[1:]]
    dist = plain.cosine(query, gallery) if ranking == "cosine" else plain.mser(query, gallery, *data.mser)
    return plain.metrics(dist, labels[0].numpy(), labels[2].numpy(), data.excluded(*labels).numpy())


def alone(work: Callable[..., Result], *arguments) -> Result:
    """work(*arguments) in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()

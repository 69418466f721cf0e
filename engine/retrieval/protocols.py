"""One protocol setting: trials -> distances -> metrics -> their mean (docs/method.md, 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.retrieval.distances import cosine_distances
from engine.retrieval.metrics import chance_rank1, ranking_metrics
from engine.retrieval.mser import mser_distance
from utils.types import Exclusion, Features, Modality, MserDefaults, Setting, Trial

# (query [Vq, Q, D], gallery [Vg, G, D]), normalised -> [Q, G]
Ranker = Callable[[Tensor, Tensor], Tensor]


def cosine_ranker(query: Tensor, gallery: Tensor) -> Tensor:
    """Cosine distance of the original spectra."""
    return cosine_distances(query[0], gallery[0])


def mser_ranker(parameters: MserDefaults) -> Ranker:
    """Multi-Spectral Enhanced Ranking with the given parameters."""
    return lambda query, gallery: mser_distance(query, gallery, *parameters)


def evaluate_setting(
    features: Mapping[Modality, Features], setting: Setting, excluded: Exclusion, ranker: Ranker
) -> dict[str, float]:
    """Mean metrics, as fractions, over the setting's trials. features: of both modalities; not changed."""
    results = [_evaluate_trial(features, setting, trial, excluded, ranker) for trial in setting.trials]
    return {name: sum(result[name] for result in results) / len(results) for name in results[0]}


def chance(features: Mapping[Modality, Features], setting: Setting, excluded: Exclusion) -> float:
    """Rank-1 that a random order would have, as a fraction, mean over the trials."""
    values = []
    for trial in setting.trials:
        query, gallery = _sides(features, setting, trial)
        values.append(chance_rank1(query.pids, gallery.pids, _excluded(query, gallery, excluded)))
    return sum(values) / len(values)


def _evaluate_trial(
    features: Mapping[Modality, Features], setting: Setting, trial: Trial, excluded: Exclusion, ranker: Ranker
) -> dict[str, float]:
    query, gallery = _sides(features, setting, trial)
    distances = ranker(*(F.normalize(side.embeddings, dim=2) for side in (query, gallery)))
    return ranking_metrics(distances, query.pids, gallery.pids, _excluded(query, gallery, excluded))


def _sides(features: Mapping[Modality, Features], setting: Setting, trial: Trial) -> tuple[Features, Features]:
    other = Modality.INFRARED if setting.query_modality == Modality.VISIBLE else Modality.VISIBLE
    return _take(features[setting.query_modality], trial.query), _take(features[other], trial.gallery)


def _take(features: Features, rows) -> Features:
    rows = torch.as_tensor(rows, device=features.embeddings.device)
    return Features(features.embeddings[:, rows], features.pids[rows], features.cameras[rows])


def _excluded(query: Features, gallery: Features, rule: Exclusion) -> Tensor:
    return rule(query.pids, query.cameras, gallery.pids, gallery.cameras)

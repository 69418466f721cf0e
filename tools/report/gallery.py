"""The figures of a run by the names that --what knows: from its material to PNG files with their captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from engine.retrieval.ranked import KeptTrial, first_match, nearest, pairs_of
from tools.experiments.outcome import Outcome
from tools.figures.cmc import cmc_curve, cmc_figure
from tools.figures.distance_densities import Pairs, distances_figure
from tools.figures.embedding_map import SMALLEST, embedding_figure, flatten, pick_images
from tools.figures.masks import MOST_MASKS, masks_figure
from tools.figures.ranked_lists import PLACES, Found, Person, RankedList, pick_queries, ranked_lists_figure
from tools.figures.style import MODALITY_NAMES, ranking_name, to_png
from tools.figures.training_curves import curves_figure, progress_curves
from tools.figures.vimc_examples import operations, pixels, vimc_figure
from tools.report.captioned_figure import CaptionedFigure
from tools.report.opened_run import Choice, Material
from utils.device import pick_device
from utils.errors import UserError
from utils.logging import logger
from utils.types import Modality, Record

MASKED_IDENTITIES = 2


class Drawn(NamedTuple):
    """A figure and the name of its file."""

    name: str  # without suffix
    figure: CaptionedFigure


def curves(material: Material) -> list[Drawn]:
    """Raises UserError for a run that did not train."""
    if not material.scalars and not progress_curves(material.rows):
        raise UserError(f"{material.folder}: no training curves; the run did not train, or not for a whole epoch")
    figure = curves_figure(material.scalars, material.rows)
    caption = (
        "Means of each epoch, from the run's TensorBoard files; rank-1 and mAP during training from results.jsonl. "
        "Epoch 0 is the model before training."
    )
    return [Drawn("curves", CaptionedFigure("Training curves", caption, _png(material, figure)))]


def cmc(material: Material) -> list[Drawn]:
    found = {
        ranking: {s.protocol: cmc_curve(material.ranked(s, ranking).first) for s in material.settings}
        for ranking in material.rankings
    }
    caption = (
        "The share of the queries whose identity is among the first k identities of the ranked gallery, mean over the "
        "trials of each protocol. The vertical axis does not begin at 0."
    )
    return [Drawn("cmc", CaptionedFigure("CMC curves", caption, _png(material, cmc_figure(found))))]


def distances(material: Material) -> list[Drawn]:
    """Raises UserError where one kind of pair is missing."""
    found = {r: Pairs(*pairs_of(material.ranked(material.shown, r).shown)) for r in material.rankings}
    for pairs in found.values():
        if not len(pairs.same) or not len(pairs.different):
            raise UserError(
                f"{material.folder}: {material.shown.protocol} lacks pairs of the same, or of different identities"
            )
    caption = (
        f"Distances of all pairs of a query and a gallery image that count in {_trial(material)}. The overlap is "
        "the share that the two distributions have in common: 0 % if one threshold would part them, 100 % if they are "
        "alike."
    )
    png = _png(material, distances_figure(found))
    return [Drawn("distances", CaptionedFigure("Distances across the modalities", caption, png))]


def ranked_lists(material: Material) -> list[Drawn]:
    """Raises UserError where no query has a match."""
    drawn = []
    for ranking in material.rankings:
        trial = material.ranked(material.shown, ranking).shown
        scores = trial.scores
        picked = pick_queries(
            scores.precision.cpu().numpy(), (scores.first > 0).cpu().numpy(), each=material.choice.queries
        )
        if not picked:
            raise UserError(f"{material.folder}: no query of {material.shown.protocol} has a match in its gallery")
        lists = [ranked_list(material, trial, kind, row, float(scores.precision[row])) for kind, row in picked]
        caption = (
            f"The queries with the best, the median and the worst average precision (AP) in {_trial(material)}, and "
            f"their first {PLACES} gallery images with distance and identity. Tick and solid green frame: the query's "
            "identity; cross and dashed orange frame: another one. Where none of them is right, the first right one "
            "stands last, with its rank. Images from the query's own place, which the protocol skips, are left out."
        )
        title = f"Ranked lists, {ranking_name(ranking)}"
        png = _png(material, ranked_lists_figure(lists, ranking))
        drawn.append(Drawn(f"ranked_lists_{ranking}", CaptionedFigure(title, caption, png)))
    return drawn


def ranked_list(material: Material, trial: KeptTrial, kind: str, row: int, precision: float) -> RankedList:
    """One query's first places; where none of them is right, the first right one has the last of them."""
    side = material.shown.query_modality
    gallery = material.records(side.other)
    match = first_match(trial, row)
    places = list(enumerate(nearest(trial, row, PLACES), start=1))
    if match.rank > len(places):
        places[-1] = match.rank, match.column
    found = [
        Found(_person(material, gallery[trial.trial.gallery[column]]), float(trial.distances[row, column]), rank)
        for rank, column in places
    ]
    query = _person(material, material.records(side)[trial.trial.query[row]])
    return RankedList(kind, query, side, precision, found, match)


def embedding(material: Material) -> list[Drawn]:
    """Raises UserError where too few identities have images in both modalities."""
    features = material.features
    rows = pick_images({modality: side.pids.cpu().numpy() for modality, side in features.items()})
    chosen = [(features[m].embeddings[0][rows[m]].cpu().numpy(), features[m].pids[rows[m]].cpu().numpy()) for m in rows]
    modalities = np.concatenate([np.full(len(rows[m]), int(m)) for m in rows])
    if len(modalities) < SMALLEST:
        raise UserError(f"{material.folder}: too few test identities have images in both modalities for a map")
    points = flatten(np.concatenate([embeddings for embeddings, _ in chosen]))
    pids = np.concatenate([labels for _, labels in chosen])
    caption = (
        f"t-SNE (cosine distance, fixed seed) of {len(pids)} test images of {len(np.unique(pids))} random test "
        "identities. A colour and a number stand for an identity, circles for visible and triangles for infrared "
        "images. A model that aligns the modalities puts circles and triangles of one colour together. Distances "
        "between far groups mean little."
    )
    png = _png(material, embedding_figure(points, pids, modalities))
    return [Drawn("embedding", CaptionedFigure("Map of the embeddings", caption, png))]


def masks(material: Material) -> list[Drawn]:
    """Raises UserError for a model without adapters."""
    records = _both_modalities(material)
    found = material.masks(records)
    if not found:
        raise UserError(f"{material.folder}: the model has no MDA adapters (mda_layers), so there are no masks")
    images = np.stack([pixels(material.image(record)) for record in records])
    names = [f"{MODALITY_NAMES[record.modality]}, id {record.pid}" for record in records]
    caption = (
        "The spatial masks of the last modality distribution adapter of each stage that has one, over test images. "
        "Each mask is a softmax over the positions: 1 is a uniform mask's weight. The colour bar shows each weight as "
        "it looks over dark (left) to bright (right) parts of an image; at weight 0 the grey image is seen as it is. "
        f"Each adapter has {next(iter(found.values())).shape[1]} masks; {MOST_MASKS} at most are shown."
    )
    png = _png(material, masks_figure(images, names, found))
    return [Drawn("masks", CaptionedFigure("Masks of the adapters", caption, png))]


def vimc(material: Material) -> list[Drawn]:
    """Raises UserError where no training image is visible."""
    visible = [record for record in material.benchmark.train if record.modality == Modality.VISIBLE]
    if not visible:
        raise UserError(f"{material.folder}: no training image is visible, and VIMC changes no other")
    image = material.image(visible[0])
    figure = vimc_figure(pixels(image), operations(image, material.recipe, seed=material.record["seed"]))
    caption = (
        "What the visible-infrared modality coordinator makes of one visible training image, with the random draws of "
        "training: in training one of these (or a hue shift) is applied to a visible image with p = 1/8 each."
    )
    return [Drawn("vimc", CaptionedFigure("VIMC", caption, _png(material, figure)))]


DRAWINGS: Mapping[str, Callable[[Material], list[Drawn]]] = {
    drawing.__name__: drawing for drawing in (curves, cmc, ranked_lists, distances, embedding, masks, vimc)
}
RANKED = {"cmc", "ranked_lists", "distances"}  # those that need rankings


def draw(material: Material, names: Sequence[str]) -> Iterator[Drawn]:
    """The named figures, one after the other; one that this run has no material for is left out, with a warning."""
    for name in names:
        try:
            yield from DRAWINGS[name](material)
        except UserError as error:
            logger.warning(f"no figure {name}: {error}")


def run_figures(folder: Path, device: torch.device) -> list[CaptionedFigure]:
    """All figures that can be made of a run; a warning says which could not, and why."""
    try:
        material = Material(folder, device, Choice())
    except UserError as error:
        logger.warning(f"no figures: {error}")
        return []
    return [drawn.figure for drawn in draw(material, list(DRAWINGS))]


def figures_of(outcome: Outcome, device: str) -> dict[str, list[CaptionedFigure]]:
    """Figures of the first finished run of the row that the table names for them; {} before there is one."""
    (row,) = (row for row in outcome.rows if row.name == outcome.table.figure_row)
    finished = [run for run in row.runs if run.state == "finished"]
    return {f"{row.name}, {run.label}": run_figures(run.folder, pick_device(device)) for run in finished[:1]}


def _png(material: Material, figure: Figure) -> bytes:
    return to_png(figure, material.choice.small)


def _trial(material: Material) -> str:
    return f"the first trial of {material.shown.protocol}"


def _person(material: Material, record: Record) -> Person:
    return Person(pixels(material.image(record)), record.pid, record.camera)


def _both_modalities(material: Material) -> list[Record]:
    """An image of each modality of the first identities that have both."""
    first = {modality: {record.pid: record for record in reversed(material.records(modality))} for modality in Modality}
    shared = sorted(set(first[Modality.VISIBLE]) & set(first[Modality.INFRARED]))[:MASKED_IDENTITIES]
    return [first[modality][pid] for pid in shared for modality in Modality]

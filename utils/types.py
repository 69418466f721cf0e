"""The nouns of the project: what the packages hand to one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from numpy import ndarray
from torch import Tensor
from torch.nn import Parameter


class Modality(IntEnum):
    """Spectrum of the sensor. No other line of the project turns a camera into a spectrum."""

    VISIBLE = 0
    INFRARED = 1

    @property
    def other(self) -> Modality:
        """The gallery's modality where the queries are of this one."""
        return Modality(1 - self)


class Record(NamedTuple):
    """One image of a data set, not opened."""

    path: str  # absolute, or relative to the working folder
    pid: int  # 0..num_ids-1 in training, the data set's own identity number in a test split
    camera: int  # the data set's own camera number
    modality: Modality


class Labels(NamedTuple):
    """What is known of B records."""

    pids: Tensor  # [B] int64
    cameras: Tensor  # [B] int64
    modalities: Tensor  # [B] int64, values of Modality

    def take(self, rows: Tensor | None) -> Labels:
        """The labels of these records, [R] int64, repeated or picked; of all where rows is None."""
        return self if rows is None else Labels(*(values[rows.to(values.device)] for values in self))


class Batch(NamedTuple):
    """Images of B records, as the loader hands them over. One of W processes has the labels of all, and its images."""

    images: Tensor  # [B, 3, H, W] uint8, RGB; [B / W, 3, H, W] in one of W processes
    pids: Tensor  # [B] int64
    cameras: Tensor  # [B] int64
    modalities: Tensor  # [B] int64, values of Modality
    indices: Tensor  # [B] int64, rows of the record list
    shares: Tensor | None = None  # [W, B / W] int64, which rows of the batch each process has; None: one has them all
    own: Tensor | None = None  # [B / W] int64, the rows that `images` shows; None: all

    @property
    def labels(self) -> Labels:
        """Of all B records, on the CPU."""
        return Labels(self.pids, self.cameras, self.modalities)


class Views(NamedTuple):
    """What an augmentation makes of a batch: R views of its B records, each an image of one record."""

    images: Tensor  # [R, 3, H, W] float32, normalised; in one of W processes those of its own records, in their order
    rows: Tensor  # [R] int64, on the CPU: the record that each view shows
    streams: Tensor  # [R] int64, on the CPU: the entrance of the network that each takes

    def places(self, own: Tensor | None) -> Tensor | None:
        """Which views show these records of the batch, [r] int64 in their order; None for all."""
        return None if own is None else torch.isin(self.rows, own).nonzero()[:, 0]

    def streams_of(self, own: Tensor | None) -> Tensor:
        """Streams [r] int64 of the views that show these records of the batch, own [B / W] int64; of all for None."""
        return self.streams if own is None else self.streams[self.places(own)]


class Output(NamedTuple):
    """What a model computes of R images: S answers, one for each image unless `rows` says otherwise."""

    embeddings: Tensor  # [S, D] float, after the neck, not normalised
    logits: Tensor  # [S, num_ids] float
    pooled: Tensor | None = None  # [S, D] float, before the neck, where triplet losses live
    rows: Tensor | None = None  # [S] int64, best on the CPU: the image that each answers for; None: one to one
    extra: Mapping[str, Tensor] = {}  # a method's own, by name


class Group(NamedTuple):
    """Parameters that one optimiser trains at one rate."""

    parameters: Sequence[Parameter]
    rate: float = 1.0  # times the configured learning rate
    scheduled: bool = True  # whether the schedule changes its rate
    optimizer: str = "main"  # a step may hold several optimisers


class Features(NamedTuple):
    """Embeddings of one modality's N test images; V spectra (original; or original, R, G, B)."""

    embeddings: Tensor  # [V, N, D] float32, not normalised
    pids: Tensor  # [N] int64
    cameras: Tensor  # [N] int64


class Trial(NamedTuple):
    """One drawing of a protocol: rows of the query's and of the gallery's record list."""

    query: ndarray  # [Q] int64
    gallery: ndarray  # [G] int64


class Setting(NamedTuple):
    """One line of a results table: a protocol, reported as the mean over its trials."""

    protocol: str  # "sysu/all/1-shot", "regdb/i2v", ...
    query_modality: Modality
    trials: Sequence[Trial]


class Split(NamedTuple):
    """Images and settings of one evaluation."""

    visible: Sequence[Record]
    infrared: Sequence[Record]
    settings: Sequence[Setting]
    quick: Sequence[str]  # protocols evaluated during training; their mean rank-1 selects the model
    extra: Sequence[Setting] = ()  # evaluated only where they are asked for

    @property
    def records(self) -> dict[Modality, Sequence[Record]]:
        """The images by their modality."""
        return {Modality.VISIBLE: self.visible, Modality.INFRARED: self.infrared}


class MserDefaults(NamedTuple):
    """Parameters of Multi-Spectral Enhanced Ranking that belong to a data set."""

    k1: int
    k2: int
    lam: float
    queries_only: bool


# (query pids [Q], query cameras [Q], gallery pids [G], gallery cameras [G]) -> bool [Q, G], True where the query
# skips the gallery image.
Exclusion = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Benchmark(NamedTuple):
    """A data set, read: what to train on, what to test on, and the rules that are its own."""

    name: str
    trial: int | None  # RegDB's split, 1..10, under the name of its yml key; None where the data set has one
    num_ids: int
    train: Sequence[Record]
    test: Split
    validation: Split | None
    excluded: Exclusion
    mser: MserDefaults | None  # None: nobody published parameters for it
    warnings: Sequence[str]  # differences from the published data set, one line each
    drawn: int | None = None  # the seed that drew the test identities; None: the data set says who they are
    names: Sequence[str] = ()  # of identities, by their numbers in a test split; (): they have no other names


class Stage(NamedTuple):
    """Which model is evaluated, as a row of results names it."""

    name: str  # "initial" | "train" | "test" | "averaged": a test of averaged weights
    epoch: int | None  # of the evaluated model; 0 = untrained; None: not known
    selected_on: str | None = None  # "test" | "val" | "last"; None: not a selected model, or not known


class ResultRow(NamedTuple):
    """One protocol setting under one ranking; metrics in percent. A line of results.jsonl."""

    stage: str  # "initial" | "train" | "test" | "averaged": a test of averaged weights
    epoch: int | None  # of the evaluated model; 0 = untrained; None: not known
    protocol: str
    split: int | None  # RegDB's split, 1..10; None where the data set has one, or not known
    selected_on: str | None  # "test" | "val" | "last"; None: not a selected model, or not known
    ranking: str  # the name of its ranker: "cosine", "mser", ...
    r1: float
    r5: float
    r10: float
    r20: float
    mAP: float
    mINP: float

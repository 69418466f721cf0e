"""Batch samplers: which images form each training batch of an epoch (docs/method.md, 2).

Each rule is a pure function that draws the whole epoch, (rng, pids [N], modalities [N], sizes) -> list of batches, each
a list of rows. Every batch has the promised layout; short last batches are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from torch.utils.data import Sampler

from utils.types import Modality

Batches = list[list[int]]


class Sizes(NamedTuple):
    p: int  # identities in a batch
    k: int  # images of each
    batch: int  # images in a batch, for the rules that know no identities


def plain(rng: np.random.Generator, pids: ndarray, modalities: ndarray, sizes: Sizes) -> Batches:
    """All images, shuffled."""
    return _cut(rng.permutation(len(pids)), sizes.batch)


def norm_triplet(rng: np.random.Generator, pids: ndarray, modalities: ndarray, sizes: Sizes) -> Batches:
    """P identities, K images of each in a row, whatever their modality.

    An identity's images are shuffled and cut into chunks of K; with fewer than K they fill one chunk with replacement.
    """
    chunks = {pid: _chunks(rng, np.flatnonzero(pids == pid), sizes.k) for pid in np.unique(pids)}
    return _draw_groups(rng, chunks, sizes.p)


def cross_modality_random(rng: np.random.Generator, pids: ndarray, modalities: ndarray, sizes: Sizes) -> Batches:
    """First half visible, second half infrared; each image of the larger modality once, the smaller one repeated."""
    rows = [np.flatnonzero(modalities == modality) for modality in Modality]
    longest = max(map(len, rows))
    visible, infrared = (_repeat(rng, part, longest) for part in rows)
    half = sizes.batch // 2
    return [v + i for v, i in zip(_cut(visible, half), _cut(infrared, half))]


def cross_modality_identity(rng: np.random.Generator, pids: ndarray, modalities: ndarray, sizes: Sizes) -> Batches:
    """[visible: P identities x K/2][infrared: the same P x K/2]; identities of one modality are left out."""
    rows = _rows_by_modality(pids, modalities)
    identities = np.array(list(rows))
    count = sum(len(part) for parts in rows.values() for part in parts)
    batches = []
    for _ in range(max(1, count // (len(rows) * sizes.k))):
        for group in _cut(rng.permutation(identities), sizes.p):
            batches.append([row for m in Modality for pid in group for row in _pick(rng, rows[pid][m], sizes.k // 2)])
    return batches


def identity_cross_modality(rng: np.random.Generator, pids: ndarray, modalities: ndarray, sizes: Sizes) -> Batches:
    """Per identity K/2 pairs, infrared and visible images alternating; identities of one modality are left out.

    An identity has min(visible, infrared) pairs, cut into chunks of K/2; fewer fill one chunk with replacement.
    """
    chunks = {}
    for pid, parts in _rows_by_modality(pids, modalities).items():
        count = min(map(len, parts))
        visible, infrared = (rng.permutation(part)[:count] for part in parts)
        pairs = _chunks(rng, np.arange(count), sizes.k // 2)
        chunks[pid] = [[row for pair in chunk for row in (int(infrared[pair]), int(visible[pair]))] for chunk in pairs]
    return _draw_groups(rng, chunks, sizes.p)


def cross_modality_drawn(rng: np.random.Generator, pids: ndarray, modalities: ndarray, sizes: Sizes) -> Batches:
    """[visible: P identities x K/2][infrared: the same P x K/2], drawn anew for each batch, images with replacement.

    AGW's rule and its successors'. An epoch has n // (P K/2) + 1 batches, n the images of the larger modality;
    identities of one modality are left out.
    """
    rows = _rows_by_modality(pids, modalities)
    identities, half = np.array(list(rows)), sizes.k // 2
    longest = max(sum(len(parts[m]) for parts in rows.values()) for m in Modality)
    batches = []
    for _ in range(longest // (sizes.p * half) + 1):
        group = rng.choice(identities, sizes.p, replace=False)
        batches.append([row for m in Modality for pid in group for row in rng.choice(rows[pid][m], half).tolist()])
    return batches


SAMPLERS: dict[str, Callable[[np.random.Generator, ndarray, ndarray, Sizes], Batches]] = {
    "none": plain,
    "norm_triplet": norm_triplet,
    "cross_modality_random": cross_modality_random,
    "cross_modality_identity": cross_modality_identity,
    "identity_cross_modality": identity_cross_modality,
    "cross_modality_drawn": cross_modality_drawn,
}
NEEDS_BOTH = (cross_modality_identity, identity_cross_modality, cross_modality_drawn)
BY_IMAGES = (plain, cross_modality_random)  # know no identities, so p_size and k_size mean nothing to them


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of one epoch at a time, drawn from (seed, epoch): resuming at epoch 40 redraws epoch 40.

    `len()` is the number of batches of the current epoch, exactly; it may differ from epoch to epoch.
    """

    def __init__(self, draw: Callable[[np.random.Generator], Batches], seed: int):
        self.draw = draw
        self.seed = seed
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of `epoch` (1 is the first)."""
        self.batches = self.draw(np.random.default_rng((self.seed, epoch)))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def single_modality_ids(pids: ndarray, modalities: ndarray) -> list[int]:
    """Identities that lack visible or infrared images."""
    return sorted(set(pids.tolist()) - set(_rows_by_modality(pids, modalities)))


def _rows_by_modality(pids: ndarray, modalities: ndarray) -> dict[int, list[ndarray]]:
    """Rows of each identity that has both modalities: {pid: [visible rows, infrared rows]}."""
    rows = {
        pid: [np.flatnonzero((pids == pid) & (modalities == m)) for m in Modality] for pid in np.unique(pids).tolist()
    }
    return {pid: parts for pid, parts in rows.items() if all(map(len, parts))}


def _cut(rows: ndarray, size: int) -> Batches:
    return [rows[start : start + size].tolist() for start in range(0, len(rows) - size + 1, size)]


def _pick(rng: np.random.Generator, rows: ndarray, count: int) -> list[int]:
    """`count` of the rows, with replacement only where there are fewer."""
    return rng.choice(rows, count, replace=len(rows) < count).tolist()


def _chunks(rng: np.random.Generator, rows: ndarray, size: int) -> Batches:
    return _cut(rng.permutation(rows), size) if len(rows) >= size else [_pick(rng, rows, size)]


def _repeat(rng: np.random.Generator, rows: ndarray, count: int) -> ndarray:
    """Permutations of `rows` one after the other, cut at `count`."""
    if not len(rows):
        return rows
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])[:count]


def _draw_groups(rng: np.random.Generator, chunks: dict[int, Batches], p: int) -> Batches:
    """Batches of one chunk each of P identities drawn at random, until fewer than P have chunks left."""
    left = {pid: list(parts) for pid, parts in chunks.items()}
    batches = []
    while len(left) >= p:
        group = rng.choice(np.array(list(left)), p, replace=False).tolist()
        batches.append([row for pid in group for row in left[pid].pop()])
        left = {pid: parts for pid, parts in left.items() if parts}
    return batches

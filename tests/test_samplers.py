"""Batch samplers: the promised layout of every batch, what an epoch covers, and exact lengths over epochs."""

from collections import Counter
from functools import partial

import numpy as np
import pytest

from configs import load_config
from data.build import build_batch_sampler
from data.samplers import SAMPLERS, EpochBatchSampler, Sizes, single_modality_ids
from utils.errors import UserError
from utils.logging import logger
from utils.types import Modality, Record

VISIBLE, INFRARED = Modality
EPOCHS = range(1, 7)
P, K = 4, 6
# Eleven identities, (visible, infrared) images of each. Fewer than K: 23, 29, 31; K/2 of one, fewer of the other: 5,
# 17.
ELEVEN = {
    2: (9, 8), 3: (12, 12), 5: (7, 2), 7: (6, 11), 11: (8, 8), 13: (20, 5), 17: (1, 9), 19: (6, 6), 23: (2, 2), 29: (1, 3),
    31: (3, 2),
}  # fmt: skip
ONE_SIDED = {**ELEVEN, 37: (9, 0), 41: (0, 14)}


class People:
    """Images in an order that mixes identities and modalities."""

    def __init__(self, counts: dict[int, tuple[int, int]]):
        labels = [(pid, m) for pid, parts in counts.items() for m in Modality for _ in range(parts[m])]
        order = np.random.default_rng(0).permutation(len(labels))
        self.pids, self.modalities = np.array(labels)[order].T
        self.counts = counts

    def sampler(self, name: str, p: int = P, k: int = K, batch: int = 20, seed: int = 8) -> EpochBatchSampler:
        draw = partial(SAMPLERS[name], pids=self.pids, modalities=self.modalities, sizes=Sizes(p, k, batch))
        return EpochBatchSampler(draw, seed)

    def epochs(self, name: str, **sizes) -> list[list[list[int]]]:
        """The batches of each of EPOCHS."""
        sampler, epochs = self.sampler(name, **sizes), []
        for epoch in EPOCHS:
            sampler.set_epoch(epoch)
            epochs.append(list(sampler))
        return epochs

    def rows(self, modality: Modality) -> set[int]:
        return set(np.flatnonzero(self.modalities == modality).tolist())


def chunks_left(people: People, batches: list[list[int]], chunks: dict[int, int], size: int) -> int:
    """Identities that still have chunks after an epoch; fails where one was used more often than it has chunks."""
    used = Counter(int(people.pids[batch[start]]) for batch in batches for start in range(0, len(batch), size))
    assert all(used[pid] <= chunks[pid] for pid in used)
    return sum(used[pid] < number for pid, number in chunks.items())


# ----------------------------------------------------------------------------------------------------------------- none


def test_plain_shuffling_shows_every_image_once_and_drops_the_rest():
    people = People(ELEVEN)
    total = len(people.pids)
    for batches in people.epochs("none", batch=20):
        assert len(batches) == total // 20 and {len(batch) for batch in batches} == {20}
        rows = [row for batch in batches for row in batch]
        assert len(set(rows)) == len(rows) and set(rows) <= set(range(total))


def test_plain_shuffling_shuffles():
    assert People(ELEVEN).epochs("none")[0][0] != list(range(20))


# --------------------------------------------------------------------------------------------------------- norm_triplet


@pytest.mark.parametrize("counts", [ELEVEN, ONE_SIDED], ids=["both modalities", "one-sided too"])
def test_norm_triplet_layout(counts):
    people = People(counts)
    for batch in (batch for batches in people.epochs("norm_triplet") for batch in batches):
        assert len(batch) == P * K
        blocks = people.pids[batch].reshape(P, K)
        assert (blocks == blocks[:, :1]).all() and len(set(blocks[:, 0])) == P


def test_norm_triplet_covers_an_epoch():
    people = People(ONE_SIDED)
    totals = {pid: sum(parts) for pid, parts in people.counts.items()}
    for batches in people.epochs("norm_triplet"):
        assert chunks_left(people, batches, {pid: max(1, n // K) for pid, n in totals.items()}, K) < P
        seen = Counter(row for batch in batches for row in batch)
        assert all(times == 1 for row, times in seen.items() if totals[int(people.pids[row])] >= K)


def test_norm_triplet_fills_up_small_identities():
    people = People({1: (2, 0), 2: (1, 1)})
    batches = [batch for epoch in people.epochs("norm_triplet", p=2, k=5) for batch in epoch]
    assert len(batches) == len(EPOCHS)  # one chunk of each identity: one batch an epoch
    assert {row for batch in batches for row in batch} == {0, 1, 2, 3}


def test_norm_triplet_cuts_other_chunks_in_other_epochs():
    people = People({1: (3, 1), 2: (2, 2)})
    epochs = people.epochs("norm_triplet", p=2, k=2)
    chunks = {frozenset(batch[i : i + 2]) for batches in epochs for batch in batches for i in (0, 2)}
    assert [len(batches) for batches in epochs] == [2] * len(EPOCHS) and len(chunks) > 4


# ------------------------------------------------------------------------------------------------ cross_modality_random


@pytest.mark.parametrize(
    "counts", [{1: (30, 9)}, {1: (9, 30)}, {1: (12, 12)}, ELEVEN], ids=["visible", "infrared", "equal", "eleven"]
)
def test_cross_modality_random(counts):
    people = People(counts)
    sizes = {m: len(people.rows(m)) for m in Modality}
    for batches in people.epochs("cross_modality_random", batch=8):
        assert len(batches) == max(sizes.values()) // 4
        for batch in batches:
            assert people.modalities[batch].tolist() == [VISIBLE] * 4 + [INFRARED] * 4
        for modality in Modality:
            times = Counter(row for batch in batches for row in batch if people.modalities[row] == modality)
            counts_of = {times[row] for row in people.rows(modality)}
            # in whole permutations one after another no image is more than one ahead of another
            assert max(counts_of) - min(counts_of) <= 1
            if sizes[modality] == max(sizes.values()):
                assert counts_of <= {0, 1} and len(times) == len(batches) * 4


def test_cross_modality_random_without_one_modality_has_no_batch():
    assert [len(batches) for batches in People({1: (30, 0)}).epochs("cross_modality_random", batch=8)] == [0] * len(
        EPOCHS
    )


# ---------------------------------------------------------------------------------------------- cross_modality_identity


@pytest.mark.parametrize("counts", [ELEVEN, ONE_SIDED], ids=["both modalities", "one-sided too"])
def test_cross_modality_identity_layout(counts):
    people = People(counts)
    for batch in (batch for batches in people.epochs("cross_modality_identity") for batch in batches):
        assert len(batch) == P * K
        assert people.modalities[batch].tolist() == [VISIBLE] * (P * K // 2) + [INFRARED] * (P * K // 2)
        blocks = people.pids[batch].reshape(2, P, K // 2)
        assert (blocks == blocks[:, :, :1]).all() and (blocks[0] == blocks[1]).all() and len(set(blocks[0, :, 0])) == P
        for block in np.reshape(batch, (2 * P, K // 2)):
            available = people.counts[people.pids[block[0]]][people.modalities[block[0]]]
            assert len(set(block)) == K // 2 or available < K // 2


@pytest.mark.parametrize("k, passes", [(6, 2), (2, 6), (40, 1)])
def test_cross_modality_identity_passes_over_the_identities(k, passes):
    people = People(ONE_SIDED)  # 143 images of the eleven with both: 143 // (11 * 6) = 2, 143 // 22 = 6
    assert sum(map(sum, ELEVEN.values())) == 143
    for batches in people.epochs("cross_modality_identity", k=k):
        assert len(batches) == passes * 2  # eleven in groups of four: two groups, the rest of three is dropped
        for first, second in zip(batches[::2], batches[1::2]):
            assert len(set(people.pids[[*first, *second]])) == 8
    last = {
        int(pid)
        for batches in people.epochs("cross_modality_identity", k=k)
        for batch in batches
        for pid in people.pids[batch]
    }
    assert last == set(ELEVEN)  # who is dropped changes, so everyone is seen within a few epochs


# ---------------------------------------------------------------------------------------------- identity_cross_modality


@pytest.mark.parametrize("counts", [ELEVEN, ONE_SIDED], ids=["both modalities", "one-sided too"])
def test_identity_cross_modality_layout(counts):
    people = People(counts)
    for batch in (batch for batches in people.epochs("identity_cross_modality") for batch in batches):
        assert len(batch) == P * K
        assert people.modalities[batch].tolist() == [INFRARED, VISIBLE] * (P * K // 2)
        blocks = people.pids[batch].reshape(P, K)
        assert (blocks == blocks[:, :1]).all() and len(set(blocks[:, 0])) == P


def test_identity_cross_modality_covers_an_epoch():
    people = People(ONE_SIDED)
    pairs = {pid: min(parts) for pid, parts in ELEVEN.items()}
    for batches in people.epochs("identity_cross_modality"):
        assert chunks_left(people, batches, {pid: max(1, n // (K // 2)) for pid, n in pairs.items()}, K) < P
        seen = Counter(row for batch in batches for row in batch)
        assert all(times == 1 for row, times in seen.items() if pairs[int(people.pids[row])] >= K // 2)


def test_identity_cross_modality_changes_its_pairs():
    people = People({1: (9, 3), 2: (3, 9)})
    epochs = people.epochs("identity_cross_modality", p=2, k=6)
    pairs = {(batch[i], batch[i + 1]) for batches in epochs for batch in batches for i in range(0, 12, 2)}
    assert [len(batches) for batches in epochs] == [1] * len(EPOCHS) and len(pairs) > 18


# ------------------------------------------------------------------------------------------------ epochs and randomness


@pytest.mark.parametrize("name", SAMPLERS)
def test_len_is_exact_in_every_epoch(name):
    sampler = People(ONE_SIDED).sampler(name)
    for epoch in EPOCHS:
        sampler.set_epoch(epoch)
        assert len(sampler) == len(list(sampler)) == len(list(sampler)) > 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_seed_and_epoch_decide_the_batches(name):
    people = People(ONE_SIDED)
    first, again = people.epochs(name), people.epochs(name)
    assert first == again
    assert all(first[i] != first[j] for i in range(len(first)) for j in range(i))
    assert people.epochs(name, seed=9)[0] not in first  # nor is seed 9, epoch 1 seed 8, epoch 2
    resumed = people.sampler(name)
    resumed.set_epoch(4)
    assert list(resumed) == first[3]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_leave_the_global_random_state_and_the_labels_alone(name):
    people = People(ONE_SIDED)
    before, pids = np.random.get_state()[1].copy(), people.pids.copy()
    people.epochs(name)
    assert (np.random.get_state()[1] == before).all() and (people.pids == pids).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_are_plain_numbers(name):
    assert {type(row) for batch in People(ELEVEN).sampler(name) for row in batch} == {int}


def test_a_new_sampler_starts_with_epoch_1():
    people = People(ELEVEN)
    assert list(people.sampler("norm_triplet")) == people.epochs("norm_triplet")[0]


# -------------------------------------------------------------------------------------------------------- configuration


def records(counts: dict[int, tuple[int, int]]) -> list[Record]:
    return [Record(f"{pid}", pid, 1, m) for pid, parts in counts.items() for m in Modality for _ in range(parts[m])]


def build(counts, *opts: str) -> EpochBatchSampler:
    return build_batch_sampler(load_config(None, opts), records(counts), seed=8)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_configuration_chooses_sampler_and_sizes(name):
    sampler = build(ELEVEN, "sample_method", name, "p_size", "4", "k_size", "6", "batch_size", "20")
    assert {len(batch) for batch in sampler} == {20 if name in ("none", "cross_modality_random") else 24}


def test_an_unknown_sampler_lists_the_choices():
    with pytest.raises(UserError, match="sample_method = 'triplet' is unknown; choose one of: cross_modality_drawn, "):
        build(ELEVEN, "sample_method", "triplet")


@pytest.mark.parametrize(
    "name, people", [("norm_triplet", 13), ("cross_modality_identity", 11), ("identity_cross_modality", 11)]
)
def test_fewer_identities_than_p(name, people):
    with pytest.raises(UserError, match=f"p_size = 14: {name} has only {people} identities; lower p_size"):
        build(ONE_SIDED, "sample_method", name, "p_size", "14", "k_size", "2")


@pytest.mark.parametrize("name, counts", [
    ("none", {1: (5, 5)}), ("cross_modality_random", {1: (5, 5)}), ("cross_modality_random", {1: (30, 0)}),
])  # fmt: skip
def test_too_few_images_for_one_batch(name, counts):
    with pytest.raises(UserError, match=f"{name} cannot fill one batch from .* batch_size \\(12\\)"):
        build(counts, "sample_method", name, "batch_size", "12")


@pytest.mark.parametrize("name", ["cross_modality_identity", "identity_cross_modality"])
def test_no_identity_with_both_modalities(name):
    with pytest.raises(UserError, match="has only 0 identities"):
        build({1: (5, 0), 2: (0, 5)}, "sample_method", name, "p_size", "1", "k_size", "2")


@pytest.mark.parametrize(
    "name, warned", [("cross_modality_identity", 1), ("identity_cross_modality", 1), ("norm_triplet", 0)]
)
def test_identities_of_one_modality_are_left_out_with_a_warning(name, warned, caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    assert single_modality_ids(People(ONE_SIDED).pids, People(ONE_SIDED).modalities) == [37, 41]
    build(ONE_SIDED, "sample_method", name, "p_size", "4", "k_size", "6")
    build(ELEVEN, "sample_method", name, "p_size", "4", "k_size", "6")
    expected = f"2 identities lack one modality and are left out by {name}"
    assert [record.getMessage() for record in caplog.records] == [expected] * warned

import numpy as np
import pytest
import torch

from engine.retrieval.metrics import chance_rank1, ranking_metrics
from tests import reference as slow


def ranked(gallery_pids: list[int], excluded: list[int] = ()) -> dict[str, float]:
    """Metrics of one query of identity 1 whose gallery stands in rank order."""
    out = torch.zeros(1, len(gallery_pids), dtype=torch.bool)
    out[0, list(excluded)] = True
    return ranking_metrics(
        torch.arange(len(gallery_pids)).float()[None], torch.tensor([1]), torch.tensor(gallery_pids), out
    )


def test_one_query_by_hand():
    result = ranked([1, 2, 1, 3])  # found at ranks 1 and 3
    assert result["mAP"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert result["mINP"] == pytest.approx(2 / 3)
    assert result["r1"] == 1


def test_cmc_counts_identities():
    result = ranked([2, 2, 2, 2, 2, 3, 1])  # the seventh image is the third identity
    assert (result["r1"], result["r5"]) == (0, 1)
    assert result["mAP"] == pytest.approx(1 / 7)


def test_excluded_images_do_not_exist():
    result = ranked([1, 2, 1, 3], excluded=[0])  # what is left: 2, 1, 3
    assert result == {"r1": 0, "r5": 1, "r10": 1, "r20": 1, "mAP": 0.5, "mINP": 0.5}


def test_an_excluded_identity_does_not_count_in_the_cmc():
    result = ranked([2, 3, 4, 5, 6, 1], excluded=[0])
    assert result["r5"] == 1


def test_query_without_a_match_left_does_not_count():
    dist, pids = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 2])
    out = torch.tensor([[False, False], [False, True]])
    assert ranking_metrics(dist, pids, pids, out)["r1"] == 1  # the second query would be right too, but it has no match


def test_no_valid_query_is_zero_with_a_warning():
    with pytest.warns(UserWarning, match="no query has a match"):
        assert set(ranked([2, 3]).values()) == {0.0}


def test_fewer_identities_than_k():
    assert ranked([2, 1])["r20"] == 1


def test_ties_go_to_the_lower_gallery_index():
    out = torch.zeros(1, 3, dtype=torch.bool)
    tied = torch.zeros(1, 3)
    assert ranking_metrics(tied, torch.tensor([1]), torch.tensor([1, 2, 3]), out)["r1"] == 1
    assert ranking_metrics(tied, torch.tensor([3]), torch.tensor([1, 2, 3]), out)["mAP"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    queries, gallery, identities = rng.integers(1, 12), rng.integers(1, 40), rng.integers(1, 9)
    dist = rng.integers(0, 10, (queries, gallery)).astype(np.float32)  # many ties
    query_pids, gallery_pids = rng.integers(0, identities, queries), rng.integers(0, identities, gallery)
    excluded = rng.random((queries, gallery)) < 0.3
    copies = [array.copy() for array in (dist, query_pids, gallery_pids, excluded)]
    if ((query_pids[:, None] == gallery_pids) & ~excluded).any():
        result = ranking_metrics(dist, query_pids, gallery_pids, excluded)
    else:
        with pytest.warns(UserWarning):
            result = ranking_metrics(dist, query_pids, gallery_pids, excluded)
    assert result == pytest.approx(slow.metrics(dist, query_pids, gallery_pids, excluded), abs=1e-9)
    assert all(np.array_equal(now, before) for now, before in zip((dist, query_pids, gallery_pids, excluded), copies))


def test_chance_by_hand():
    pids, gallery = torch.tensor([1, 2, 9]), torch.tensor([1, 1, 2, 3])
    out = torch.zeros(3, 4, dtype=torch.bool)
    out[0, 3] = True  # first query: 2 of 3 match; second: 1 of 4; the third has no match
    assert chance_rank1(pids, gallery, out) == pytest.approx((2 / 3 + 1 / 4) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.float64])
def test_distances_of_any_type(dtype):
    dist, out = torch.tensor([[2, 1, 3]]).to(dtype), torch.zeros(1, 3, dtype=torch.bool)
    assert ranking_metrics(dist, torch.tensor([1]), torch.tensor([1, 2, 1]), out)["mAP"] == pytest.approx(
        (1 / 2 + 2 / 3) / 2
    )


def test_distances_that_carry_a_graph():
    dist, out = torch.tensor([[2.0, 1.0]], requires_grad=True), torch.zeros(1, 2, dtype=torch.bool)
    assert ranking_metrics(dist, torch.tensor([1]), torch.tensor([1, 2]), out)["mINP"] == 0.5


@pytest.mark.parametrize(("queries", "gallery"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_rank(queries, gallery):
    out, pids = torch.zeros(queries, gallery, dtype=torch.bool), torch.ones(3, dtype=torch.int64)
    with pytest.warns(UserWarning, match="no query has a match"):
        assert set(ranking_metrics(out.float(), pids[:queries], pids[:gallery], out).values()) == {0.0}

import numpy as np
import pytest
import torch

from losses.soft_rank import soft_rank
from tests import reference as slow

STRENGTHS = [5.0, 0.5, 0.1, 0.03, 0.01, 1e-3]


def values(n: int, rows: int = 4) -> torch.Tensor:
    drawn = torch.rand(rows, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    drawn[0] = (drawn[0] * 4).round() / 4  # ties
    return drawn


def test_small_strength_gives_hard_ranks():
    ranks = soft_rank(torch.tensor([[0.3, 0.9, 0.1]]), 1e-3)
    assert ranks.tolist() == [pytest.approx([2, 3, 1], abs=1e-4)]


def test_two_values_by_hand():
    # theta = (0.8, 0) and w = (2, 1): theta - w = (-1.2, -1) rises, so both get the mean -1.1
    assert soft_rank(torch.tensor([[0.8, 0.0]]), 1.0)[0].tolist() == pytest.approx([1.9, 1.1])


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
def test_agrees_with_pool_adjacent_violators(n, strength):
    drawn = values(n)
    expected = np.array([slow.soft_rank(row, strength) for row in drawn.numpy()])
    assert soft_rank(drawn, strength).numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("n", [2, 5, 40])
def test_equals_torchsort_in_value_and_gradient(n, strength):
    torchsort = pytest.importorskip("torchsort")
    weight = torch.randn(4, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for ranks_of in (soft_rank, lambda x, s: torchsort.soft_rank(x, regularization_strength=s)):
        drawn = values(n).requires_grad_()
        ranks = ranks_of(drawn, strength)
        (ranks * weight).sum().backward()
        results.append((ranks.detach(), drawn.grad))
    (ours, our_grad), (theirs, their_grad) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(our_grad, their_grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strength", [0.5, 0.05, 0.01])
def test_gradient_is_the_derivative(strength):
    drawn = torch.rand(2, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: soft_rank(x, strength), drawn, eps=1e-7)


@pytest.mark.parametrize(("n", "strength"), [(4, 0.5), (20, 0.1), (64, 2 / 64), (3, 0.7)])
def test_affine_form_is_exact_where_it_is_used(n, strength):
    extreme = (values(n) > 0.5).double()  # the widest spread there is in [0, 1]
    for drawn in (values(n), extreme):
        torch.testing.assert_close(soft_rank(drawn, strength, spread=1.0), soft_rank(drawn, strength))


def test_affine_form_is_not_used_below_the_bound():
    extreme = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    affine = 3.5 + (extreme - 0.5) / 0.3
    ranks = soft_rank(extreme, 0.3, spread=1.0)  # 6 * 0.3 < 2
    assert not torch.allclose(ranks, affine)
    torch.testing.assert_close(ranks, soft_rank(extreme, 0.3))


def test_many_rows_are_split(monkeypatch):
    whole = soft_rank(values(10, rows=9), 0.01)
    monkeypatch.setattr("losses.soft_rank.ROWS_AT_ONCE", 200)  # two rows of 10 x 10 at a time
    torch.testing.assert_close(soft_rank(values(10, rows=9), 0.01), whole)


def test_arguments_are_not_changed():
    drawn = values(5)
    soft_rank(drawn, 0.01)
    assert torch.equal(drawn, values(5))

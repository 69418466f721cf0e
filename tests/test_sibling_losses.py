"""The siblings' losses against their released code (tests/golden/siblings), slow definitions and numbers by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from losses.cross_entropy import identity_loss
from losses.deen import cross_modality_pair, orthogonality
from losses.mclnet import marginal_centre, modality_confusion, modality_recognition
from losses.mutual import divergence, head_distillation, head_identity, view_distillation
from losses.triplet import batch_hard, centre_cross_modality, weighted_regularised
from tests.conftest import golden

FILES = {name: golden(f"siblings/{name}_losses") for name in ("agw", "caj", "mclnet", "deen", "ivreid", "djanet")}
CASES = [(name, case) for name, file in FILES.items() for case in file["cases"].tolist() if f"{case}__loss" in file]
# The released IV-REID code reshapes by the first identity's count, so that unequal counts give a wrong number silently.
SKIPPED = {"tri_m0.3_unequal_counts", "tri_m0.2_unequal_counts"}
# Rows 0..11 of the specifications' tables; labels 0, 0, 1, 1 repeated.
X = torch.tensor([
    [1.24, 0.77, -0.98], [1.13, -0.48, -0.56], [-1.25, 1.15, 1.16], [0.03, 1.02, -0.09], [0.71, -0.44, -0.14],
    [0.52, 0.83, -0.29], [0.09, 0.60, -0.04], [-1.14, 0.43, 1.24], [0.94, 0.89, -0.71], [1.40, -0.35, -0.86],
    [-1.30, 0.85, 1.29], [-0.17, 1.29, 0.04], [1.02, -0.50, -0.44], [0.31, 0.64, -0.02], [0.07, 0.91, -0.10],
    [-0.90, 0.21, 1.05],
])  # fmt: skip
Y = torch.tensor([0, 0, 1, 1] * 4)


def halves(rows):
    """Modalities of a batch whose first half is visible."""
    return (torch.arange(rows) >= rows // 2).long()


def cpm(features, labels):
    half = len(features) // 2
    return cross_modality_pair(features[:half], features[half:], labels[:half], halves(half))


def ort(features):
    return orthogonality(*features.chunk(3)[1:])


def term(name, case, value):
    """(loss of the differentiable inputs, their names) of a golden case; None where no function of ours has it."""
    family, _, rest = case.partition("_")
    labels = value("labels")
    if family in ("wrt", "hard", "tri", "cpm", "qct"):
        margin = float(rest[1:4]) if rest.startswith("m") and rest[1:2].isdigit() else None
        loss = {
            "wrt": weighted_regularised, "cpm": cpm, "hard": partial(batch_hard, margin=margin or 0.3),
            "tri": partial(batch_hard, margin=margin),
            "qct": lambda f, y: centre_cross_modality(f, y, halves(len(f)), margin or 0.7),
        }[family]  # fmt: skip
        return (lambda feat: loss(feat, labels)), ["feat"]
    if family.startswith("adp"):
        alpha, gamma, square = (int(digit) for digit in family[3:])
        return (lambda feat: weighted_regularised(feat, labels, alpha, gamma, bool(square))), ["feat"]
    if family in ("ica", "cca"):
        kind = "constant" if family == "ica" else "count"
        numbers = {"sigma": float(value("sigma")), "rho": float(value("rho")), "nearest": kind}
        return (lambda x, centers: marginal_centre(x, labels, centers, **numbers)), ["x", "centers"]
    if family == "modality":
        modalities = value("target").argmax(dim=1)
        recognised = rest.startswith("Lm")
        return (lambda s: modality_recognition(s, modalities) if recognised else modality_confusion(s)), ["logits"]
    if family == "kl" and name == "caj":
        return view_distillation, ["pred", "target"]
    if family == "kl":
        classes = value("student").shape[1] if rest.startswith("mean") else 1
        return (lambda student, teacher: divergence(student, teacher).mean() / classes), ["student", "teacher"]
    if family == "ort":
        return ort, ["feat"]
    return (partial(identity_loss, pids=labels), ["logits"]) if family == "id" else total(name, case, value)


def total(name, case, value):
    """The released sum of a method's losses."""
    labels = value("labels")
    if name == "ivreid":
        positions = value_of("ivreid", f"positions_rgb_{case.rsplit('_', 1)[1]}")
        visible = torch.ones(len(value("pids")), dtype=torch.long).scatter(0, positions, 0)
        return partial(ivreid_total, pids=value("pids"), modalities=visible, regdb="regdb" in case), [
            "feat", "score", "rgb_head", "ir_head",
        ]  # fmt: skip
    if case == "total":
        return (lambda f, z: identity_loss(z, labels) + batch_hard(f, labels, 0.3) + deen_extra(f, labels)), [
            "feat", "logits",
        ]  # fmt: skip
    triplets = {
        "total_agw": lambda f: weighted_regularised(f, labels), "total_base": lambda f: batch_hard(f, labels, 0.3),
        "total_default": lambda f: batch_hard(f, labels, 0.7),
        "total_qct": lambda f: centre_cross_modality(f, labels, halves(len(f))),
    }  # fmt: skip
    if case in triplets:
        return (lambda f, z: identity_loss(z, labels) + triplets[case](f)), ["feat", "logits"]
    weight = float(value("kl_weight"))

    def caj(f, z):
        plain, _, infrared = z.chunk(3)
        both = identity_loss(z, labels) + weighted_regularised(f, labels, square=True)
        return both + weight * view_distillation(plain, infrared)

    return caj, ["feat", "logits"]


def deen_extra(features, labels):
    original, first, second = features.chunk(3)
    pids = labels[: len(original)]
    pairs = sum(cross_modality_pair(original, g, pids, halves(len(pids))) for g in (first, second))
    return 0.8 * pairs + 0.01 * orthogonality(first, second)


def ivreid_total(feat, score, rgb_head, ir_head, pids, modalities, regdb):
    heads = head_identity(rgb_head, ir_head, pids, modalities)
    taught = head_distillation(rgb_head, ir_head, modalities, "mean" if regdb else "batchmean")
    return identity_loss(score, pids) + heads + taught + batch_hard(feat, pids, 0.2 if regdb else 0.3)


def value_of(name, key):
    return torch.as_tensor(FILES[name][key]) if key in FILES[name] else None


@pytest.mark.parametrize(("name", "case"), [pair for pair in CASES if "soft" not in pair[1] and pair[1] not in SKIPPED])
def test_golden(name, case):
    file = FILES[name]
    loss, inputs = term(name, case, lambda key: value_of(name, f"{case}__{key}"))
    tensors = [value_of(name, f"{case}__{key}").clone().requires_grad_() for key in inputs]
    value = loss(*tensors)
    value.backward()
    if not np.isfinite(file[f"{case}__loss"]):  # float32 overflows in the released code; ours gives the float64 value
        assert value.item() == pytest.approx(float(file[f"{case}__loss64"]), rel=1e-5)
        assert all(tensor.grad.isfinite().all() for tensor in tensors)
        return
    assert value.item() == pytest.approx(float(file[f"{case}__loss"]), rel=1e-5, abs=2e-7)
    for key, tensor in zip(inputs, tensors):
        expected = file[f"{case}__grad_{key}"]
        # One row in its block: a term of weight 0 there takes the root of 0, whose gradient is not a number; ours has
        # none.
        if case != "qct_one_image_per_block":
            gradient = np.zeros_like(expected) if tensor.grad is None else tensor.grad.numpy()
            assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max() + 1e-7


@pytest.mark.parametrize(
    ("loss", "value", "norm", "first"),
    [
        (lambda f: batch_hard(f[:8], Y[:8], 0.3), 0.707987, 0.904607, [-0.0115136, 0.179022, -0.0555519]),
        (lambda f: weighted_regularised(f[:8], Y[:8]), 0.588628, 0.488749, [-0.0155345, 0.0697249, -0.0128823]),
        (
            lambda f: weighted_regularised(f[:12], Y[:12], 2, 3, True),
            0.826542,
            2.1324,
            [-0.0134239, 0.104568, -0.0226328],
        ),
        (lambda f: weighted_regularised(f[:12], Y[:12], 2, 3), 0.912973, 1.59355, [-0.0109284, 0.106642, -0.0258369]),
        (lambda f: centre_cross_modality(f, Y, halves(16)), 0.423964, 0.125137, [0.0107223, 0.023709, -0.0167568]),
        (lambda f: cpm(f, Y), 0.72425, 0.5, [0.0862745, 0.0124434, -0.0895928]),
    ],
    ids=["hard", "wrt", "squared", "weighted", "centres", "cpm"],
)
def test_specified_numbers(loss, value, norm, first):
    features = X.clone().requires_grad_()
    result = loss(features)
    result.backward()
    assert result.item() == pytest.approx(value, rel=1e-5)
    assert features.grad.norm().item() == pytest.approx(norm, rel=1e-5)
    assert features.grad[0].tolist() == pytest.approx(first, rel=2e-5)


def test_hardest_pair_by_hand():
    # Positives at 1 and sqrt 2, nearest negatives at sqrt 2, 1, 2, 1: hinges 0, 0.3, 0, sqrt 2 - 1 + 0.3; a quarter of
    # each.
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert batch_hard(features, torch.tensor([0, 0, 1, 1]), 0.3).item() == pytest.approx((0.6 + 2**0.5 - 1) / 4)


def test_far_negatives_lose_their_weight():
    near = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 3.0]])
    far = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 20.0], [1.0, 30.0]])
    pids = torch.tensor([0, 0, 1, 1])
    assert weighted_regularised(near, pids).item() == pytest.approx(0.202700, rel=1e-5)
    assert weighted_regularised(far, pids).item() == pytest.approx(5.55284, rel=1e-5)  # farther apart, yet worse


def test_marginal_centre_by_hand():
    # Squares 1, 4, 16 and 4, 9... of v to the centres 0 and 10: compact 31 / 5; nearest 1 of each, 3 and 2 rows of
    # them.
    centres = torch.tensor([[0.0], [10.0], [25.0]])
    features, labels = torch.tensor([[1.0], [2.0], [4.0], [11.0], [13.0]]), torch.tensor([0, 0, 0, 1, 1])
    assert marginal_centre(features, labels, centres, 1, 120, "count").item() == pytest.approx(24.2)
    assert marginal_centre(features, labels, centres, 1, 120).item() == pytest.approx(22)
    features[0] = 0  # on its centre: neither the nearest row nor counted
    assert marginal_centre(features, labels, centres, 1, 120, "count").item() == pytest.approx(23)
    with pytest.raises(ValueError, match="constant or count"):
        marginal_centre(features, labels, centres, 1, 120, "mean")


def test_heads_by_hand():
    visible = torch.tensor([[1.0, 0, 0], [2, 1, 0], [0, 0, 1], [0, -1, 1]])
    infrared = torch.tensor([[0.5, 0.5, 0], [1, 0, 0], [0, 1, 2], [0, 0, 0.5]])
    modalities, pids = torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 2, 2])
    assert head_identity(visible, infrared, pids, modalities).item() == pytest.approx(0.407606 + 0.682813, rel=1e-5)
    assert head_distillation(visible, infrared, modalities).item() == pytest.approx(0.193118, rel=1e-5)
    assert head_distillation(visible, infrared, modalities, "mean").item() == pytest.approx(0.0643725, rel=1e-5)
    with pytest.raises(ValueError, match="batchmean or mean"):
        head_distillation(visible, infrared, modalities, "sum")


def test_modality_losses_by_hand():
    logits = torch.tensor([[2.0, -1], [0.5, 0.5], [-1, 3], [0, 1]])
    assert modality_recognition(logits, halves(4)).item() == pytest.approx(0.268286, rel=1e-5)
    assert modality_confusion(logits).item() == pytest.approx(1.26829, rel=1e-5)


def slow_centres(features, pids, modalities, margin):
    """centre_cross_modality, row by row."""
    pull, push = [], []
    for i in range(len(pids)):
        own = features[(pids == pids[i]) & (modalities != modalities[i])]
        pull.append(np.linalg.norm(features[i] - own.mean(0)))
        foreign = [features[pids == pids[j]].mean(0) for j in range(len(pids)) if pids[j] != pids[i]]
        push.append(np.mean([max(margin - np.linalg.norm(features[i] - centre), 0) for centre in foreign]))
    return (np.mean(pull) + np.mean(push)) / 2


def slow_pair(base, generated, pids, modalities):
    """cross_modality_pair, identity by identity."""
    ids = np.unique(pids)
    a, b = (np.stack([base[(pids == k) & (modalities == m)].mean(0) for k in ids]) for m in (0, 1))
    d, e = (np.stack([generated[(pids == k) & (modalities == m)].mean(0) for k in ids]) for m in (0, 1))
    total = 0.0
    for near, crossed, made in ((a, b, d), (b, a, e)):
        for i in range(len(ids)):
            across = np.linalg.norm(crossed[i] - made[i])
            total += max(across - np.linalg.norm(near[i] - made[i]) + 0.2, 0)
            for centres in (made, near):
                nearest = min(np.linalg.norm(centres[i] - centres[j]) for j in range(len(ids)) if j != i)
                total += max(across - nearest + 0.2, 0) / 2
    return total / len(ids) / 2


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition_in_any_order_and_with_unequal_counts(seed):
    rng = np.random.default_rng(seed)
    pids = np.concatenate([np.repeat(np.arange(4), 2), rng.integers(0, 4, 7)])  # each identity in both modalities
    modalities = np.concatenate([np.tile([0, 1], 4), rng.integers(0, 2, 7)])
    order = rng.permutation(len(pids))
    pids, modalities = pids[order], modalities[order]
    base, generated = rng.normal(size=(2, len(pids), 5))
    arrays = [torch.as_tensor(array) for array in (base, generated, pids, modalities)]
    assert cross_modality_pair(*arrays).item() == pytest.approx(slow_pair(base, generated, pids, modalities), rel=1e-9)
    centres = centre_cross_modality(arrays[0], *arrays[2:], margin=3.0)
    assert centres.item() == pytest.approx(slow_centres(base, pids, modalities, 3.0), rel=1e-9)


LABELLED = {
    "hard": lambda f, y, m: batch_hard(f, y, 0.3),
    "wrt": lambda f, y, m: weighted_regularised(f, y, square=True),
    "centres": lambda f, y, m: centre_cross_modality(f, y, m),
    "cpm": lambda f, y, m: cross_modality_pair(f, f * 0.9, y, m),
    "marginal": lambda f, y, m: marginal_centre(f, y, f.detach()[:5] + 1, 8.0, 1.0),
    "heads": lambda f, y, m: head_distillation(f, f * 0.9, m),
}


@pytest.mark.parametrize("loss", LABELLED.values(), ids=LABELLED)
@pytest.mark.parametrize(
    ("pids", "modalities"),
    [
        ([0] * 6, [0, 0, 0, 1, 1, 1]),
        ([0, 0, 1, 1, 2, 2], [0] * 6),
        ([0, 1, 2, 3, 4, 0], [0, 0, 0, 1, 1, 1]),
        ([0] * 6, [1] * 6),
    ],
    ids=["one identity", "one modality", "hardly a pair", "one of both"],
)
def test_poor_batches_give_finite_losses_and_gradients(loss, pids, modalities):
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = loss(features, torch.tensor(pids), torch.tensor(modalities))
    value.backward()
    assert value.isfinite() and features.grad.isfinite().all()


@pytest.mark.parametrize("loss", LABELLED.values(), ids=LABELLED)
def test_identical_rows_in_half_precision(loss):
    features = torch.ones(6, 4, dtype=torch.bfloat16).requires_grad_()
    value = loss(features, torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1] * 3))
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and features.grad.isfinite().all()

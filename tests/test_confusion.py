"""MCLNet's adversarial step against the released code, as it ran on PyTorch 1.2 (tests/golden/siblings)."""

import numpy as np
import pytest
import torch

from engine.optim import sgd
from engine.step import step_within_graph
from losses.mclnet import modality_confusion, modality_recognition
from models.mclnet import RULES, Discriminator
from models.released import released_names
from tests.conftest import golden

FILE = golden("siblings/mclnet_losses")


def test_step_of_the_discriminator():
    u = torch.tensor(FILE["dstep_u"]).requires_grad_()
    network = Discriminator(u.shape[1], len(FILE["dstep_param.map1.bias"]))
    state = network.state_dict()
    names = {ours: theirs for theirs, ours in released_names([f"discriminator.{key}" for key in state], RULES).items()}
    released = {key: names[f"discriminator.{key}"] for key in state}
    network.load_state_dict({key: torch.as_tensor(FILE[f"dstep_param.{theirs}"]) for key, theirs in released.items()})
    modalities = torch.ones(len(u), dtype=torch.long)
    modalities[: int(FILE["dstep_visible_rows"])] = 0
    logits = network(u)
    loss = modality_recognition(logits, modalities)
    assert loss.item() == pytest.approx(float(FILE["dstep_Lm"]), rel=1e-5)
    step_within_graph(loss, sgd([{"params": list(network.parameters()), "lr": float(FILE["dstep_lr"])}], 5e-4))
    confused = modality_confusion(logits)
    assert confused.item() == pytest.approx(float(FILE["dstep_Le_a"]), rel=1e-5)
    confused.backward()
    expected = FILE["dstep_grad_Le_u_a"]
    assert np.abs(u.grad.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
    for key, theirs in released.items():
        assert network.state_dict()[key].numpy() == pytest.approx(FILE[f"dstep_after.{theirs}"], rel=1e-5, abs=1e-6), (
            key
        )

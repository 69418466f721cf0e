import numpy as np
import pytest
import torch

from models.modules.mda import ModalityDistributionAdapter
from models.modules.norm import BatchNorm2d
from models.modules.pooling import gem_pool
from tests.conftest import golden

MDA = golden("mda")
GEM = golden("gem")


def golden_adapter() -> ModalityDistributionAdapter:
    adapter = ModalityDistributionAdapter(int(MDA["in_channels"]), int(MDA["m_num"]))
    state = {name.removeprefix("param."): torch.from_numpy(MDA[name]) for name in MDA if name.startswith("param.")}
    result = adapter.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in result.missing_keys)
    return adapter


def test_adapter_in_eval_mode():
    out = golden_adapter().eval()(torch.from_numpy(MDA["x"]))
    assert out.detach().numpy() == pytest.approx(MDA["out_eval"], rel=1e-4, abs=1e-5)


def test_adapter_in_training_mode_with_gradients_and_buffers():
    adapter, x = golden_adapter().train(), torch.from_numpy(MDA["x"]).requires_grad_()
    out = adapter(x)
    assert out.detach().numpy() == pytest.approx(MDA["out_train"], rel=1e-4, abs=1e-5)
    (out * torch.from_numpy(MDA["R"])).sum().backward()
    close(x.grad.numpy(), MDA["grad_x_train"])
    # A constant added to a mask's logits changes no softmax: the gradient of that bias is rounding noise around 0.
    assert adapter.sc_conv.bias.grad.abs().max() < 1e-4
    for name, parameter in adapter.named_parameters():
        if name != "sc_conv.bias":
            close(parameter.grad.numpy(), MDA[f"grad_param_train.{name}"])
    for name, buffer in adapter.named_buffers():
        if f"after_train.{name}" in MDA:
            close(buffer.numpy(), MDA[f"after_train.{name}"])


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(np.abs(expected).max()))


def test_new_adapter_is_the_identity():
    x = torch.randn(3, 8, 4, 2)
    assert torch.equal(ModalityDistributionAdapter(8, 2)(x), x)


def test_adapter_does_not_widen_under_mixed_precision():
    x = torch.randn(2, 8, 4, 2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ModalityDistributionAdapter(8, 2)(x).dtype == torch.bfloat16


def test_gem():
    x = torch.from_numpy(GEM["x"]).requires_grad_()
    pooled = gem_pool(x)
    assert pooled.detach().numpy() == pytest.approx(GEM["gem"], rel=1e-5)
    (pooled * torch.from_numpy(GEM["R"])).sum().backward()
    assert x.grad.numpy() == pytest.approx(GEM["grad_x"], rel=1e-4, abs=1e-9)


def test_gem_by_hand():
    fmap = torch.tensor([1.0, 2.0, 3.0, 0.0]).view(1, 1, 2, 2)
    assert gem_pool(fmap).item() == pytest.approx((36 / 4) ** (1 / 3))  # 1 + 8 + 27
    assert gem_pool(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1e-4)
    assert gem_pool(fmap, p=1.0).item() == pytest.approx(1.5)


def test_gem_pools_half_precision_in_float32():
    assert gem_pool(torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)).item() == pytest.approx(300)  # 300^3 > 65504


def test_gem_of_a_map_with_negative_values_is_finite():
    fmap = torch.full((1, 1, 2, 2), -1.0, requires_grad=True)
    gem_pool(fmap).sum().backward()
    assert torch.isfinite(fmap.grad).all()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_batch_norm_is_right_to_rounding_in_every_layout(layout):
    """Its answer, its statistics and its gradients; torch's own are 100 times less exact in channels_last on a CPU."""
    x, given = torch.randn(2, 16, 8, 96, 48, generator=torch.Generator().manual_seed(0))
    norm, exact = BatchNorm2d(8), torch.nn.BatchNorm2d(8).double()
    found = []
    for own in (norm, exact):
        torch.nn.init.normal_(own.weight, generator=torch.Generator().manual_seed(1))
        images = (2 * x + 3).to(own.weight.dtype, memory_format=layout).requires_grad_()
        out = own(images)
        (out * given).sum().backward()
        assert own.num_batches_tracked == 1 and out.is_contiguous(memory_format=layout)
        found.append([out, own.running_mean, own.running_var, images.grad, own.weight.grad, own.bias.grad])
    for ours, expected, level in zip(*found, [3e-6] * 4 + [1e-4] * 2):  # torch sums the parameters' gradients up itself
        assert (ours - expected).abs().max() < level * expected.abs().max()

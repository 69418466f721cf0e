"""Blocks of the siblings' networks against their released code (tests/golden/siblings) and slow definitions."""

import pytest
import torch

from models.djanet import RULES
from models.modules.aggregation import Aggregation, ChannelAttention, Expansion, PositionAttention
from models.modules.cross_layer import CrossLayerFusion, MambaLayer
from models.modules.mamba import Mamba, selective_scan
from models.modules.nonlocal_block import NonLocalBlock, attended
from models.released import released_names
from tests.conftest import golden

DEEN = golden("siblings/deen_modules")


def load(module, file, prefix):
    """The released parameters; `g` is a list of one there, in blocks without levels."""
    marker = f"{prefix}_param."
    state = {key.removeprefix(marker): torch.as_tensor(array) for key, array in file.items() if key.startswith(marker)}
    module.load_state_dict({key.replace("g.0.", "g."): tensor for key, tensor in state.items()})
    return module


def check(module, file, prefix, inputs=("x0",), level=1e-5):
    """Outputs in both modes and gradients of sum(output * R)."""
    load(module, file, prefix)
    arrays = [torch.tensor(file[f"{prefix}_{name}"]).requires_grad_() for name in inputs]
    expected = {
        key.removeprefix(f"{prefix}_"): torch.as_tensor(file[key])
        for key in file
        if key.startswith(prefix) and file[key].dtype.kind == "f"
    }

    def close(ours, key):
        assert torch.allclose(ours, expected[key], rtol=0, atol=level * float(expected[key].abs().max()) + 1e-6), key

    with torch.no_grad():
        close(module.eval()(*arrays), "out_eval")
    output = module.train()(*arrays)
    close(output, "out_train")
    (output * expected["R"]).sum().backward()
    for name, array in zip(inputs, arrays):
        close(array.grad, f"grad_{name}")
    for name, parameter in module.named_parameters():
        released = f"grad.{name}" if f"grad.{name}" in expected else f"grad.{name.replace('g.', 'g.0.')}"
        # A bias before a norm that takes it out again has no gradient but rounding.
        if not name.endswith(("W.0.bias", "narrow.bias")):
            close(parameter.grad, released)


def test_nonlocal_block():
    # A batch norm takes the scale of its one channel out again: the gradient of W is mostly rounding.
    check(NonLocalBlock(6, 1), golden("siblings/agw_nonlocal"), "nonlocal", inputs=("x",), level=1e-4)


@pytest.mark.parametrize(
    ("make", "prefix"),
    [
        (lambda: ChannelAttention(6, 4, stride=1), "cnl_flag0"),
        (lambda: ChannelAttention(6, 4, stride=2), "cnl_flag1"),
        (lambda: PositionAttention(6, 4), "pnl_same"),
        (lambda: PositionAttention(6, 4), "pnl_double"),
        (lambda: Aggregation(6, 4, stride=1), "mfa_flag0"),
        (lambda: Aggregation(6, 4, stride=2), "mfa_flag1"),
    ],
    ids=["channels", "channels, strided", "positions", "positions, smaller map", "both", "both, strided"],
)
def test_aggregation(make, prefix):
    check(make(), DEEN, prefix, inputs=("x0", "x1"), level=2e-5)


DJANET = golden("siblings/djanet_modules")


def test_wider_nonlocal_block():
    check(NonLocalBlock(6, 3), DJANET, "nonlocal_half", level=2e-5)


@pytest.mark.parametrize(("make", "prefix"), [(Mamba, "mamba"), (MambaLayer, "mamba_layer")], ids=["core", "layer"])
def test_mamba(make, prefix):
    check(make(6, 5), DJANET, prefix, level=2e-5)


@pytest.mark.parametrize(("number", "earlier", "scale"), [(0, 6, 4), (1, 10, 4), (2, 8, 2), (3, 16, 1)])
def test_cross_layer_fusion(number, earlier, scale):
    block, ours = CrossLayerFusion(16, earlier, scale, positions=18, inner=4), f"fusion.{number}."
    names = {
        theirs.replace(f"layerATT{number}.", f"fusion{number}_param."): name.removeprefix(ours)
        for theirs, name in released_names([ours + key for key in block.state_dict()], RULES).items()
    }
    file = {
        key.replace(old.split("_param.")[1], new): array
        for old, new in names.items()
        for key, array in DJANET.items()
        if key in (old, old.replace("_param.", "_grad."))
    }
    file |= {
        key: array
        for key, array in DJANET.items()
        if not key.startswith((f"fusion{number}_param", f"fusion{number}_grad."))
    }
    check(block, file, f"fusion{number}", inputs=("x0", "x1"), level=2e-5)


@pytest.mark.parametrize("length", [1, 16, 37])
def test_selective_scan_by_the_definition(length):
    generator = torch.Generator().manual_seed(length)
    x, steps = torch.randn(2, 2, 3, length, generator=generator).double()
    write, read = torch.randn(2, 2, 4, length, generator=generator).double()
    decay = -torch.rand(3, 4, generator=generator).double()
    expected, state = torch.zeros(2, 3, length).double(), torch.zeros(2, 3, 4).double()
    for t in range(length):
        for n in range(4):
            state[:, :, n] = (steps[:, :, t] * decay[:, n]).exp() * state[:, :, n] + steps[:, :, t] * x[
                :, :, t
            ] * write[:, n, t, None]
            expected[:, :, t] += state[:, :, n] * read[:, n, t, None]
    assert torch.allclose(selective_scan(x, steps, decay, write, read), expected)
    with torch.no_grad():
        assert torch.allclose(selective_scan(x, steps, decay, write, read), expected)
    inputs = [part.requires_grad_() for part in (x[:1], steps[:1], decay, write[:1], read[:1])]
    assert length > 16 or torch.autograd.gradcheck(selective_scan, [part.detach().requires_grad_() for part in inputs])


def slow_mamba(layer, tokens):
    """[L, D] -> [L, D], token by token as the paper has it, with nothing of torch's own layers."""
    x, gate = (tokens @ layer.in_proj.weight.T).chunk(2, dim=1)
    padded = torch.cat([x.new_zeros(3, x.shape[1]), x])
    seen = [(padded[t : t + 4] * layer.conv1d.weight[:, 0].T).sum(0) + layer.conv1d.bias for t in range(len(x))]
    state, rows = x.new_zeros(x.shape[1], layer.states), []
    for u in (each * torch.sigmoid(each) for each in seen):
        step, write, read = (u @ layer.x_proj.weight.T).split([layer.rank, layer.states, layer.states])
        step = torch.log1p((step @ layer.dt_proj.weight.T + layer.dt_proj.bias).exp())[:, None]
        state = (-step * layer.A_log.exp()).exp() * state + step * u[:, None] * write
        rows.append(state @ read + layer.D * u)
    return torch.stack(rows) * gate * torch.sigmoid(gate) @ layer.out_proj.weight.T


@pytest.mark.parametrize("length", [2, 19])
def test_mamba_token_by_token_in_double_precision(length):
    torch.manual_seed(length)
    layer, found = Mamba(20, 5).double(), []
    for parameter in layer.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    tokens = torch.randn(2, length, 20).double().requires_grad_()
    weights = torch.randn(2, length, 20).double()
    for output in (layer(tokens), torch.stack([slow_mamba(layer, each) for each in tokens])):
        gradients = torch.autograd.grad((output * weights).sum(), [tokens, *layer.parameters()])
        found.append([output, *gradients])
    assert all(torch.allclose(ours, slow, rtol=1e-12, atol=1e-12) for ours, slow in zip(*found))


def test_mamba_is_causal_and_starts_with_steps_between_its_bounds():
    torch.manual_seed(0)
    mamba, tokens = Mamba(8), torch.randn(2, 20, 8)
    changed = tokens.clone()
    changed[:, 12:] += 1
    difference = (mamba(tokens) - mamba(changed)).abs().amax(dim=(0, 2))
    assert (difference[:12] < 1e-6).all() and (difference[12:] > 1e-6).all()
    steps = torch.nn.functional.softplus(mamba.dt_proj.bias)
    assert steps.min() >= 0.999e-3 and steps.max() <= 0.1001


def test_expansion():
    check(Expansion(8, dropout=0.0), DEEN, "dee_nodrop")


def test_expansion_drops_single_values():
    torch.manual_seed(0)
    module = Expansion(8, dropout=0.25).train()
    x = torch.ones(2, 8, 40, 40)
    values = module(x)[:2]
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (values == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("inner", [1, 3])
def test_nonlocal_block_by_the_definition(inner):
    torch.manual_seed(0)
    block, x = NonLocalBlock(4, inner).double().eval(), torch.randn(2, 4, 3, 5).double()
    torch.nn.init.normal_(block.W[1].weight)
    theta, phi, g = (layer(x).flatten(2) for layer in (block.theta, block.phi, block.g))
    y = torch.zeros(2, inner, 15).double()
    for m in range(15):
        for j in range(15):
            y[:, :, m] += (theta[:, :, m] * phi[:, :, j]).sum(1, keepdim=True) * g[:, :, j] / 15
    assert torch.allclose(block(x), x + block.W(y.reshape(2, inner, 3, 5)))


def test_blocks_start_as_the_identity():
    high, low = torch.randn(2, 8, 4, 2), torch.randn(2, 4, 8, 4)
    assert torch.equal(NonLocalBlock(8, 1)(high), high)
    assert torch.equal(Aggregation(8, 4, stride=2)(high, low), high)


def test_nonlocal_numbers_of_the_specification():
    block = NonLocalBlock(2, 1).eval()
    values = {"g": ([1, 2], [0.5]), "theta": ([1, -1], [0]), "phi": ([0.5, 1], [0.1])}
    for name, (weight, bias) in values.items():
        layer = getattr(block, name)
        layer.weight.data = torch.tensor(weight).float().reshape(1, 2, 1, 1)
        layer.bias.data = torch.tensor(bias).float()
    block.W[0].weight.data = torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1)
    block.W[0].bias.data.zero_()
    block.W[1].weight.data.fill_(1)
    output = block(torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]]]))
    assert output.flatten().tolist() == pytest.approx([18.8749, -15.8749, -35.7498, 38.7498], rel=1e-5)


@pytest.mark.parametrize("sizes", [(3, 5, 4, 2), (2, 3, 9, 9)], ids=["positions first", "channels first"])
def test_both_orders_of_the_products_agree(sizes):
    channels, positions, others, values = sizes
    query, key, value = (
        torch.randn(2, c, n).double() for c, n in ((channels, positions), (channels, others), (values, others))
    )
    expected = torch.einsum("bcn,bcm,bsm->bsn", query, key, value)
    assert torch.allclose(attended(query, key, value), expected)


def test_odd_maps_are_named():
    with pytest.raises(ValueError, match="3 x 3"):
        PositionAttention(8, 4)(torch.randn(2, 8, 3, 3), torch.randn(2, 4, 3, 3))

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from configs import load_config
from engine.checkpoint import load_weights_into, open_checkpoint
from losses import build_criterion
from models import build_model
from models.backbones.resnet import RESNETS, build_resnet
from models.mcja import MCJA
from tests.conftest import GOLDEN, golden
from utils.errors import UserError
from utils.types import Labels, Modality

FULL = golden("full_model")
FLAGSHIP = str(Path(main.__file__).parent / "configs" / "SYSU_MCJA.yml")
NAMES = json.loads((GOLDEN / "full_model_public_state_dict.json").read_text())


def small(*opts: str, num_ids: int = 5):
    return build_model(
        load_config(None, ["pretrained", "none", "backbone", "resnet18", "mda_layers", "[0,1,2,0]", *opts]), num_ids
    )


def filled_by_rule(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that the golden model was given: seeded by each entry's name."""
    filled = {}
    for name, tensor in state.items():
        prefix, _, leaf = name.rpartition(".")
        z = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(tuple(tensor.shape))
        if leaf == "num_batches_tracked":
            values = np.zeros(())
        elif f"{prefix}.running_mean" in state:
            values = {"weight": 1 + 0.1 * z, "running_var": 1 + 0.1 * np.abs(z)}.get(leaf, 0.1 * z)
        else:
            values = 0.05 * z
        filled[name] = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(tensor.dtype)
    return filled


@pytest.fixture(scope="module")
def golden_model():
    """The flagship's own file, which must be the published network; 10 identities, as in the golden's head."""
    model = build_model(load_config(FLAGSHIP, ["pretrained", "none"]), 10)
    model.load_state_dict(filled_by_rule(model.state_dict()))
    return model


def noise_images(seed: int, count: int) -> torch.Tensor:
    rng = np.random.Generator(np.random.PCG64(seed))
    return torch.from_numpy(rng.standard_normal((count, 3, 96, 48)).astype(np.float32))


def test_names_and_shapes_are_the_published_ones(golden_model):
    own = {
        name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in golden_model.state_dict().items()
    }
    assert own == {entry["name"]: (entry["shape"], entry["dtype"].removeprefix("torch.")) for entry in NAMES}


def test_golden_embeddings(golden_model):
    with torch.no_grad():
        embeddings = golden_model.eval()(noise_images(int(FULL["input_seed_eval"]), 4)).embeddings.numpy()
    assert embeddings == pytest.approx(FULL["emb_eval"], rel=1e-3, abs=1e-4 * float(np.abs(FULL["emb_eval"]).max()))


def test_golden_losses_and_gradients(golden_model):
    pids = torch.from_numpy(FULL["train_ids"])
    modalities = torch.tensor(
        [Modality.INFRARED if camera in (3, 6) else Modality.VISIBLE for camera in FULL["train_cams"]]
    )
    images = noise_images(int(FULL["input_seed_train"]), 8)
    before = {name: tensor.clone() for name, tensor in golden_model.state_dict().items()}
    golden_model.zero_grad()
    criterion = build_criterion(load_config(FLAGSHIP), num_ids=10)
    loss, parts = criterion(golden_model.train()(images), Labels(pids, pids, modalities))
    loss.backward()
    golden_model.load_state_dict(before)
    assert loss.item() == pytest.approx(float(FULL["loss64"]), rel=1e-3)
    assert parts["id"].item() == pytest.approx(float(FULL["loss_id64"]), rel=1e-3)
    assert parts["cmr"].item() == pytest.approx(float(FULL["loss_cmr64"]), rel=1e-3)
    norms = {name: p.grad.norm().item() for name, p in golden_model.named_parameters() if p.grad is not None}
    expected = dict(zip(FULL["grad_norm_names"].tolist(), FULL["grad_norm"].tolist()))
    assert set(norms) == {name for name, norm in expected.items() if not np.isnan(norm)}
    assert norms == {name: pytest.approx(expected[name], rel=2e-2, abs=1e-5) for name in norms}


@pytest.mark.parametrize(
    ("backbone", "width"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048), ("resnet101", 2048)]
)
def test_backbones(backbone, width):
    model = build_model(load_config(None, ["pretrained", "none", "backbone", backbone, "mda_layers", "[1,1,1,1]"]), 7)
    output = model.eval()(torch.rand(1, 3, 64, 32))
    assert output.embeddings.shape == (1, width) and output.logits.shape == (1, 7)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_dropped_stride_doubles_the_map(backbone):
    sizes = [
        tuple(small("backbone", backbone, "drop_last_stride", drop).eval().features(torch.rand(1, 3, 64, 32)).shape[2:])
        for drop in ("false", "true")
    ]
    assert sizes == [(2, 1), (4, 2)]


def test_adapters_follow_the_last_blocks():
    expected = "backbone.layer2.0 backbone.layer2.1 MDA_2.0 backbone.layer3.0 MDA_3.0 backbone.layer3.1 MDA_3.1".split()
    model, order = small(), []
    for name in expected:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: order.append(name))
    model.eval()(torch.rand(1, 3, 64, 32))
    assert order == expected


def test_adapters_can_be_switched_off():
    assert not any("MDA" in name for name, _ in small("mda_layers", "[0,0,0,0]").named_modules())


def test_too_many_adapters():
    backbone = build_resnet(RESNETS["resnet18"], drop_last_stride=False)
    with pytest.raises(UserError, match="stage 2 has only 2 blocks"):
        MCJA(backbone, 5, (0, 3, 0, 0), mda_masks=2)


def test_unknown_backbone_lists_the_choices():
    with pytest.raises(
        UserError, match="backbone = 'vgg16' is unknown; choose one of: resnet101, resnet18, resnet34, resnet50"
    ):
        small("backbone", "vgg16")


def test_what_is_not_trained():
    frozen = {name for name, p in small().named_parameters() if not p.requires_grad}
    assert frozen == {"bn_neck.bias", "backbone.fc.weight", "backbone.fc.bias"}


def test_pretrained_file(tmp_path):
    source = small().backbone.state_dict()
    torch.save(source, tmp_path / "resnet18.pth")
    loaded = small("pretrained", str(tmp_path / "resnet18.pth")).backbone
    assert torch.equal(loaded.layer4[1].conv2.weight, source["layer4.1.conv2.weight"])
    assert torch.equal(loaded.bn1.running_mean, source["bn1.running_mean"])


def test_pretrained_file_of_another_network(tmp_path):
    torch.save(small("backbone", "resnet34").backbone.state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(UserError, match="resnet34.pth: does not fit the backbone in .* entries, first layer"):
        small("pretrained", str(tmp_path / "resnet34.pth"))


def test_pretrained_is_torchvisions_first_version(monkeypatch):
    asked = []
    network = small().backbone.state_dict()

    def download(self, **kwargs):
        asked.append((self.url, kwargs["weights_only"], kwargs["check_hash"]))
        return network

    monkeypatch.setattr("torchvision.models.WeightsEnum.get_state_dict", download)
    loaded = small("pretrained", "imagenet").backbone
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", True, True)]
    assert torch.equal(loaded.conv1.weight, network["conv1.weight"])


def test_download_that_fails_says_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(UserError) as caught:
        small("pretrained", "imagenet")
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in str(caught.value)


def test_resume_needs_no_pretrained_weights(monkeypatch):
    monkeypatch.setattr("torchvision.models.WeightsEnum.get_state_dict", lambda *a, **k: pytest.fail("downloaded"))
    small("pretrained", "imagenet", "resume", "somewhere")


class TestPublishedWeights:
    def save(self, tmp_path, change=lambda state: None):
        state = small().state_dict()
        change(state)
        torch.save(state, tmp_path / "weights.pth")
        return open_checkpoint(str(tmp_path / "weights.pth"), best=True), state

    def test_load_by_name(self, tmp_path):
        checkpoint, state = self.save(tmp_path)
        model = small()
        load_weights_into(model, checkpoint, allow_other_head=True)
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())

    def test_other_head_is_left_out(self, tmp_path):
        checkpoint, state = self.save(tmp_path)
        model = small(num_ids=9)
        head = model.classifier.weight.clone()
        load_weights_into(model, checkpoint, allow_other_head=True)
        assert torch.equal(model.classifier.weight, head)
        assert torch.equal(model.bn_neck.weight, state["bn_neck.weight"])

    def test_everything_that_does_not_fit_is_listed_and_nothing_is_loaded(self, tmp_path):
        def change(state):
            del state["bn_neck.weight"]
            state["extra.weight"] = torch.zeros(1)
            state["MDA_2.0.ca_conv.weight"] = torch.zeros(128, 1, 12)

        checkpoint, _ = self.save(tmp_path, change)
        model = small()
        before = model.backbone.conv1.weight.clone()
        with pytest.raises(UserError, match="3 entries") as caught:
            load_weights_into(model, checkpoint, allow_other_head=True)
        for part in (
            "bn_neck.weight is missing",
            "extra.weight is unknown",
            "MDA_2.0.ca_conv.weight is (128, 1, 12), not (128, 1, 2)",
        ):
            assert part in str(caught.value)
        assert torch.equal(model.backbone.conv1.weight, before)


@pytest.mark.parametrize("training", [True, False])
def test_recomputing_changes_memory_only(training):
    images = noise_images(7, 4)
    found = []
    for key in ("false", "true"):
        torch.manual_seed(0)
        model = small("grad_checkpoint", key).train(training)
        for module in model.modules():  # adapters start as the identity, which would hide their share
            if hasattr(module, "norm_bn"):
                torch.nn.init.ones_(module.norm_bn.weight)
        output = model(images)
        output.logits.square().mean().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((output.embeddings, gradients, dict(model.named_buffers())))
    (plain, plain_gradients, plain_buffers), (saved, gradients, buffers) = found
    assert torch.equal(plain, saved) and plain_gradients.keys() == gradients.keys()
    assert all(torch.equal(plain_gradients[name], gradients[name]) for name in gradients)
    assert all(torch.equal(plain_buffers[name], buffers[name]) for name in buffers)
    assert {module.momentum for module in model.modules() if hasattr(module, "momentum")} == {0.1}


def test_recomputing_keeps_less_for_the_backward_pass():
    def kept(key: str) -> int:
        model, sizes = small("grad_checkpoint", key).train(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model(noise_images(7, 4))
        return sum(sizes)

    assert kept("true") < kept("false") / 2

"""The siblings' networks against their released code (tests/golden/siblings); weights by the released names."""

import copy
from functools import cache, partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.embed import Embedder
from models.agw import AGW
from models.backbones.resnet import RESNETS, build_resnet
from models.deen import DEEN
from models.djanet import DJANet
from models.fusion import folded
from models.ivreid import IVReID
from models.mclnet import MCLNet
from models.modules.vectors import joined, unit
from tests.conftest import golden
from tests.released import entries, fill, network_input


def backbone(name="resnet50"):
    return build_resnet(RESNETS[name], drop_last_stride=True)


@cache
def filled(make, name):
    """A network of the golden file `name` for the test, and the file; filled once for the whole module."""
    file = golden(f"siblings/{name}")
    model = make(backbone(), int(file["num_classes"])).eval()
    fill(model, name, model.released_names())
    return model, file


def close(ours, expected, noise, level):
    """Within `level` of the largest value, or a few times the reference's own rounding noise."""
    assert np.abs(ours.detach().numpy() - expected).max() <= max(level * np.abs(expected).max(), 3 * float(noise))


def check(file, prefix, level, **ours):
    for key, value in ours.items():
        close(value, file[f"{prefix}__{key}"], file[f"{prefix}__{key}_err"], level)


def both(file, visible="vis"):
    """(images of both modalities, their streams)."""
    images = [network_input(file[key], file) for key in (visible, "ir")]
    return torch.cat(images), torch.repeat_interleave(torch.arange(2), torch.tensor([len(part) for part in images]))


plain = partial(AGW, inner="none", power=1.0)


@pytest.mark.parametrize(("make", "prefix"), [(AGW, ""), (plain, "base_")], ids=["agw", "base"])
def test_agw_embeds(make, prefix):
    model, file = filled(make, "agw_model")
    images, modalities = both(file)
    with torch.no_grad():
        output, embedded = model(images, modalities), model.embed(images, modalities)
    assert torch.equal(output.embeddings, embedded)
    for key, rows in (("vis", slice(0, 4)), ("ir", slice(4, 8))):
        raw = {f"{key}_pool_raw": output.pooled[rows], f"{key}_fc_raw": embedded[rows]}
        check(file, f"{prefix}eval", 1e-5, **raw, **{f"{key}_fc": unit(embedded[rows])})


@pytest.mark.parametrize("vector", ["neck", "pool"])
def test_caj_embeds_both_mirrored_views(vector, monkeypatch):
    model, _ = filled(AGW, "agw_model")
    file = golden("siblings/caj_model")
    monkeypatch.setattr(model, "flip", True)
    monkeypatch.setattr(model, "vector", vector)
    with torch.no_grad():
        embedded = model.embed(*both(file, "vis0"))
    key = {"neck": "fc", "pool": "pool"}[vector]
    check(file, "eval_flip", 1e-5, **{f"vis_{key}": embedded[:4], f"ir_{key}": embedded[4:]})


DEENS = [(DEEN, "deen_model_sysu"), (partial(DEEN, depth=3), "deen_model_regdb")]


@pytest.mark.parametrize(("make", "name"), DEENS, ids=["four stages", "three stages"])
def test_deen_embeds(make, name, monkeypatch):
    model, file = filled(make, name)
    visible, infrared = network_input(file["vis"][:3], file), network_input(file["ir"][:2], file)
    with torch.no_grad():
        raw = model(visible)
        for vector in ("s7", "s8"):
            monkeypatch.setattr(model, "vector", vector)
            gallery, query = model.embed(visible, torch.zeros(3)), model.embed(infrared, torch.ones(2))
            check(file, "eval", 1e-5, **{vector.upper(): query @ gallery.T})
        for vector in ("neck", "pool"):
            monkeypatch.setattr(model, "vector", vector)
            expected = file[f"eval__vis_{vector}"][:, 0]
            close(model.embed(visible, torch.zeros(3)), expected, file[f"eval__vis_{vector}_err"], 1e-5)
    check(file, "eval", 1e-5, vis_pool_raw=raw.pooled, vis_neck_raw=raw.embeddings)


@pytest.mark.parametrize(("vector", "key"), [("s7", "sum"), ("s8", "weighted")])
def test_djanet_adds_similarities(vector, key):
    """As released for LLCM; the vectors are the golden ones."""
    file = golden("siblings/djanet_model")
    pooled, neck = ({k: torch.as_tensor(file[f"eval__{k}_{v}_raw"]) for k in ("vis", "ir")} for v in ("pool", "fc"))
    ours = {k: joined(vector, pooled[k], neck[k]).double() for k in ("vis", "ir")}
    expected = torch.as_tensor(file[f"eval__llcm_sim_{key}"])
    similarities = ours["ir"] @ ours["vis"].T
    assert torch.allclose(similarities, expected, atol=1e-5) or torch.allclose(similarities.T, expected, atol=1e-5)


NETWORKS = {
    "djanet": partial(DJANet, image_size=(64, 32)),
    "agw": AGW,
    "mclnet": MCLNet,
    "deen": DEEN,
    "deen-3": partial(DEEN, depth=3),
    "ivreid": IVReID,
}


@cache
def small(name):
    torch.manual_seed(0)
    model = NETWORKS[name](backbone("resnet18"), 5)
    for parameter in model.parameters():  # blocks that start as the identity would hide mistakes
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def small_batch():
    images = torch.randn(6, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    return images, torch.tensor([0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
def test_rows_come_in_the_order_given(name, training):
    model = small(name).train(training).double()
    images, streams = (part if part.dtype == torch.int64 else part.double() for part in small_batch())
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    with torch.no_grad():
        one, other = model(images, streams), model(images[order], streams[order])
        whole = torch.cat([order + 6 * branch for branch in range(len(one.logits) // 6)])
        for values, moved in zip(one[:3], other[:3]):
            assert torch.allclose(values[whole], moved, rtol=1e-6, atol=1e-9)
        if not training:
            vectors = model.embed(images, streams)
            assert torch.allclose(vectors[order], model.embed(images[order], streams[order]))
            alone = torch.cat([model.embed(images[i : i + 1], streams[i : i + 1]) for i in range(6)])
            assert torch.allclose(vectors, alone, rtol=1e-6, atol=1e-9)
            assert torch.equal(model(images).embeddings, model(images, torch.zeros(6)).embeddings)
    model.float()


def test_no_image_has_no_vector():
    embedder = Embedder(small("agw"), (64, 32), torch.device("cpu"), {})
    assert embedder([], "infrared").shape == (0, 512)


def test_a_stream_without_a_stem_is_refused():
    with pytest.raises(ValueError, match="streams from 0 to 2: there are 2 stems"):
        small("agw")(small_batch()[0], torch.tensor([0, 1, 2, 0, 1, 0]))


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputing_changes_nothing(name, monkeypatch):
    model = small(name).train()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    results = []
    for recompute in (False, True):
        model.load_state_dict(state)
        model.zero_grad()
        monkeypatch.setattr(model, "recompute", recompute)
        output = model(*small_batch())
        (output.logits.square().mean() + output.pooled.square().mean()).backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append([output.embeddings, *(g.clone() for g in gradients), *(b.clone() for b in model.buffers())])
    model.load_state_dict(state)
    for one, other in zip(*results):
        assert torch.equal(one, other)


@torch.inference_mode()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_fast_ways_give_the_same_vectors(name):
    model, (images, modalities) = copy.deepcopy(small(name)).train(), small_batch()
    model(images, modalities)  # statistics that are not those of a new norm
    model, images = model.eval().double(), images.double()
    expected = model.embed(images, modalities)

    def distance(network, images, dtype=None):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            found = network.embed(images, modalities)
        return (found.double() - expected).norm() / expected.norm()

    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) for network in (folded(model), model)]
    assert norms[0] < norms[1] / 2 and distance(folded(model), images) < 1e-10
    last = torch.channels_last
    assert distance(copy.deepcopy(model).to(memory_format=last), images.contiguous(memory_format=last)) < 1e-10
    assert distance(folded(model.float()), images.float()) < 1e-4
    assert 1e-6 < distance(folded(model, autocast=True), images.float(), torch.bfloat16) < 0.05


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_hold_each_trained_parameter_once(name):
    model = small(name)
    grouped = [parameter for group in model.groups().values() for parameter in group.parameters]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trained))
    assert set(model.HEAD) <= {key for key, parameter in model.named_parameters() if 5 in parameter.shape}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (AGW, "agw_model"),
        (MCLNet, "mclnet_model"),
        *DEENS,
        (IVReID, "ivreid_model"),
        (partial(DJANet, image_size=(384, 192)), "djanet_model"),
    ],
    ids=["agw", "mclnet", "deen", "deen-3", "ivreid", "djanet"],
)
def test_released_names_are_those_that_are_used(make, name):
    """Shapes of the golden list, and no name of a part that the released code never runs."""
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in entries(name)}
    with torch.device("meta"):
        classes = shapes[next(key for key in shapes if key.endswith("classifier.weight"))][0]
        model = make(backbone(), classes)
    table, state = model.released_names(), model.state_dict()
    assert sorted(table.values()) == sorted(state)
    assert {theirs: tuple(state[ours].shape) for theirs, ours in table.items()} == {key: shapes[key] for key in table}
    unused = [key for key in shapes if key not in table]
    stems = ("visible_module", "visible_moduleA", "thermal_module", "thermal_moduleA")
    never = [f"{stem}.{stem[:7]}.layer" for stem in stems]
    never += ["base_resnet.base.conv1", "base_resnet.base.bn1", "map2.", "local_conv.", "feat_bn2d."]
    modules = golden("siblings/djanet_modules")
    never += [f"layerATT{number}.{key}" for number in range(4) for key in modules[f"fusion{number}_unused"].tolist()]
    assert all(key.startswith(tuple(never)) or "deen_model_regdb" == name and ".layer4." in key for key in unused)


def test_published_numbers_of_parameters():
    """Those of the specifications, less the copies that are never run."""
    trunk = 23_508_032
    with torch.device("meta"):
        counts = [sum(p.numel() for p in make(backbone(), 395).parameters()) for make in (AGW, DEEN, IVReID)]
    stem = 64 * 3 * 49 + 128
    assert counts[0] == 71_365_839 - 2 * trunk + stem
    assert counts[1] == 89_044_320 - 2 * trunk + stem
    assert counts[2] == 24_348_043 + 2_511_638


def test_mirrored_views_of_a_symmetric_image_are_one():
    model = small("agw").eval()
    image = torch.randn(2, 3, 64, 16, generator=torch.Generator().manual_seed(3))
    image = torch.cat([image, image.flip(3)], dim=3)
    with torch.no_grad():
        model.flip = True
        both_views, one = model.embed(image, torch.zeros(2)), F.normalize(model(image).embeddings)
        model.flip = False
    assert torch.allclose(both_views, one, atol=1e-6)

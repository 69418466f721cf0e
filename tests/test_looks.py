"""The siblings' augmentations against the released transforms with the same draws (tests/golden/siblings)."""

import numpy as np
import pytest
import torch

from data.augmentation import looks
from data.augmentation.looks import (
    CHANCE,
    COLUMNS,
    Choices,
    Erasing,
    Look,
    Looks,
    appear,
    choose,
    make_views,
    mixing,
    rectangles,
)
from data.augmentation.recipes import LOOKS, agw_llcm, deen, mclnet
from tests.conftest import golden
from utils.images import normalise
from utils.types import Batch

AUG = {name: golden(f"siblings/{name}_aug") for name in ("agw_caj", "mclnet", "deen", "djanet", "ivreid")}
CAJ = Erasing()


def plain(count=1, **given):
    """Choices that change nothing, but for those given."""
    values = {
        "grey": torch.zeros(count, dtype=torch.bool), "brightness": torch.ones(count),
        "corners": torch.full((count, 2), 10), "flips": torch.zeros(count, dtype=torch.bool),
        "boxes": torch.zeros(count, 4, dtype=torch.int64), "mixing": torch.eye(3).expand(count, 3, 3),
    }  # fmt: skip
    return Choices(**values | {name: torch.as_tensor(value)[None] for name, value in given.items()})


def box_of(draws, chance, height, width):
    """The rectangle that Python's draws give: u, then (area, ratio) until one fits, then row and column."""
    if draws[0] > chance or len(draws) > 2 * 100:
        return torch.zeros(4, dtype=torch.int64), len(draws)
    tries = np.array(draws[1:]).reshape(-1, 2) if len(draws) % 2 else np.array(draws[1:-1]).reshape(-1, 2)
    for count in range(1, len(tries) + 1):
        fraction, ratio = (torch.as_tensor(tries[:count, column].copy())[None] for column in (0, 1))
        size = rectangles(fraction, ratio, torch.zeros(1, 2), height, width)[0]
        if size[2]:
            row, column = (int(value) for value in draws[1 + 2 * count : 3 + 2 * count])
            return torch.tensor([row, column, *size[2:]]), 3 + 2 * count
    raise AssertionError("no try fits")


def mixed(kind, draws):
    """The mixing that Python's draws give."""
    if kind == "exchange":
        return mixing(kind, torch.tensor([draws[0] / 3 + 0.1]), torch.tensor([False]), torch.ones(1, 3))[0]
    if kind == "scaled":
        scales = 2 * torch.tensor(draws[1:4] or [1.0] * 3)[None]
        return mixing(kind, torch.zeros(1), torch.tensor([draws[0] <= CHANCE]), scales)[0]
    which = draws[0] / (4 if kind == "adaptive" else 2) + 0.1
    fires = len(draws) > 1 and draws[1] <= CHANCE
    return mixing(kind, torch.tensor([which]), torch.tensor([fires]), torch.ones(1, 3))[0]


def images_of(array):
    return torch.as_tensor(array).permute(2, 0, 1)[None]


def close(ours, expected):
    assert np.abs(ours[0].numpy() - expected).max() <= 1e-5


MIXED = [("agw_caj", f"exchange_gray2_{k}", "exchange") for k in range(3)]
MIXED += [("agw_caj", f"adapgray_{k}", "adaptive") for k in (0, 1, 2, "3_gray", "3_gray_u_equals_p", "3_same")]
MIXED += [("djanet", f"adapgray_{k}", "reduced") for k in ("green", "gray", "gray_u_equals_p", "same")]
MIXED += [("djanet", f"channelt_{k}", "scaled") for k in ("scale", "same", "u_equals_p")]


@pytest.mark.parametrize(("name", "case", "kind"), MIXED)
def test_mixings_of_channels(name, case, kind):
    file = AUG[name]
    image, matrix = torch.as_tensor(file["img"]), mixed(kind, file[f"{case}__draws"].tolist())
    assert torch.allclose(torch.einsum("ck,khw->chw", matrix, image), torch.as_tensor(file[f"{case}__out"]), atol=1e-6)


ERASED = [
    (name, prefix, case)
    for name, prefix in (
        ("agw_caj", ""),
        ("mclnet", ""),
        ("deen", "sysu_"),
        ("deen", "regdb_llcm_"),
        ("deen", "agwllcm_"),
    )
    for case in ("skip", "u_equals_p", "corner_lo", "corner_hi", "mid", "retry", "gives_up")
]


@pytest.mark.parametrize(("name", "prefix", "case"), ERASED)
def test_erased_rectangles(name, prefix, case):
    file, case = AUG[name], f"erase_{prefix}{case}"
    chance = float(file[f"erase_{prefix}p_sl_sh_r1"][0])
    (top, left, tall, wide), _ = box_of(file[f"{case}__draws"].tolist(), chance, 24, 12)
    fill = file[f"erase_{prefix}fill" if f"erase_{prefix}fill" in file else "erase_fill"]
    expected = file["img"].copy()
    expected[:, top : top + tall, left : left + wide] = fill[:, None, None]
    assert np.abs(expected - file[f"{case}__out"]).max() < 1e-6


def pipeline(image, draws, erasing=None, kind="same", grey=None, brightness=None):
    """A look from (row, column, flip, then Python's draws of the erasing and the mixing)."""
    row, column, flip, *rest = draws
    box, taken = box_of(rest, erasing.chance, *image.shape[:2]) if erasing else (torch.zeros(4, dtype=torch.int64), 0)
    given = {"mixing": mixed(kind, rest[taken:])} if kind != "same" else {}
    given |= {"grey": grey} if grey is not None else {}
    given |= {"brightness": brightness} if brightness is not None else {}
    corners = torch.tensor([int(row), int(column)])
    return appear(images_of(image), plain(corners=corners, flips=flip < 0.5, boxes=box, **given), 10, erasing)


@pytest.mark.parametrize("number", range(4))
def test_pipeline_of_agw(number):
    file = AUG["agw_caj"]
    close(pipeline(file["pipe_agw_img"], file[f"pipe_agw_{number}__draws"].tolist()), file[f"pipe_agw_{number}__out"])


@pytest.mark.parametrize(("view", "kind"), [("color", "same"), ("color1", "exchange"), ("thermal", "adaptive")])
def test_pipeline_of_caj(view, kind):
    file = AUG["agw_caj"]
    ours = pipeline(file["pipe_caj_img"], file[f"pipe_caj_{view}__draws"].tolist(), CAJ, kind)
    close(ours, file[f"pipe_caj_{view}__out"])


@pytest.mark.parametrize("number", range(3))
def test_pipeline_of_mclnet(number):
    file, erasing = AUG["mclnet"], mclnet().visible[0].erasing
    ours = pipeline(file["pipe_img"], file[f"pipe_{number}__draws"].tolist(), erasing)
    close(ours, file[f"pipe_{number}__out"])


@pytest.mark.parametrize("case", [f"{data}_{number}" for data in ("sysu", "regdb", "llcm") for number in range(3)])
def test_pipeline_of_deen(case):
    file, erasing = AUG["deen"], deen().visible[0].erasing
    grey, *draws = file[f"pipe_{case}__draws"].tolist()
    close(pipeline(file["pipe_img"], draws, erasing, grey=grey < 0.5), file[f"pipe_{case}__out"])


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        ("color1", "same"),
        ("color1_nogray", "same"),
        ("color2", "exchange"),
        ("thermal1", "reduced"),
        ("thermal2", "scaled"),
    ],
)
def test_pipeline_of_djanet(view, kind):
    file = AUG["djanet"]
    row, column, *draws = file[f"pipe_{view}__draws"].tolist()
    given = {}
    if view.startswith("color1"):
        given["grey"] = draws.pop(0) < 0.5
    if view == "thermal2":
        given["brightness"] = torch.tensor(draws.pop(1), dtype=torch.float32)
    close(pipeline(file["pipe_img"], [row, column, *draws], CAJ, kind, **given), file[f"pipe_{view}__out"])


@pytest.mark.parametrize("number", range(3))
def test_pipeline_of_ivreid(number):
    """It flips before it pads and crops, which is a mirrored window."""
    file = AUG["ivreid"]
    flip, row, column = file[f"pipe_{number}__draws"].tolist()
    ours = pipeline(file["pipe_img"], [row, 20 - column if flip < 0.5 else column, flip])
    close(ours, file[f"pipe_{number}__out"])


@pytest.mark.parametrize("shown", [*LOOKS.values(), mclnet(), deen(), agw_llcm()])
def test_every_method_gives_finite_views_of_each_record(shown):
    views = make_views(batch_of(), shown, torch.Generator().manual_seed(2))
    assert views.images.isfinite().all() and sorted(views.rows.unique().tolist()) == list(range(8))


def batch_of(count=8, size=(24, 12)):
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(count)
    return Batch(images, numbers // 2, torch.zeros(count), numbers % 2, numbers)


TWICE = Looks(
    visible=(Look(0, grey=0.5, erasing=CAJ), Look(1, mixing="exchange", erasing=CAJ)),
    infrared=(Look(2, mixing="adaptive", erasing=CAJ), Look(3, brightness=0.5, mixing="scaled")),
)


@pytest.mark.parametrize("look", [*TWICE.visible, *TWICE.infrared, Look(0, mixing="reduced")])
def test_the_compiled_loop_gives_the_bits_of_the_tensor_operations(look, monkeypatch):
    batch, shown = batch_of(40), TWICE._replace(visible=(look, look), infrared=(look,))
    compiled = make_views(batch, shown, torch.Generator().manual_seed(4))
    monkeypatch.setattr(looks, "on_cpu", lambda images: False)
    assert torch.equal(compiled.images, make_views(batch, shown, torch.Generator().manual_seed(4)).images)


def test_views_come_look_by_look():
    views = make_views(batch_of(), TWICE, torch.Generator().manual_seed(1))
    visible, infrared = [0, 2, 4, 6], [1, 3, 5, 7]
    assert views.rows.tolist() == [*visible, *visible, *infrared, *infrared]
    assert views.streams.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    again = make_views(batch_of(), TWICE, torch.Generator().manual_seed(1))
    assert torch.equal(views.images, again.images) and views.images.dtype == torch.float32


@pytest.mark.parametrize("own", [[1, 2, 5], [0, 4]], ids=["of both", "of one modality"])
def test_views_of_some_records_are_those_of_the_whole_batch(own):
    batch, own = batch_of(), torch.tensor(own)
    whole = make_views(batch, TWICE, torch.Generator().manual_seed(1))
    part = make_views(batch._replace(images=batch.images[own], own=own), TWICE, torch.Generator().manual_seed(1))
    assert torch.equal(part.rows, whole.rows)
    assert torch.equal(part.images, whole.images[whole.places(own)])


def test_nothing_on_is_the_normalised_image():
    batch = batch_of()
    views = make_views(batch, Looks((Look(0),), (Look(1),), padding=0, flip=False), torch.Generator())
    assert torch.allclose(views.images, normalise(batch.images)[views.rows])


def test_how_often_and_how_much_is_erased():
    """MCLNet's mean area, measured on its released code at 288 x 144."""
    erasing = mclnet().visible[0].erasing
    table = torch.rand(20000, COLUMNS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = choose(Look(0, erasing=erasing), Looks((), ()), table, 288, 144).boxes
    areas = boxes[:, 2] * boxes[:, 3] / (288 * 144)
    assert (areas > 0).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert areas[areas > 0].float().mean().item() == pytest.approx(0.398, abs=0.01)
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 288 and (boxes[:, 1] + boxes[:, 3]).max() <= 144


def test_how_often_channels_are_mixed():
    table = torch.rand(20000, COLUMNS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices = choose(Look(0, mixing="adaptive"), Looks((), ()), table, 24, 12).mixing
    kept = (matrices == torch.eye(3)).all(dim=2).all(dim=1).float().mean().item()
    luma = (matrices[:, 0, 1] > 0.5).float().mean().item() - (matrices[:, 0, 1] == 1).float().mean().item()
    assert kept == pytest.approx(1 / 8, abs=0.01) and luma == pytest.approx(1 / 8, abs=0.01)

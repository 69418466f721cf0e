"""Augmentation: VIMC against golden numbers, geometry against slow references, and how often each part acts."""

import colorsys

import numpy as np
import pytest
import torch
from torch import Tensor

from configs import load_config
from data.augmentation import build_recipe
from data.augmentation.colour import (
    box_mask,
    cross_channel_cutmix,
    select_channel,
    shift_hue,
    spectra,
    spectrum_jitter,
    weighted_grayscale,
)
from data.augmentation.mcja import (
    ASPECT,
    COLOUR_PARTS,
    CUTMIX_AREA,
    ERASE_AREA,
    TRIES,
    Draws,
    Recipe,
    augment,
    colour,
    draw_boxes,
    erase,
    normalise,
    shift_window,
)  # fmt: skip
from tests.conftest import golden
from utils.types import Modality

# `augment` has two forms that must agree to the bit: a compiled loop on a CPU, tensor operations elsewhere.
FORMS = {"loop": lambda images: True, "operations": lambda images: False}


@pytest.fixture(params=FORMS, autouse=True)
def form(request, monkeypatch):
    monkeypatch.setattr("data.augmentation.mcja.on_cpu", FORMS[request.param])


OFF = Recipe(colour=frozenset(), flip=False, crop=False, padding=3, erase=False)
ALL = Recipe(colour=frozenset(COLOUR_PARTS), flip=True, crop=True, padding=3, erase=True)
MANY = 4000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator(99))


def plain(count: int, rgb: tuple[int, int, int], height: int = 4, width: int = 4) -> Tensor:
    return torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1).repeat(count, 1, height, width)


def modalities(count: int, value: Modality = Modality.VISIBLE) -> Tensor:
    return torch.full((count,), int(value))


def only(*parts: str, **changes) -> Recipe:
    return OFF._replace(colour=frozenset(parts), **changes)


def coloured(images: Tensor, recipe: Recipe, seed: int = 0, modality: Modality = Modality.VISIBLE) -> Tensor:
    return colour(images, modalities(len(images), modality), recipe, Draws(len(images), generator(seed)))


def changed(before: Tensor, after: Tensor) -> Tensor:
    """[B] bool."""
    return (before != after).flatten(1).any(dim=1)


def batch_of(image: np.ndarray, count: int = 1) -> Tensor:
    """[H, W, 3] -> [count, 3, H, W]."""
    return torch.from_numpy(image).permute(2, 0, 1).repeat(count, 1, 1, 1)


def image_of(images: Tensor) -> np.ndarray:
    """[1, 3, H, W] -> [H, W, 3]."""
    return images[0].permute(1, 2, 0).numpy()


# -------------------------------------------------------------------------------------------------------- VIMC, exactly


def test_weighted_grayscale_is_the_released_one_bit_for_bit():
    numbers = golden("transforms")
    for k in range(4):
        out = weighted_grayscale(batch_of(numbers["img"]), torch.from_numpy(numbers[f"wg_w{k}"])[None])
        assert np.array_equal(image_of(out), numbers[f"wg_out{k}"])


def test_spectrum_jitter_is_the_released_one_bit_for_bit():
    numbers = golden("transforms")
    for c in range(3):
        for k, factor in enumerate(numbers["sj_factors"]):
            out = spectrum_jitter(batch_of(numbers["img"]), torch.tensor([c]), torch.tensor([factor]))
            assert np.array_equal(image_of(out), numbers[f"sj_c{c}_f{k}"])


def test_cross_channel_cutmix_is_the_released_one_bit_for_bit():
    numbers = golden("transforms")
    boxes = torch.from_numpy(numbers["cc_boxes"])
    out = cross_channel_cutmix(batch_of(numbers["img"], len(boxes)), boxes[:, :2], boxes[:, 2:])
    for k in range(len(boxes)):
        assert np.array_equal(image_of(out[k : k + 1]), numbers[f"cc_out{k}"])


def test_channels_and_spectra_are_the_released_ones():
    numbers = golden("transforms")
    images = batch_of(numbers["img"])
    for c, name in enumerate("rgb"):
        assert np.array_equal(image_of(select_channel(images, torch.tensor([c]))), numbers[f"sel_{name}"])
        assert np.array_equal(image_of(spectra(images)[1 + c]), numbers[f"sel_{name}"])
    assert torch.equal(spectra(images)[0], images) and len(spectra(images)) == 4


def test_each_image_has_its_own_parameters():
    images = noise(3, 6, 5)
    channel, keep = torch.tensor([2, 0, 1]), torch.tensor([0.0, 1.0, 0.5])
    together = spectrum_jitter(images, channel, keep)
    alone = [spectrum_jitter(images[b : b + 1], channel[b : b + 1], keep[b : b + 1]) for b in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together[1], images[1]) and torch.equal(together[0], images[0, 2:].expand(3, -1, -1))
    assert torch.equal(select_channel(images, channel)[:, 0], torch.stack([images[0, 2], images[1, 0], images[2, 1]]))


def test_gray_by_hand():
    weights = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    assert weighted_grayscale(plain(1, (100, 200, 43)), weights).unique().tolist() == [110]  # 110.75, truncated


def test_box_mask_by_hand():
    inside = box_mask(torch.tensor([[1, 2, 2, 9], [0, 0, 0, 3]]), 4, 4)
    assert inside[0, 0].int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert inside.shape == (2, 1, 4, 4) and not inside[1].any()


# ------------------------------------------------------------------------------------------------------------------ hue


@pytest.mark.parametrize("rgb, turn, expected", [
    ((255, 0, 0), 1 / 3, (0, 255, 0)), ((255, 0, 0), -1 / 3, (0, 0, 255)), ((200, 100, 100), 2 / 3, (100, 100, 200)),
    ((255, 0, 0), 1 / 6, (255, 255, 0)), ((255, 0, 0), 1 / 12, (255, 128, 0)), ((9, 9, 9), 0.2, (9, 9, 9)),
    ((0, 0, 0), 0.2, (0, 0, 0)), ((12, 240, 77), 0.0, (12, 240, 77)), ((12, 240, 77), 1.0, (12, 240, 77)),
])  # fmt: skip
def test_hue_by_hand(rgb, turn, expected):
    assert shift_hue(plain(1, rgb), torch.tensor([turn]))[0, :, 0, 0].tolist() == list(expected)


@pytest.mark.parametrize("turn", [-0.2, -0.07, 0.0, 0.13, 0.2, 0.5])
def test_hue_agrees_with_colorsys(turn):
    images = noise(1, 12, 12)

    def slow(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in pixel))
        return [255 * v for v in colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)]

    expected = [slow(pixel) for pixel in image_of(images).reshape(-1, 3).tolist()]
    found = image_of(shift_hue(images, torch.tensor([turn]))).reshape(-1, 3)
    assert np.abs(found - np.array(expected)).max() < 0.51


# ------------------------------------------------------------------------------------------------------ the colour part


def test_about_half_of_the_visible_images_pass_unchanged():
    images = noise(MANY, 4, 4)
    share = changed(images, coloured(images, ALL)).float().mean().item()
    assert abs(share - 0.5) < 0.03  # the standard error is 0.008


@pytest.mark.parametrize("part", COLOUR_PARTS)
def test_each_part_acts_on_an_eighth(part):
    images = noise(MANY, 4, 4)
    share = changed(images, coloured(images, only(part))).float().mean().item()
    assert abs(share - 1 / 8) < 0.02  # the standard error is 0.005


def test_a_part_that_is_off_does_nothing_and_leaves_the_others_as_they_were():
    images = noise(400, 8, 6)
    full = coloured(images, ALL)
    acted = {part: changed(images, coloured(images, only(part))) for part in COLOUR_PARTS}
    assert torch.stack(list(acted.values())).sum(dim=0).max() == 1  # never two parts on one image
    for part in COLOUR_PARTS:
        without = coloured(images, ALL._replace(colour=ALL.colour - {part}))
        expected = torch.where(acted[part][:, None, None, None], images, full)
        assert torch.equal(without, expected)


def test_infrared_images_have_no_colour_part():
    images = noise(300, 4, 4)
    assert torch.equal(coloured(images, ALL, modality=Modality.INFRARED), images)
    mixed = torch.arange(300) % 2
    out = colour(images, mixed, ALL, Draws(300, generator()))
    expected = torch.where((mixed == 1)[:, None, None, None], images, coloured(images, ALL))
    assert torch.equal(out, expected)


def test_hue_turns_by_up_to_a_fifth_evenly():
    images = plain(MANY, (255, 0, 0), 1, 1)
    out = coloured(images, only("hue"))
    pixels = out[changed(images, out)][:, :, 0, 0].tolist()
    turns = np.array([colorsys.rgb_to_hsv(*(v / 255 for v in pixel))[0] for pixel in pixels])
    turns = (turns + 0.5) % 1 - 0.5
    assert np.abs(turns).max() < 0.201 and turns.min() < -0.19 and turns.max() > 0.19
    assert abs(turns.mean()) < 0.02 and abs(turns.std() - 0.4 / 12**0.5) < 0.01


def test_gray_weights_are_uniform_numbers_divided_by_their_sum():
    images = plain(3 * MANY, (255, 0, 0), 1, 1)
    out = coloured(images, only("wg"))
    weight = (out[changed(images, out)][:, 0, 0, 0].double() + 0.5) / 255
    assert abs(weight.mean() - 1 / 3) < 0.02 and abs(weight.std() - 0.180) < 0.012  # 0.236 if uniform on the simplex
    white = plain(MANY, (255, 255, 255), 1, 1)
    assert coloured(white, only("wg")).min() >= 254  # the weights sum to 1


def test_jitter_takes_each_channel_equally_and_any_share():
    images = plain(3 * MANY, (255, 0, 0), 1, 1)
    out = coloured(images, only("sj"))
    out = out[changed(images, out)][:, :, 0, 0].double()
    red = out[:, 0] == 255  # the red channel as grey stays 255; green or blue as grey is black
    assert abs(red.double().mean() - 1 / 3) < 0.05
    for share in (1 - out[red, 1] / 255, out[~red, 0] / 255):
        assert abs(share.mean() - 0.5) < 0.05 and abs(share.std() - 12**-0.5) < 0.03


def cutmixed(recipe: Recipe, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(background channel, pasted pixels) of every image that CC changed, [n], [n, H, W] bool."""
    images = plain(MANY, (1, 2, 3), height, width)
    out = coloured(images, recipe)
    out = out[changed(images, out)]
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    background = out[:, 0].flatten(1).mode(dim=1).values.long()
    return background, out[:, 0] != background[:, None, None]


def test_cutmix_takes_every_pair_of_channels():
    images = plain(MANY, (0, 1, 2), 24, 12)
    out = coloured(images, only("cc"))
    out = out[changed(images, out)][:, 0].flatten(1)
    background = out.mode(dim=1).values.long()
    other = torch.where(out == background[:, None], 0, out.long() + 1).amax(dim=1) - 1
    pairs = torch.bincount((3 * background + other)[other >= 0], minlength=9).tolist()
    assert [pairs[i] for i in (0, 4, 8)] == [0, 0, 0]
    assert min(pairs[i] for i in (1, 2, 3, 5, 6, 7)) > sum(pairs) / 6 * 0.6


def test_cutmix_pastes_anywhere_in_the_image():
    _, pasted = cutmixed(only("cc"), 48, 24)
    assert abs(pasted.float().mean() - 0.164) < 0.02  # the standard error is 0.004
    reached = pasted.any(dim=0)
    assert reached.any(dim=0).all() and reached.any(dim=1).all()  # every row and column, the first and the last too
    assert pasted.flatten(1).any(dim=1).all()


def test_released_cutmix_pastes_in_the_upper_part_only():
    _, pasted = cutmixed(only("cc", cc_released=True), 48, 24)
    assert not pasted[:, 24:].any() and pasted[:, :24].any(dim=0).float().mean() > 0.95
    assert abs(pasted.float().mean() - 0.082) < 0.02
    assert abs((~pasted.flatten(1).any(dim=1)).float().mean() - 0.26) < 0.07


# ----------------------------------------------------------------------------------------------------------- rectangles


def boxes(height: int, width: int, area: tuple[float, float], count: int = 20000) -> tuple[Tensor, ...]:
    """Columns of `count` drawn rectangles: top, left, height, width."""
    draws = torch.rand(count, 2 * TRIES + 2, dtype=torch.float64, generator=generator(1))
    return draw_boxes(draws[:, : 2 * TRIES], draws[:, 2 * TRIES :], height, width, area).unbind(1)


@pytest.mark.parametrize("area", [CUTMIX_AREA, ERASE_AREA])
def test_rectangles_lie_inside_the_image(area):
    top, left, tall, wide = boxes(384, 192, area)
    assert min(top.min(), left.min()) == 0 and (top + tall).max() == 384 and (left + wide).max() == 192
    assert tall.max() < 384 and wide.max() < 192 and min(tall.min(), wide.min()) > 0


def test_areas_and_aspects_of_rectangles():
    _, _, tall, wide = (column.double() for column in boxes(384, 192, CUTMIX_AREA))
    fraction, aspect = tall * wide / (384 * 192), tall / wide
    assert (
        0.0195 < fraction.min() and fraction.max() < 0.333 and 0.29 < aspect.min() and aspect.max() < 3.4
    )  # whole pixels
    assert abs(fraction.mean() - 0.164) < 0.003
    kept = (fraction < 0.06) & (tall > 5)  # small ones are never refused: the aspect is as it was drawn
    logs = aspect[kept].log()
    assert abs(logs.mean() - np.log(ASPECT).mean()) < 0.05 and abs(logs.std() - np.log(11) / 12**0.5) < 0.03


def test_places_of_rectangles_are_even():
    top, left, tall, wide = (column.double() for column in boxes(384, 192, ERASE_AREA))
    for start, room in ((top, 384 - tall), (left, 192 - wide)):
        place = start / room
        assert abs(place.mean() - 0.5) < 0.01 and abs(place.std() - 12**-0.5) < 0.01


def test_the_released_frame_is_clipped_as_measured():
    top, left, tall, wide = boxes(192, 384, CUTMIX_AREA)  # the exchanged frame of a 384 x 192 image
    rows = (top + tall).clamp(max=384) - top
    columns = ((left + wide).clamp(max=192) - left).clamp(min=0)
    pasted = (rows * columns).double() / (384 * 192)
    assert (top + tall).max() == 192  # the upper half
    assert abs((pasted == 0).double().mean() - 0.260) < 0.01
    assert abs(pasted.mean() - 0.082) < 0.003
    assert abs((left + wide <= 192).double().mean() - 0.26) < 0.02


def test_no_try_fits_gives_an_empty_rectangle():
    draws = torch.full((2, 2 * TRIES), 0.9999, dtype=torch.float64)  # 0.33 of the area, 3.3 times as high as wide
    found = draw_boxes(draws, torch.zeros(2, 2, dtype=torch.float64), 100, 100, CUTMIX_AREA)
    assert found[:, 2:].tolist() == [[0, 0], [0, 0]]
    draws[1, 3] = (
        0.0  # the fourth try of the second image has an area of 0.02: sqrt(200 * 3.3) = 26, sqrt(200 / 3.3) = 8
    )
    found = draw_boxes(draws, torch.zeros(2, 2, dtype=torch.float64), 100, 100, CUTMIX_AREA)
    assert found.tolist() == [[0, 0, 0, 0], [0, 0, 26, 8]]


# ------------------------------------------------------------------------------------------------------ flip and window


def windows(image: Tensor, padding: int, flips: tuple[bool, ...]) -> list[Tensor]:
    """Every window that flipping, padding with grey 127 and cropping can give, the slow way: [3, H, W] each."""
    _, height, width = image.shape
    found = []
    for flip in flips:
        padded = torch.full((3, height + 2 * padding, width + 2 * padding), 127, dtype=torch.uint8)
        padded[:, padding : padding + height, padding : padding + width] = image.flip(2) if flip else image
        found += [
            padded[:, top : top + height, left : left + width]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
    return found


@pytest.mark.parametrize("recipe, flips, padding", [
    (OFF._replace(flip=True, crop=True, padding=2), (False, True), 2), (OFF._replace(crop=True, padding=2), (False,), 2),
    (OFF._replace(flip=True), (False, True), 0), (OFF, (False,), 0), (OFF._replace(flip=True, crop=True, padding=0), (False, True), 0),
])  # fmt: skip
def test_flip_and_window_give_each_possible_result_equally_often(recipe, flips, padding):
    image = noise(1, 5, 4)[0]
    out = augment(image.repeat(2000, 1, 1, 1), modalities(2000), recipe, generator())
    possible = normalise(torch.stack(windows(image, padding, flips)))
    equal = (out[:, None] == possible[None]).flatten(2).all(dim=2)  # [2000, windows]
    assert (equal.sum(dim=1) == 1).all()
    times, expected = equal.sum(dim=0), 2000 / len(possible)
    assert (times - expected).abs().max() < 5 * expected**0.5 + 1


def test_flip_and_window_agree_with_one_image_after_the_other():
    images, recipe = noise(40, 6, 5), OFF._replace(flip=True, crop=True, padding=2)
    draws = Draws(40, generator(4))
    for b, found in enumerate(augment(images, modalities(40), recipe, generator(4))):
        top, left = (int(5 * number) for number in draws["window"][b])  # offsets 0..4
        flip = bool(draws["flip"][b] < 0.5)
        assert torch.equal(found, normalise(windows(images[b], 2, (flip,))[5 * top + left]))


def test_all_images_are_cut_at_their_own_place():
    out = augment(noise(1, 8, 8).repeat(50, 1, 1, 1), modalities(50), OFF._replace(crop=True, padding=3), generator())
    assert len({tuple(image.flatten().tolist()) for image in out}) > 25


# -------------------------------------------------------------------------------------------------- normalise and erase


def test_normalise_by_hand():
    out = normalise(plain(1, (0, 255, 51), 1, 1)).flatten()
    assert out.tolist() == pytest.approx([-0.485 / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225], abs=1e-6)
    assert out.dtype == torch.float32


def test_everything_off_is_normalise_only():
    images = noise(20, 7, 5)
    assert torch.equal(augment(images, modalities(20), OFF, generator()), normalise(images))


def test_erasing_puts_rectangles_of_zeros_into_normalised_images():
    images = plain(2000, (255, 255, 255), 32, 16)
    out, before = augment(images, modalities(2000), OFF._replace(erase=True), generator()), normalise(images)
    erased = out[:, 0] == 0
    assert torch.equal(out, before.masked_fill(erased[:, None], 0))
    rows, columns = erased.any(dim=2), erased.any(dim=1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])  # a product of rows and columns ...
    for lines in (rows, columns):
        assert (
            lines.int().diff(dim=1).abs().sum(dim=1) + lines[:, 0].int() + lines[:, -1].int()
        ).max() == 2  # ... in one run
    happened = erased.flatten(1).any(dim=1)
    assert abs(happened.float().mean() - 0.5) < 0.05
    fraction = erased[happened].float().mean(dim=(1, 2))
    assert abs(fraction.mean() - 0.15) < 0.015 and fraction.max() < 0.33  # 0.30, and whole pixels


def test_erasing_does_not_change_its_argument():
    images = normalise(noise(50, 8, 8))
    before = images.clone()
    assert not torch.equal(erase(images, ALL, Draws(50, generator())), before)
    assert torch.equal(images, before)


# ----------------------------------------------------------------------------------------------------------- randomness


def test_the_generator_decides():
    images, mixed = noise(30, 8, 6), torch.arange(30) % 2
    first = augment(images, mixed, ALL, generator(1))
    assert torch.equal(augment(images, mixed, ALL, generator(1)), first)
    assert not torch.equal(augment(images, mixed, ALL, generator(2)), first)
    continued = generator(1)
    augment(images, mixed, ALL, continued)
    assert not torch.equal(augment(images, mixed, ALL, continued), first)


def test_the_global_random_state_is_not_used():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = augment(noise(30, 8, 6), modalities(30), ALL, generator())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(augment(noise(30, 8, 6), modalities(30), ALL, generator()), first)


def test_every_recipe_takes_the_same_numbers():
    states = []
    for recipe in (
        OFF,
        ALL,
        only("cc", cc_released=True),
        OFF._replace(erase=True),
        OFF._replace(crop=True, padding=1),
    ):
        source = generator(5)
        augment(noise(9, 8, 6), modalities(9), recipe, source)
        states.append(source.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_switching_one_part_off_leaves_what_the_others_draw():
    images = plain(60, (200, 40, 90), 32, 16)

    def out(**changes):
        return augment(images, modalities(60), ALL._replace(**changes), generator(7))

    full = out()
    erased = (full == 0).all(dim=1)
    assert torch.equal(out(erase=False).masked_fill(erased[:, None], 0), full)
    for changes in ({"flip": False}, {"crop": False}, {"colour": frozenset()}, {"cc_released": True}):
        assert torch.equal((out(**changes) == 0).all(dim=1), erased)
    grey = ((full[:, 0] * 0.229 + 0.485) * 255 - 127).abs() < 0.01  # the padding, where nothing was erased
    no_colour = out(colour=frozenset())
    assert torch.equal(((no_colour[:, 0] * 0.229 + 0.485) * 255 - 127).abs() < 0.01, grey)


def test_arguments_are_left_alone():
    images, mixed = noise(30, 8, 6), torch.arange(30) % 2
    before = images.clone(), mixed.clone()
    for recipe in (OFF, ALL):
        augment(images, mixed, recipe, generator())
    assert torch.equal(images, before[0]) and torch.equal(mixed, before[1])


def test_one_image_is_a_batch_too():
    for seed in range(20):
        assert augment(noise(1, 8, 6), modalities(1), ALL, generator(seed)).shape == (1, 3, 8, 6)


# ------------------------------------------------------------------------------------------------------------ two forms


def both_forms(images: Tensor, mixed: Tensor, recipe: Recipe, seed: int, monkeypatch) -> list[Tensor]:
    out = []
    for chosen in FORMS.values():
        monkeypatch.setattr("data.augmentation.mcja.on_cpu", chosen)
        out.append(augment(images, mixed, recipe, generator(seed)))
    return out


@pytest.mark.parametrize("seed", range(12))
def test_both_forms_agree_to_the_bit(seed, monkeypatch):
    height, width = [(64, 32), (33, 47), (1, 1), (40, 90)][seed % 4]
    images = noise(64, height, width)
    if seed % 3 == 0:
        images = images // 64 * 85  # few values: channels that are equal, and black ones
    recipe = ALL._replace(flip=seed % 5 != 0, crop=seed % 7 != 0, padding=seed, cc_released=seed % 2 == 0)
    loop, operations = both_forms(images, torch.arange(64) % 5 // 4, recipe, seed, monkeypatch)
    assert torch.equal(loop, operations)


def test_both_forms_agree_on_a_padding_that_is_wider_than_the_image(monkeypatch):
    recipe = ALL._replace(padding=40)
    assert torch.equal(*both_forms(noise(200, 8, 6), modalities(200), recipe, 1, monkeypatch))


def test_both_forms_agree_on_images_that_lie_the_other_way_in_memory(monkeypatch):
    images = noise(9, 16, 8).contiguous(memory_format=torch.channels_last)
    assert torch.equal(*both_forms(images, modalities(9), ALL, 1, monkeypatch))
    expected = augment(images.contiguous(), modalities(9), ALL, generator(1))
    assert torch.equal(augment(images, modalities(9), ALL, generator(1)), expected)


@pytest.mark.filterwarnings("ignore")
def test_the_operations_can_be_compiled():
    """Without a compiler here: that they are traced whole, or in parts, and still give the same."""
    images = noise(30, 16, 8)

    def finish(images: Tensor, draws: Draws) -> Tensor:
        return erase(normalise(shift_window(images, ALL, draws)), ALL, draws)

    draws = Draws(30, generator(2))
    traced = torch.compile(finish, backend="eager", fullgraph=True)
    assert torch.equal(traced(images, draws), finish(images, draws))
    whole = torch.compile(augment, backend="eager")
    for seed in range(3):
        expected = augment(images, modalities(30), ALL, generator(seed))
        assert torch.equal(whole(images, modalities(30), ALL, generator(seed)), expected)


# -------------------------------------------------------------------------------------------------------- configuration


def test_the_configuration_switches_each_part():
    assert build_recipe(load_config()) == Recipe(frozenset(COLOUR_PARTS), True, True, 10, True, False)
    switches = {"color_jitter": "hue", "vimc_wg": "wg", "vimc_cc": "cc", "vimc_sj": "sj"}
    for key, part in switches.items():
        assert build_recipe(load_config(None, [key, "false"])).colour == frozenset(COLOUR_PARTS) - {part}
    for key, part in {"random_flip": "flip", "random_crop": "crop", "random_erase": "erase"}.items():
        assert build_recipe(load_config(None, [key, "false"])) == build_recipe(load_config())._replace(**{part: False})
    off = [
        "random_flip",
        "false",
        "random_crop",
        "false",
        "random_erase",
        "false",
        "padding",
        "4",
        "vimc_cc_released",
        "true",
    ]
    assert build_recipe(load_config(None, off)) == Recipe(frozenset(COLOUR_PARTS), False, False, 4, False, True)

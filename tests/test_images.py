"""Images from disk: shape, channels, resizing, and one line for an image that cannot be read."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from configs import load_config
from data.build import build_test_loader, build_train_loader
from data.images.decode import ImageDataset, ImageFiles, as_it_is, load_image
from data.sets import sysu
from utils.errors import UserError
from utils.types import Modality, Record

CPU = torch.device("cpu")
UNCACHED = ["cache", "none"]


@pytest.fixture
def save(tmp_path):
    """save(array, name) -> path of the image."""

    def write(pixels: np.ndarray, name: str = "image.png") -> str:
        Image.fromarray(pixels).save(tmp_path / name)
        return str(tmp_path / name)

    return write


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8)


# ------------------------------------------------------------------------------------------------------------ one image


def test_size_is_height_then_width(save):
    image = load_image(save(noise(40, 20, 3)), (12, 7))
    assert image.shape == (3, 12, 7) and image.dtype == torch.uint8


def test_channels_are_red_green_blue(save):
    pixels = np.zeros((4, 4, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    assert load_image(save(pixels), (4, 4))[:, 0, 0].tolist() == [10, 20, 30]


def test_rows_stay_rows(save):
    pixels = np.zeros((6, 3, 3), np.uint8)
    pixels[0] = 200
    image = load_image(save(pixels), (6, 3))
    assert image[:, 0].unique().tolist() == [200] and image[:, 1:].max() == 0


@pytest.mark.parametrize("name", ["image.png", "image.bmp", "image.jpg"])
def test_one_channel_becomes_three_equal_ones(save, name):
    image = load_image(save(noise(16, 8), name), (8, 4))
    assert image.shape == (3, 8, 4) and image[0].unique().numel() > 10
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


@pytest.mark.parametrize("size", [(12, 7), (40, 20), (80, 50)])
def test_resizing_is_pillows_bilinear(save, size):
    pixels = noise(40, 20, 3)
    expected = np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    assert np.array_equal(load_image(save(pixels), size).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("size", [(12, 7), (40, 20), (20, 50)])
def test_lanczos_takes_the_horizontal_direction_first_as_released(save, size):
    """Whatever a Pillow chooses: it takes the vertical one first where that shrinks and the other one enlarges."""
    pixels, lanczos = noise(40, 20, 3), Image.Resampling.LANCZOS
    wide = Image.fromarray(pixels).resize((size[1], 40), lanczos)
    found = load_image(save(pixels), size, "lanczos").permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.asarray(wide.resize((size[1], size[0]), lanczos)))
    assert np.array_equal(found, load_image(save(pixels), size).permute(1, 2, 0).numpy()) == (size == (40, 20))


def test_shrinking_is_anti_aliased(save):
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255  # every second pixel white
    image = load_image(save(board.astype(np.uint8)), (8, 8))
    assert (image[:, 1:-1, 1:-1].int() - 127).abs().max() <= 2


def test_the_tensor_can_be_written_to(save):
    image = load_image(save(noise(8, 8, 3)), (8, 8))
    image += 1


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32), ("tif", np.float32)]
)
def test_more_than_eight_bits_are_stretched(save, suffix, dtype):
    """As a thermal camera writes them: 14 bits, of which a scene uses a few; Pillow's own conversion gives white."""
    values = np.linspace(7000, 7510, 256).reshape(16, 16)
    image = load_image(save(values.astype(dtype), f"thermal.{suffix}"), (16, 16))
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    assert (image[0].flatten().int() - torch.arange(256)).abs().max() <= 1


def test_an_even_image_of_sixteen_bits_is_black(save):
    assert load_image(save(np.full((4, 4), 7000, np.uint16)), (4, 4)).unique().tolist() == [0]


def test_values_that_are_not_finite_are_refused(save):
    with pytest.raises(UserError, match="nan.tif: not a readable image .its values are not finite"):
        load_image(save(np.array([[1, np.nan]], np.float32), "nan.tif"), (4, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_turned_camera_s_image_is_upright(tmp_path, dtype):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.array([[0, 255]], dtype)).save(tmp_path / "turned.png", exif=exif)
    assert load_image(str(tmp_path / "turned.png"), (2, 1))[0].tolist() == [[0], [255]]


def test_damaged_exif_data_turn_nothing(tmp_path, recwarn):
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 30)
    assert load_image(str(tmp_path / "x.jpg"), (4, 4)).shape == (3, 4, 4) and not recwarn.list


@pytest.mark.parametrize(("name", "said"), [("a\nb\u2028c.jpg", "a\\nb\\u2028c.jpg"), ("人 '\".jpg", "人 '\".jpg")])
def test_a_name_of_several_lines_stays_in_one_line_of_the_message(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        load_image(str(tmp_path / name), (4, 4))
    assert str(caught.value).startswith(f"{tmp_path}/{said}: not a readable image")


# -------------------------------------------------------------------------------------------------------------- damaged


def damaged(tmp_path, kind: str) -> str:
    path = tmp_path / "bad.jpg"
    if kind == "truncated":
        Image.fromarray(noise(64, 32, 3)).save(path)
        path.write_bytes(path.read_bytes()[:900])
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"not an image\n" * 9, "zeros": bytes(500)}[kind])
    return str(path)


KINDS = ["truncated", "empty", "text", "zeros", "missing"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unreadable_image_is_named(tmp_path, kind):
    path = damaged(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        load_image(path, (8, 4))
    message, reason = str(caught.value), "cannot be read" if kind == "missing" else "not a readable image"
    assert message.startswith(f"{path}: {reason}") and message.endswith("replace the file") and "\n" not in message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_read(tmp_path, make):
    make(tmp_path / "image.jpg")
    with pytest.raises(UserError, match="image.jpg: cannot be read .*replace the file"):
        load_image(str(tmp_path / "image.jpg"), (8, 4))


@pytest.mark.parametrize("side", [7100, 9500, 14000])
def test_an_image_of_many_pixels_is_refused_in_one_line(tmp_path, recwarn, side):
    """50, 90 and 196 million pixels; Pillow warns of the second and refuses the third."""
    path = tmp_path / "huge.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(UserError, match="huge.png: not a readable image .more than 50 million pixels.; replace"):
        load_image(str(path), (8, 4))
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg"])
def test_a_file_cut_anywhere_gives_pixels_or_a_user_error(save, tmp_path, suffix):
    whole = (tmp_path / save(noise(16, 8, 3), f"whole.{suffix}")).read_bytes()
    path, refused = tmp_path / f"cut.{suffix}", 0
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            assert load_image(str(path), (8, 4)).shape == (3, 8, 4)
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > len(whole) // 7 * 0.8


@pytest.mark.parametrize("workers", [0, 1])
def test_the_message_passes_through_a_loader_as_one_line(tmp_path, workers):
    path = damaged(tmp_path, "truncated")
    loader = DataLoader(
        ImageDataset([Record(path, 0, 1, Modality.VISIBLE)], ImageFiles([path], (8, 4))),
        num_workers=workers,
        collate_fn=as_it_is,
    )
    try:  # not pytest.raises: it keeps the traceback, and with it the loader's process
        list(loader)
        pytest.fail("nothing raised")
    except UserError as error:
        message = str(error)
    assert (
        message.startswith(f"{path}: not a readable image")
        and message.endswith("replace the file")
        and "\n" not in message
    )


# -------------------------------------------------------------------------------------------------------------- batches


@pytest.fixture
def dataset(save):
    """Six images; image i is all of grey 10 * i, identity 100 + i, camera i."""
    records = [
        Record(save(np.full((8, 4), 10 * i, np.uint8), f"{i}.png"), 100 + i, i, Modality(i % 2)) for i in range(6)
    ]
    return ImageDataset(records, ImageFiles([record.path for record in records], (6, 5)))


def test_a_batch_has_the_labels_of_its_images(dataset):
    batch = dataset.__getitems__([4, 1, 1, 5])
    assert batch.images.shape == (4, 3, 6, 5) and batch.images.dtype == torch.uint8
    assert batch.images[:, 0, 0, 0].tolist() == [40, 10, 10, 50]
    assert batch.pids.tolist() == [104, 101, 101, 105]
    assert batch.cameras.tolist() == [4, 1, 1, 5]
    assert batch.modalities.tolist() == [0, 1, 1, 1]
    assert batch.indices.tolist() == [4, 1, 1, 5]
    assert {t.dtype for t in batch[1:5]} == {torch.int64} and batch.shares is None and len(dataset) == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_hands_over_whole_batches(dataset, workers):
    batches = [[3, 0], [5, 5, 2]]
    loaded = list(DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=as_it_is))
    assert [batch.indices.tolist() for batch in loaded] == batches
    assert loaded[1].images[:, 0, 0, 0].tolist() == [50, 50, 20]


def test_loaders_from_the_configuration(sysu_root):
    benchmark = sysu.load(str(sysu_root))
    cfg = load_config(
        None,
        ["image_size", "(48, 32)", "num_workers", "0", "test_batch_size", "5", "p_size", "3", "k_size", "2", *UNCACHED],
    )
    test = list(build_test_loader(cfg, benchmark, benchmark.test, Modality.VISIBLE, CPU))
    rows = torch.cat([batch.indices for batch in test]).tolist()
    assert rows == list(range(len(benchmark.test.visible)))
    assert {len(batch.images) for batch in test[:-1]} == {5} and test[0].images.shape[1:] == (3, 48, 32)
    train = build_train_loader(cfg, benchmark, 1, CPU)
    assert [batch.indices.tolist() for batch in train] == list(train.batch_sampler)
    assert len(train) == len(train.batch_sampler) > 0


def test_opening_a_loader_leaves_the_global_random_state(sysu_root):
    benchmark = sysu.load(str(sysu_root))
    cfg = load_config(None, ["image_size", "(32, 32)", "num_workers", "0", "p_size", "3", "k_size", "2", *UNCACHED])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(iter(build_train_loader(cfg, benchmark, 1, CPU)))
    next(iter(build_test_loader(cfg, benchmark, benchmark.test, Modality.INFRARED, CPU)))
    assert torch.equal(torch.get_rng_state(), before)

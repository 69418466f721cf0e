"""Images into a gallery folder: the same bytes however often it is stopped, and nothing lost by bad input."""

import errno
import os
import re
import resource
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import embed_memory
from data.images.decode import load_image
from engine.embed import Embedder, open_model
from engine.gallery import sources, writer
from engine.gallery.embedding import embed_into
from engine.gallery.folder import Row, open_gallery
from engine.gallery.sources import rows_of_files
from tools import embed
from utils.cli import exit_code
from utils.errors import UserError
from utils.types import Modality

FILES = ("vectors.npy", "images.csv", "card.json")
ODD = ('a "b", c.png', " 行人 .png", "two\nlines\r.png", b"\xff\xfe.png".decode(errors="surrogateescape"))


class Mean(nn.Module):
    """[B, 3, H, W], [B] -> [B, 6]: what an image of 32x16 is, in a few numbers."""

    def embed(self, images, modalities):
        return torch.cat([images.mean(dim=(2, 3)), images[:, :, 0, 0] + modalities[:, None] + 9], dim=1)


@pytest.fixture(scope="module")
def embedder():
    made = Embedder(Mean(), (32, 16), torch.device("cpu"), {"model": "mean"})
    made.card = {
        **{"model": made.hash, "method": "Mean", "image_size": [32, 16], "dimension": 6, "dataset": "none", "trial": None},
        **{"seed": 0, "protocol": "", "scores": [], "versions": {}},
    }  # fmt: skip
    return made


def draw(path: Path, seed: int, size=(16, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Seven images of two identities in folders, one of them unreadable."""
    root = tmp_path / "photos"
    for number in range(6):
        draw(root / f"{number % 2:04d}" / f"c{number}s1_{number:03d}.png", number)
    (root / "0001" / "c2.jpg").write_text("no image")
    return root


def make(root, embedder, images, batch=2, **options):
    return embed_into(root, embedder, lambda: rows_of_files(images, "infrared"), batch, 0, **options)


def content(root) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in FILES if (root / name).exists()}


def names(gallery) -> list[str]:
    return [Path(path).name for path in gallery.paths]


# -------------------------------------------------------------------------------------------------------- what it makes


def test_a_gallery_holds_the_vector_of_each_readable_image(photos, embedder, tmp_path):
    root = tmp_path / "new" / "gallery"
    outcome = make(root, embedder, [photos])
    assert (outcome.rows, outcome.added, outcome.left_out) == (6, 6, 1)
    gallery = open_gallery(root)
    expected = sorted(photos.glob("*/*.png"))
    assert gallery.paths == [str(path) for path in expected] and set(gallery.modalities) == {"infrared"}
    np.testing.assert_allclose(gallery.vectors, embedder(expected, "infrared"), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(gallery.vectors, axis=1), 1, atol=1e-6)
    assert gallery.card["rows"] == 6 and embedder.card.items() <= gallery.card.items()
    assert {path.name for path in root.iterdir()} == {*FILES, ".lock"}


def test_labels_come_from_names_where_they_are_asked_for(photos, tmp_path):
    paths = [photos, draw(tmp_path / "cam04" / "7" / "x.png", 0), draw(tmp_path / "abc3" / "pic5.png", 0)]
    rows = list(rows_of_files(paths, "visible", sources.PARENT, sources.FROM_NAMES))
    known = [(row.identity, row.camera) for row in rows]
    assert known == [
        *(("0000", "0"), ("0000", "2"), ("0000", "4")),
        *(("0001", "1"), ("0001", "2"), ("0001", "3"), ("0001", "5")),
        *(("7", "4"), ("abc3", "")),
    ]
    assert {(row.identity, row.camera) for row in rows_of_files(paths, "visible", camera="north")} == {("", "north")}


def test_images_of_the_other_modality_are_said(tmp_path, caplog):
    for name in ("visible/7/a.png", "infrared/7/b.png", "infrared/7/c.png", "infrared/visible/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(list(rows_of_files([tmp_path], "visible"))) == 4
    said = f"2 images lie in a folder named infrared, {tmp_path}/infrared/7/b.png first; they count as visible"
    assert [record.message.startswith(said) for record in caplog.records] == [True]


def test_folders_are_searched_in_order_without_hidden_files_and_circles(tmp_path):
    for name in (
        "b/2.jpg",
        "b/10.JPEG",
        "a.png",
        "c.txt",
        ".hidden.png",
        ".git/x.png",
        "@eaDir/x.jpg",
        "b/deep/er/y.bmp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "deep" / "up").symlink_to(tmp_path / "b")
    (tmp_path / "linked").symlink_to(tmp_path / "b" / "deep" / "er")
    found = [os.path.relpath(path, tmp_path) for path in sources.walk(str(tmp_path))]
    assert found == ["a.png", "b/10.JPEG", "b/2.jpg", "b/deep/er/y.bmp", "linked/y.bmp"]


@pytest.mark.parametrize("name", ODD)
def test_any_name_survives(name, embedder, tmp_path):
    image = draw(tmp_path / "in" / name, 1)
    assert make(tmp_path / "out", embedder, [image.parent]).rows == 1
    assert open_gallery(tmp_path / "out").paths == [str(image)]
    assert "nothing" not in open_gallery(tmp_path / "out").card["method"]
    assert make(tmp_path / "out", embedder, [image.parent]).done_before


def test_an_image_of_one_pixel_is_one(embedder, tmp_path):
    assert make(tmp_path / "out", embedder, [draw(tmp_path / "dot.png", 0, size=(1, 1))]).rows == 1


def test_batches_are_of_one_modality(embedder, tmp_path):
    images = [draw(tmp_path / f"{number}.png", number) for number in range(5)]
    sides = ("visible", "visible", "visible", "infrared", "infrared")
    rows = [Row(str(image), "1", "", side) for image, side in zip(images, sides)]
    embed_into(tmp_path / "out", embedder, lambda: rows, 2, 1)  # with a loader process
    gallery = open_gallery(tmp_path / "out")
    assert tuple(gallery.modalities) == sides
    for image, side, vector in zip(images, sides, gallery.vectors):
        np.testing.assert_allclose(vector, embedder([image], side)[0], atol=1e-6)


# ----------------------------------------------------------------------------------------------------- stopped, resumed


def killed_at(point: int, work, save_every: int = 0) -> bool:
    """Whether `work`, in a process of its own, came to its change number `point` of the disk and was killed there."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function, *args, **kwargs):
            nonlocal count
            count += 1
            if count > point:
                if function is whole_write:  # half of it is written
                    args[0].write(memoryview(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        whole_write = writer._write
        writer._write = partial(counted, whole_write)
        os.replace = partial(counted, os.replace)
        writer.shutil.rmtree = partial(counted, writer.shutil.rmtree)
        writer.SAVE_EVERY = save_every
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("save_every", [0, 1000])
def test_killed_anywhere_it_resumes_to_the_same_bytes(photos, embedder, tmp_path, save_every):
    make(tmp_path / "whole", embedder, [photos])
    for point in range(100):
        root = tmp_path / f"killed-{point}"
        work = partial(make, root, embedder, [photos])
        if not killed_at(point, work, save_every):
            break
        if not (root / "card.json").exists():
            with pytest.raises(UserError):
                open_gallery(root)
        work()
        assert content(root) == content(tmp_path / "whole"), point
        assert not (root / ".part").exists()
    assert 15 < point < 99


def test_an_addition_that_is_killed_leaves_the_old_gallery_until_it_resumes(photos, embedder, tmp_path):
    old, more = tmp_path / "old", draw(tmp_path / "more" / "x.png", 9).parent
    make(old, embedder, [photos])
    before = content(old)
    make(whole := tmp_path / "whole", embedder, [photos])
    assert make(whole, embedder, [more, photos], append=True).added == 1
    for point in range(100):
        root = tmp_path / f"killed-{point}"
        root.mkdir()
        for name, data in before.items():
            (root / name).write_bytes(data)
        work = partial(make, root, embedder, [more, photos], append=True)
        if not killed_at(point, work):
            break
        seen = open_gallery(root)
        np.testing.assert_array_equal(seen.vectors, open_gallery(old if len(seen) == 6 else whole).vectors)
        work()
        assert content(root) == content(whole), point
    assert 12 < point < 99
    assert names(open_gallery(whole)) == [*names(open_gallery(old)), "x.png"]


def test_another_process_waits_outside(photos, embedder, tmp_path):
    with writer.held(tmp_path / "out"), pytest.raises(UserError, match="out: another process embeds into it"):
        make(tmp_path / "out", embedder, [photos])
    assert not (tmp_path / "out").exists()


def test_an_interrupt_says_how_to_resume(photos, embedder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writer.Writer, "add", lambda *a: os.kill(os.getpid(), signal.SIGINT))
    assert exit_code(lambda: make(tmp_path / "out", embedder, [photos])) == 130
    assert capsys.readouterr().err == "interrupted; the same command resumes\n"
    monkeypatch.undo()
    assert make(tmp_path / "out", embedder, [photos]).rows == 6


# ---------------------------------------------------------------------------------------------------------- a full disk


def test_a_full_disk_loses_nothing(photos, embedder, tmp_path, monkeypatch):
    make(tmp_path / "whole", embedder, [photos])
    write, count = writer._write, 0

    def full(stream, data):
        nonlocal count
        count += 1
        if count in (5, 9, 12):
            stream.write(memoryview(data)[:3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(stream, data)

    monkeypatch.setattr(writer, "_write", full)
    root = tmp_path / "out"
    for _ in range(3):
        with pytest.raises(
            UserError, match=r"could not be written \(No space left on device\); make room, and the same"
        ):
            make(root, embedder, [photos])
        monkeypatch.setattr(writer, "SAVE_EVERY", 0)
    make(root, embedder, [photos])
    assert content(root) == content(tmp_path / "whole")


def test_a_limit_on_the_size_of_files_is_one_line(photos, embedder, tmp_path):
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        code = 1
        try:
            make(tmp_path / "out", embedder, [photos])
        except UserError as error:
            code = 0 if "could not be written" in str(error) and "\n" not in str(error) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not (tmp_path / "out").exists()
    assert make(tmp_path / "out", embedder, [photos]).rows == 6


# ------------------------------------------------------------------------------------------------- the same, or another


def test_a_finished_gallery_is_left_alone_and_another_command_refused(photos, embedder, tmp_path):
    root = tmp_path / "out"
    make(root, embedder, [photos])
    before = content(root)
    assert make(root, embedder, [photos]) == (6, 0, 0, True)
    other = draw(tmp_path / "other.png", 8)
    for images, options in (([other], {}), ([photos], {"batch": 3})):
        with pytest.raises(
            UserError, match="out: a finished gallery of other images.*--append adds to it, or give another --out"
        ):
            make(root, embedder, images, **options)
    foreign = Embedder(Mean(), (16, 16), torch.device("cpu"), {})
    for options in ({}, {"append": True}):
        with pytest.raises(
            UserError,
            match=f"out/card.json: a gallery of another model, {embedder.hash[:12]} and not {foreign.hash[:12]}",
        ):
            make(root, foreign, [photos], **options)
    assert content(root) == before and not (root / ".part").exists()


def test_an_unfinished_gallery_of_another_command_is_refused(photos, embedder, tmp_path, monkeypatch):
    root = tmp_path / "out"
    monkeypatch.setattr(writer.Writer, "finish", lambda *a: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        make(root, embedder, [photos])
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=r"\.part: an unfinished embedding of other images.*remove this folder, or give another"
    ):
        make(root, embedder, [photos / "0001"])
    assert make(root, embedder, [photos]).rows == 6


def test_what_is_in_the_gallery_already_is_left_out(photos, embedder, tmp_path, caplog):
    root = tmp_path / "out"
    make(root, embedder, [photos / "0000", photos / "0000" / "c2s1_002.png"])
    assert len(open_gallery(root)) == 3
    assert (
        "1 images are in the gallery already, or are named twice, " in caplog.text
        and "c2s1_002.png first" in caplog.text
    )
    assert make(root, embedder, [photos], append=True)[:3] == (6, 3, 1)
    once = content(root)
    assert make(root, embedder, [photos], append=True).done_before
    assert make(root, embedder, [photos / "0000"], append=True).done_before  # all are there
    assert make(root, embedder, [photos / "0000", photos / "0000" / "c2s1_002.png"]).done_before  # the first command
    assert content(root) == once


def test_an_addition_needs_a_gallery(photos, embedder, tmp_path):
    with pytest.raises(
        UserError, match="out: holds no card.json, so there is no finished gallery to add to; leave out --append"
    ):
        make(tmp_path / "out", embedder, [photos], append=True)
    assert not (tmp_path / "out").exists()


def test_a_card_that_is_no_file_is_named(photos, embedder, tmp_path):
    make(tmp_path / "out", embedder, [photos / "0000"])
    (tmp_path / "out" / "card.json").unlink()
    os.mkfifo(tmp_path / "out" / "card.json")
    with pytest.raises(UserError, match="out/card.json: cannot be read .a pipe"):
        make(tmp_path / "out", embedder, [photos], append=True)


def test_a_folder_of_other_files_is_no_place_for_one(photos, embedder):
    with pytest.raises(
        UserError, match="photos: holds other files and no card.json, so it is no gallery; give a new folder with --out"
    ):
        make(photos, embedder, [photos])
    assert sorted(path.name for path in photos.iterdir()) == ["0000", "0001"]


# ---------------------------------------------------------------------------------------------------- unreadable images


def test_unreadable_images_are_a_line_each_and_few_lines_in_all(embedder, tmp_path, caplog):
    folder = tmp_path / "in"
    draw(folder / "good.png", 0)
    Image.new("1", (20_000, 10_000)).save(folder / "huge.png")
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    for number in range(30):
        (folder / f"text {number}\n.jpg").write_text("no image")
    assert make(tmp_path / "out", embedder, [folder, tmp_path / "typo"])[:3] == (1, 1, 34)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 21 and all("\n" not in line for line in lines)
    for said in (
        "huge.png: not a readable image (more than 50 million pixels)",
        "gone.png: cannot be read (No such file",
    ):
        assert any(said in line and line.endswith("left out") for line in lines), said
    assert lines[-1] == "unreadable images besides: 14; left out"


@pytest.mark.parametrize("append", [False, True])
def test_nothing_but_unreadable_images_is_an_error(embedder, tmp_path, append):
    (bad := tmp_path / "bad.jpg").write_text("no image")
    root = tmp_path / "out"
    if append:
        make(root, embedder, [draw(tmp_path / "x.png", 0)])
    before = content(root)
    with pytest.raises(UserError, match="none of the 1 images can be read"):
        make(root, embedder, [bad], append=append)
    assert content(root) == before and not (root / ".part").exists()


def test_no_images_at_all_are_an_error(embedder, tmp_path):
    (tmp_path / "in").mkdir()
    searched = r"there is no image in .*: folders are searched for \.bmp, \.jpeg, \.jpg, \.png, \.tif, \.tiff, \.webp$"
    with pytest.raises(UserError, match=searched):
        make(tmp_path / "out", embedder, [tmp_path / "in"])
    assert not (tmp_path / "out").exists()


def test_a_diverged_model_is_an_error(photos, tmp_path, embedder):
    class Lost(Mean):
        def embed(self, images, modalities):
            return super().embed(images, modalities) / 0 - 1e38

    lost = Embedder(Lost(), (32, 16), torch.device("cpu"), {})
    lost.card = embedder.card
    with pytest.raises(UserError, match="c0s1_000.png or an image after it has a vector that is not finite"):
        make(tmp_path / "out", lost, [photos])


def test_too_large_a_batch_says_so(photos, tmp_path, embedder, monkeypatch):
    def short(self, images, modality):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Embedder, "__call__", short)
    with pytest.raises(UserError, match="not enough memory to embed 2 images at a time; give a smaller --batch"):
        make(tmp_path / "out", embedder, [photos])


def test_the_benchmark_of_its_memory(capsys):
    embed_memory.main(["--rows", "3", "--workers", "0"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[2:]] == [["3", "embed"], ["3", "open"], ["3", "append"]]
    assert all(float(line[-1]) > 50 for line in lines[1:])


# ---------------------------------------------------------------------------------------------------------- the command


def run(*arguments) -> int:
    return exit_code(
        partial(embed.main, [str(argument) for argument in (*arguments, "--workers", 0, "--device", "cpu")])
    )


def test_the_command_embeds_a_data_set_s_test_images(trained, sysu_root, tmp_path, capsys):
    assert run(trained, sysu_root, "--dataset", "sysu", "--out", tmp_path / "out", "--batch", 5) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: a gallery of 42 images, 42 of them new\n"
    gallery, embedder = open_gallery(tmp_path / "out"), open_model(trained)
    assert gallery.card["model"] == embedder.hash
    for row in (0, 41):
        path = Path(gallery.paths[row])
        camera, identity = path.parts[-3].removeprefix("cam"), str(int(path.parts[-2]))
        assert (gallery.cameras[row], gallery.identities[row]) == (camera, identity)
        side = Modality.INFRARED if camera in "36" else Modality.VISIBLE
        assert gallery.modalities[row] == side.name.lower()
        images = torch.stack([load_image(str(path), embedder.size)])
        np.testing.assert_allclose(gallery.vectors[row], embedder(images, side)[0], atol=1e-5)
    assert [gallery.modalities.count(side) for side in ("visible", "infrared")] == [26, 16]
    assert run(trained, sysu_root, "--dataset", "sysu", "--out", tmp_path / "out", "--batch", 5) == 0
    assert capsys.readouterr().out.endswith("a gallery of 42 images, nothing to do, finished before\n")


def test_the_page_of_the_format_shows_how_to_read_it(photos, embedder, tmp_path, monkeypatch, capsys):
    page = (Path(embed.__file__).parent.parent / "docs" / "gallery_format.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    make(tmp_path / "GALLERY", embedder, [photos])
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.strip() in open_gallery("GALLERY").paths[1:]
    for line in re.findall("^python -m tools.embed (.*)", page, flags=re.M):
        embed.require_meaning(embed.parse(line.split()))


def test_the_command_says_what_is_left_out(trained, photos, tmp_path, capsys):
    options = ("--modality", "infrared", "--identity", "parent", "--camera", "name")
    assert run(trained, photos, *options, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out'}: a gallery of 6 images, 6 of them new\n"
    assert "c2.jpg: not a readable image" in said.err and "warning: 1 images cannot be read; left out" in said.err
    gallery = open_gallery(tmp_path / "out")
    assert (gallery.identities[-1], gallery.cameras[-1]) == ("0001", "5")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "say what the images are: --modality visible or --modality infrared, or a --dataset"),
        (("--modality", "thermal"), "--modality: invalid choice: 'thermal'"),
        (("--dataset", "sysu", "--camera", "name"), "--dataset sysu says modality, identity and camera itself; leave out --camera"),
        (("photos2", "--dataset", "sysu"), "--dataset sysu: give the folder of the data set alone"),
        (("--dataset", "sysu"), "data_root photos: no such folder"),
        (("--modality", "visible", "--batch", "0"), "--batch 0: give 1 or more"),
        (("--modality", "visible", "--device", "tpu"), "--device"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(trained, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code = exit_code(partial(embed.main, [str(trained), "photos", *arguments, "--out", "out"]))
    assert code == 2 and message in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert not (tmp_path / "out").exists()

"""A gallery of synthetic images, and a model that is quick, for the tests of the page."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data.images.decode import BILINEAR, load_image

SIZE = (32, 16)
CARD = {
    "model": "0" * 63 + "7",
    "method": "Drawn",
    "image_size": list(SIZE),
    "dimension": 12,
    "dataset": "sysu",
    "protocol": "sysu/all/1-shot",
    "scores": [
        {
            "stage": "test", "epoch": 3, "protocol": "sysu/all/1-shot", "split": None, "selected_on": "test",
            "ranking": "cosine", "r1": 61.25, "r5": 70.0, "r10": 80.0, "r20": 90.0, "mAP": 50.5, "mINP": 40.0,
        }
    ],
    "versions": {"torch": "2.9.0", "torchsort": None},
}  # fmt: skip


class Quarters:
    """A model whose vector is the mean colour of an image's quarters."""

    size, card, hash, interpolation = SIZE, CARD, CARD["model"], BILINEAR

    def __call__(self, images: torch.Tensor, modality: str) -> torch.Tensor:
        """[B, 3, H, W] uint8 -> [B, 12] of unit length."""
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, *SIZE) and modality in ("visible", "infrared")
        means = F.adaptive_avg_pool2d(images.float() - 127, 2)
        return F.normalize(means.flatten(1) + 1e-3, dim=1)


def draw(path: Path, colours: np.ndarray, seed: int) -> None:
    """An image of 2 x 2 colours, [2, 2, 3] uint8, with noise."""
    noise = np.random.default_rng(seed).integers(-20, 21, (64, 32, 3))
    pixels = np.kron(colours, np.ones((32, 16, 1))) + noise
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def make_gallery(root: Path, identities: int = 6, cameras: str = "123", names: tuple[str, ...] = ()) -> Path:
    """A gallery folder of synthetic people: cameras 1 and 2 are visible, 3 is infrared; two images by each of each.

    names: of further visible images, whose identity and camera are not known.
    """
    rng = np.random.default_rng(0)
    rows = []
    for identity in range(1, identities + 1):
        colours = rng.integers(0, 256, (2, 2, 3))
        for camera in cameras:
            for number in range(2):
                path = root / "images" / f"cam{camera}" / f"{identity:04d}" / f"{number}.png"
                draw(path, colours, seed=len(rows))
                rows.append((path, str(identity), camera, "infrared" if camera == "3" else "visible"))
    for name in names:
        path = root / "images" / name
        draw(path, rng.integers(0, 256, (2, 2, 3)), seed=len(rows))
        rows.append((path, "", "", "visible"))
    model = Quarters()
    vectors = [model(load_image(str(path), SIZE)[None], modality) for path, *_, modality in rows]
    np.save(root / "vectors.npy", torch.cat(vectors).numpy())
    with (root / "images.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        csv.writer(stream).writerows([("row", "path", "identity", "camera", "modality")])
        csv.writer(stream).writerows((number, *row) for number, row in enumerate(rows))
    (root / "card.json").write_text(json.dumps({**CARD, "rows": len(rows)}))
    return root


@contextmanager
def running(app) -> Iterator[str]:
    """The address of a server that answers on a free port, in a thread of this process."""
    import uvicorn

    from tools.serving.listening import address_of, listen

    with listen("127.0.0.1", 0) as socket:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        yield address_of(socket)
        server.should_exit = True
        thread.join(20)

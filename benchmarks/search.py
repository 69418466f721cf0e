"""Measure how long a search of a gallery takes, and how many images a second are embedded, beside the plain ways.

python -m benchmarks.search --rows 10000 100000 1000000 --width 512
python -m benchmarks.search --parts embed --model RUN --export DIR

The vectors are drawn: 20 of each identity, as far from each other as those of a network whose rank-1 is near 100 %. The
plain search multiplies the queries with the whole matrix in memory and sorts all cosines; the plain way to embed takes
one image file after another.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.features import INTRINSIC, SPREAD
from engine.embed import open_model
from engine.gallery.embedding import embed_into
from engine.gallery.folder import VECTORS, Gallery
from engine.gallery.handing_over import hand_over
from engine.gallery.milvus import connected, open_collection
from engine.gallery.search import INDEXES, Index, recall
from engine.gallery.sources import rows_of_files
from utils.cli import Parser, exit_code, natural
from utils.errors import UserError
from utils.extras import require
from utils.files import expanded

PARTS = ("search", "embed")
EACH = 20  # images of an identity
TOP, QUERIES = 10, 32
CHUNK = 10_000  # rows that are drawn at once
IN_MEMORY = 4 * 2**30  # bytes of vectors above which the plain way is left out
PACKAGES = {"faiss": "faiss"}  # what an index needs


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    if "search" in args.parts:
        print("| images | width | queries at once | way | ms a query | plain / it | recall@10 | made in, s |")
        print("|---|---|---|---|---|---|---|---|")
        for count in args.rows:
            with synthetic_gallery(count, args.width, args.folder) as (gallery, queries):
                for line in compared(gallery, queries, args.runs, args.milvus):
                    print(line, flush=True)
    if "embed" in args.parts:
        print_embedding(args)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=["search"], help="Run these parts (default: search)."
    )
    parser.add_argument(
        "--rows",
        type=natural,
        nargs="*",
        default=[10_000, 100_000],
        help="Images of the galleries (default: 10000 100000).",
    )
    parser.add_argument("--width", type=natural, default=512, help="Numbers in a vector (default: %(default)s).")
    parser.add_argument("--runs", type=natural, default=7, help="Print the median of RUNS runs (default: %(default)s).")
    parser.add_argument(
        "--milvus",
        action="store_true",
        help="Hand each gallery to Milvus Lite too, which takes a minute or more for 100000 images.",
    )
    parser.add_argument(
        "--folder", type=expanded, help="Write the vectors below this folder (default: the system's temporary one)."
    )
    parser.add_argument(
        "--model", type=expanded, help="Embed by this run's best model, or a checkpoint's (default: none)."
    )
    parser.add_argument("--export", type=expanded, help="Run model.onnx of this folder beside it (default: none).")
    parser.add_argument(
        "--images", type=natural, default=512, help="Embed this number of images (default: %(default)s)."
    )
    args = parser.parse_args(argv)
    if "embed" in args.parts and not args.model:
        raise UserError("--parts embed needs --model MODEL")
    return args


# --------------------------------------------------------------------------------------------------------------- search


@contextmanager
def synthetic_gallery(count: int, width: int, folder: Path | None) -> Iterator[tuple[Gallery, np.ndarray]]:
    """A gallery of `count` images in a folder that is removed, and QUERIES of their identities, [Q, D].

    Another sensor took the queries.
    """
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((INTRINSIC, width), dtype=np.float32)
    centres = rng.standard_normal((max(1, count // EACH), INTRINSIC), dtype=np.float32)
    offset = 0.3 * rng.standard_normal(INTRINSIC, dtype=np.float32)

    def unit(number: int, sensor: np.ndarray | float = 0) -> np.ndarray:
        own = SPREAD["clean"] * rng.standard_normal((number, INTRINSIC), dtype=np.float32)
        rows = (centres[rng.integers(len(centres), size=number)] + own + sensor) @ basis
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    with TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        vectors = np.lib.format.open_memmap(root / VECTORS, "w+", np.float32, (count, width))
        for start in range(0, count, CHUNK):
            vectors[start : start + CHUNK] = unit(min(CHUNK, count - start))
        vectors.flush()
        texts = [""] * count
        names = [str(row) for row in range(count)]
        mapped = np.load(root / VECTORS, mmap_mode="r")
        card = {"model": "0" * 64, "method": "", "image_size": [1, 1], "dimension": width}
        card |= {"dataset": "", "protocol": "", "scores": [], "versions": {}}
        gallery = Gallery(root, mapped, names, texts, texts, ["visible"] * count, card)
        yield gallery, unit(QUERIES, offset)


def compared(gallery: Gallery, queries: np.ndarray, runs: int, milvus: bool) -> Iterator[str]:
    """A line of the table for each number of queries at once and each way. queries: [Q, D]."""
    made = {name: built(make, gallery) for name, make in INDEXES.items() if find_spec(PACKAGES.get(name, "numpy"))}
    with ExitStack() as held:
        if milvus:
            made["Milvus Lite"] = built(partial(in_milvus, held), gallery)
        truth = made["exact"][0].search(queries, TOP)
        loaded = np.array(gallery.vectors) if gallery.vectors.nbytes <= IN_MEMORY else None
        start = f"| {len(gallery):,} | {queries.shape[1]} |"
        for together in (1, len(queries)):
            slow = None if loaded is None else each_query(partial(plain, loaded), queries, together, runs)
            yield f"{start} {together} | plain | {'-' if slow is None else f'{1e3 * slow:.3g}'} | 1 | 1 | - |"
            for name, (index, seconds) in made.items():
                fast = each_query(partial(index.search, count=TOP), queries, together, runs)
                ratio = "-" if slow is None else f"{slow / fast:.3g}"
                share = recall(index.search(queries, TOP), truth)
                yield f"{start} {together} | {name} | {1e3 * fast:.3g} | {ratio} | {share:.3f} | {seconds:.3g} |"


def in_milvus(held: ExitStack, gallery: Gallery) -> Index:
    """A collection of Milvus Lite that compares with every vector; `held` closes it."""
    client = held.enter_context(connected(str(gallery.root / "try.db")))
    hand_over(gallery, client, "benchmark", "FLAT")
    return open_collection(client, "benchmark")


def built(make: Callable[[Gallery], Index], gallery: Gallery) -> tuple[Index, float]:
    """An index, and the seconds that it took to make."""
    start = time.perf_counter()
    index = make(gallery)
    return index, time.perf_counter() - start


def plain(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """All cosines of queries [Q, D] and vectors [N, D], sorted: rows [Q, TOP]."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :TOP]


def each_query(work: Callable[[np.ndarray], Any], queries: np.ndarray, together: int, runs: int) -> float:
    """Median seconds for a query, in batches of `together`, the first of which is not counted. queries: [Q, D]."""
    times = []
    for run in range(runs + 1):
        first = run * together % len(queries)
        batch = queries[first : first + together]
        start = time.perf_counter()
        work(batch)
        times.append((time.perf_counter() - start) / len(batch))
    return statistics.median(times[1:])


# ---------------------------------------------------------------------------------------------------------------- embed


def print_embedding(args: argparse.Namespace) -> None:
    """Images a second, from JPEG files and from pixels."""
    embedder = open_model(args.model)
    height, width = embedder.size
    print(f"{embedder.card['method']}, {height}x{width}, vectors of {embedder.dimension}; {args.images} images\n")
    print("| way | images/s | to the first of its kind |\n|---|---|---|")
    with TemporaryDirectory(dir=args.folder) as name:
        files = noise_files(Path(name) / "photos", args.images, embedder.size)
        one = rate(lambda file: embedder([file], "infrared"), files)
        print(f"| files, one after another | {one:.3g} | 1 |", flush=True)
        rows = partial(rows_of_files, [Path(name) / "photos"], "infrared")
        many = len(files) * rate(lambda root: embed_into(root, embedder, rows, batch=64), [Path(name) / "gallery"])
        print(f"| files, tools.embed | {many:.3g} | {many / one:.2f} |", flush=True)
    images = torch.randint(0, 256, (min(64, args.images), 3, height, width), dtype=torch.uint8)
    run = session(args.export / "model.onnx") if args.export else None
    for batch in (1, len(images)):
        parts = images.split(batch)
        own = batch * rate(lambda part: embedder(part, "infrared"), parts)
        print(f"| pixels by {batch}, torch | {own:.3g} | 1 |", flush=True)
        if run:
            other = batch * rate(run, parts)
            print(f"| pixels by {batch}, ONNX Runtime | {other:.3g} | {other / own:.2f} |", flush=True)


def noise_files(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """So many JPEG files of noise, (height, width) each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    files = [folder / f"{number:06d}.jpg" for number in range(count)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file)
    return files


def rate(work: Callable[[Any], Any], parts: Sequence[Any]) -> float:
    """Parts a second."""
    start = time.perf_counter()
    for part in parts:
        work(part)
    return len(parts) / (time.perf_counter() - start)


def session(path: Path) -> Callable[[torch.Tensor], np.ndarray]:
    """How model.onnx is run on pixels: [B, 3, H, W] uint8 -> [B, D]; as infrared ones where it asks."""
    runtime = require("onnxruntime", "--export")
    model = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = {value.name for value in (*model.get_inputs(), *model.get_overridable_initializers())}

    def run(images: torch.Tensor) -> np.ndarray:
        given = {"images": images.permute(0, 2, 3, 1).numpy(), "modality": np.ones(len(images), dtype=np.int64)}
        return model.run(None, {name: value for name, value in given.items() if name in known})[0]

    run(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    return run


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

"""Export a trained model to a folder that runs anywhere, without this project: ONNX, a card, a script that uses them.

python -m tools.export RUN --out reid

The folder holds model.onnx (uint8 images of any size in, unit vectors out), model-core.onnx (normalised images of the
model's own size in, as multi-object trackers give them), card.json (what the model is) and use.py (a search in 40
lines). What the files give is compared with what the model gives; where they differ, nothing is written and the exit
code is 1 (docs/export.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.embed import MODALITIES, Embedder, Opened, open_trained
from engine.portable import write_portable
from tools.exporting import publishing
from tools.exporting.graphs import reads_modality, signed, with_default, with_pixels
from tools.exporting.network import core_graph
from tools.exporting.parity import compare
from tools.exporting.samples import build_samples, images_of
from utils.cli import Parser, exit_code
from utils.extras import require
from utils.files import expanded


class Differs(Exception):
    """An exported file does not give what the model gives."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 an exported file differs from the model, 2 bad input, 130 interrupted."""
    passed: list[bool] = []
    code = exit_code(lambda: passed.append(export(parse(argv))))
    return code or int(not all(passed))


def export(args: argparse.Namespace) -> bool:
    """Whether the files give what the model gives; they are at their place then."""
    for name in ("onnx", "onnxruntime"):
        require(name, "tools.export")
    out = expanded(args.out)
    publishing.require_place(out, args.overwrite)
    trained = open_trained(args.model)
    images, source = (images_of(args.images), "the named images") if args.images else build_samples(trained.cfg)
    try:
        with publishing.publishing(out) as folder:
            embedder = trained.embedder()
            write(folder, trained, embedder, args)
            print(f"compared with {trained.checkpoint.path} on {len(images)} images ({source}):", flush=True)
            passed = []
            for line in compare(folder, embedder, images):
                print(f"  {line}", flush=True)
                passed.append(line.passed is not False)
            if not all(passed):
                raise Differs
    except Differs:
        print("error: the exported files differ from the model; nothing is written", file=sys.stderr)
        return False
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MB")
    return True


def write(folder: Path, trained: Opened, embedder: Embedder, args: argparse.Namespace) -> None:
    """All files of an export."""
    core = core_graph(trained.model, embedder.size)
    about = {"model": embedder.hash, "method": embedder.card["method"], "format": publishing.FORMAT}
    for name, graph in (
        (publishing.WHOLE, with_pixels(core, embedder.size, embedder.interpolation)),
        (publishing.CORE, with_default(core, MODALITIES[args.modality])),
    ):
        (folder / name).write_bytes(signed(graph, about).SerializeToString())
    publishing.write_texts(folder, embedder, reads_modality(core), args.modality)
    if args.safetensors:
        checkpoint = trained.checkpoint
        origin, progress = checkpoint.origin._asdict(), checkpoint.states["progress"]
        write_portable(folder / publishing.PORTABLE, checkpoint.weights, origin, progress)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.export", description=__doc__)
    model = "Export the model of this checkpoint, or the best one of a run folder."
    parser.add_argument("model", metavar="MODEL", help=model)
    parser.add_argument("--out", required=True, metavar="DIR", help="Write the files into this folder, which is made.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an export that is already there.")
    modality = "Let model-core.onnx assume this modality where none is given, as by trackers (default: %(default)s)."
    parser.add_argument("--modality", choices=sorted(MODALITIES), default="visible", help=modality)
    parser.add_argument("--safetensors", action="store_true", help="Write model.safetensors, the weights, as well.")
    images = "test images of the model's data set, or synthetic ones where it is not here"
    parser.add_argument("--images", nargs="+", metavar="FILE", help=f"Compare on these images (default: {images}).")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

"""Make a gallery of images: their vectors by a trained model, in a folder that can be searched.

python -m tools.embed RUN photos --modality infrared --out GALLERY
python -m tools.embed RUN demo/SYSU-MM01 --dataset sysu --out GALLERY

A command that was stopped resumes when it is given again. An image that cannot be read is reported and left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from data.sets import DATASETS
from data.sets.common import SUFFIXES
from engine.embed import MODALITIES, open_model
from engine.gallery.embedding import embed_into
from engine.gallery.sources import FROM_NAMES, PARENT, rows_of_dataset, rows_of_files
from utils.cli import Parser, exit_code, natural
from utils.device import pick_device
from utils.errors import UserError, shown
from utils.files import expanded
from utils.logging import logger, warn_on_terminal


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    require_meaning(args)
    warn_on_terminal()
    embedder = open_model(args.model, pick_device(args.device))
    if args.dataset:
        images = partial(rows_of_dataset, args.dataset, args.images[0], embedder.card)
    else:
        images = partial(rows_of_files, args.images, args.modality, args.identity, args.camera)
    outcome = embed_into(args.out, embedder, images, args.batch, args.workers, args.append)
    if outcome.left_out:
        logger.warning(f"{outcome.left_out} images cannot be read; left out")
    what = "nothing to do, finished before" if outcome.done_before else f"{outcome.added} of them new"
    print(f"{shown(args.out)}: a gallery of {outcome.rows} images, {what}")


def require_meaning(args: argparse.Namespace) -> None:
    """UserError for arguments that contradict each other."""
    given = [f"--{name}" for name in ("modality", "identity", "camera") if getattr(args, name)]
    if args.dataset and given:
        raise UserError(f"--dataset {args.dataset} says modality, identity and camera itself; leave out {given[0]}")
    if args.dataset and len(args.images) > 1:
        raise UserError(f"--dataset {args.dataset}: give the folder of the data set alone")
    if not args.dataset and not args.modality:
        raise UserError("say what the images are: --modality visible or --modality infrared, or a --dataset")
    if not args.batch:
        raise UserError("--batch 0: give 1 or more")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.embed", description=__doc__)
    parser.add_argument(
        "model", type=expanded, metavar="MODEL", help="Embed with this run's best model, or with a checkpoint file's."
    )
    images = f"Embed these files, and the images below these folders ({', '.join(sorted(SUFFIXES))})."
    parser.add_argument("images", type=expanded, nargs="+", metavar="IMAGES", help=images)
    parser.add_argument("--modality", choices=sorted(MODALITIES), help="Say which sensor took all of the images.")
    dataset = "Embed the test images, of both modalities, of this data set, which lies in IMAGES."
    parser.add_argument("--dataset", choices=sorted(DATASETS), help=dataset)
    identity = "Take the name of an image's folder as its identity (default: not known)."
    parser.add_argument("--identity", choices=[PARENT], default="", help=identity)
    camera = (
        f"Give the camera of all images. {FROM_NAMES}: read it as c<number> or cam<number> from the file's name, or "
        "from those of the two folders above it (default: not known)."
    )
    parser.add_argument("--camera", default="", metavar=f"TEXT|{FROM_NAMES}", help=camera)
    out = "Write vectors.npy, images.csv and card.json in this folder."
    parser.add_argument("--out", type=expanded, required=True, metavar="GALLERY", help=out)
    parser.add_argument("--append", action="store_true", help="Add the images to the finished gallery in --out.")
    parser.add_argument(
        "--batch", type=natural, default=64, help="Embed this number of images at a time (default: %(default)s)."
    )
    parser.add_argument(
        "--workers",
        type=natural,
        help="Decode images in this number of processes (default: one for each core, 8 at most).",
    )
    parser.add_argument("--device", help="Embed on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

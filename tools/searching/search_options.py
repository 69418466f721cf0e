"""The options of tools.search."""

from __future__ import annotations

from engine.embed import MODALITIES
from engine.gallery.search import INDEXES
from engine.gallery.sources import PARENT
from tools.searching.answers import CANDIDATES
from utils.cli import Parser, natural
from utils.files import expanded


def build_parser(description: str | None) -> Parser:
    parser = Parser(prog="python -m tools.search", description=description)
    gallery = "Search this folder, which tools.embed wrote, or the collection of this name."
    parser.add_argument("gallery", type=expanded, metavar="GALLERY", help=gallery)
    parser.add_argument("images", type=expanded, nargs="+", metavar="IMAGE", help="Search for these image files.")
    model = (
        "Embed the images by the model that made GALLERY, a run folder or a checkpoint (default: where GALLERY says)."
    )
    parser.add_argument("--model", type=expanded, help=model)
    modality = (
        "Say which sensor took the images (default: what GALLERY says of those that lie in it; for others, the "
        "modality that a GALLERY folder has no image of)."
    )
    parser.add_argument("--modality", choices=sorted(MODALITIES), help=modality)
    identity = "Tell right from wrong by the name of an image's folder (default: by what GALLERY says of the image)."
    parser.add_argument("--identity", choices=[PARENT], help=identity)
    top = "Show the first N images (default: %(default)s)."
    parser.add_argument("--top", type=natural, default=10, metavar="N", help=top)
    again = f"Order the first {CANDIDATES} images anew, by k-reciprocal re-ranking among themselves."
    parser.add_argument("--rerank", action="store_true", help=again)
    index = "Search all images, or a part of them by faiss, which prints what it misses (default: %(default)s)."
    parser.add_argument("--index", choices=sorted(INDEXES), default="exact", help=index)
    milvus = "Search the collection GALLERY of this Milvus: http://HOST:19530, or a file of Milvus Lite."
    parser.add_argument("--milvus", metavar="URI", help=milvus)
    side = "Search images of this modality only (default: both)."
    parser.add_argument("--among", choices=sorted(MODALITIES), help=side)
    cameras = "Search images of these cameras only (default: all)."
    parser.add_argument("--camera", nargs="+", default=[], metavar="NAME", help=cameras)
    out = "Write a sheet of the images to this file (default: none)."
    parser.add_argument("--out", type=expanded, metavar="FILE.png", help=out)
    parser.add_argument("--json", action="store_true", help="Print the answers as JSON, and nothing else.")
    parser.add_argument("--device", help="Embed on cpu, cuda, cuda:N or mps (default: cuda where there is a GPU).")
    return parser

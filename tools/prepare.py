"""Decode the images of a configuration into the cache that its runs will use.

python -m tools.prepare --cfg configs/SYSU_MCJA.yml data_root /data/SYSU-MM01

A run does the same by itself when it starts. This command does it beforehand, for instance on a machine without a GPU.
A file that is there already is read and compared with its checksum, and a damaged one is written anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from configs import load_config
from configs.command import DEFAULT_SEED
from data.build import build_benchmark, build_cache, build_cache_path, parts
from data.images.pixel_file import size_of
from utils.cli import Parser, exit_code, natural
from utils.errors import UserError
from utils.logging import log_to_terminal


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    cfg = load_config(args.cfg, args.opts)
    if cfg.cache == "none":
        raise UserError("cache = none: a run with this configuration keeps no decoded images; set cache to disk")
    log_to_terminal()
    benchmark = build_benchmark(cfg, args.seed)
    for part, records in parts(benchmark).items():
        if records:
            pixels, fault = build_cache(cfg, benchmark, part)
            found = "already there" if fault is None else "written"
            size = f"{size_of(pixels.header) / 2**30:.2f} GB"
            print(f"{build_cache_path(cfg, benchmark, part)}: {len(records)} images, {size}, {found}", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.prepare", description=__doc__)
    parser.add_argument(
        "--cfg",
        default="configs/SYSU_MCJA.yml",
        help="Take keys from this yml file, as main.py does (default: %(default)s).",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        default=DEFAULT_SEED,
        help="Give the seed of the run; it matters with select val alone (default: %(default)s).",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys, as in main.py.")
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

"""What tools.make_synthetic is asked for: its arguments, judged and completed."""

import argparse
import hashlib
from collections.abc import Iterable
from pathlib import Path

from tools.synthetic.layouts import LAYOUTS, Layout
from tools.synthetic.planned import Plan
from tools.synthetic.sysu_layout import like_sysu
from utils.errors import UserError

VERSION = 1  # of the drawings; raise it when the same arguments no longer give the same bytes
LIKE = "sysu"  # whose layout --like-sysu copies
LAYOUT_OPTIONS = ("train_ids", "val_ids", "test_ids", "ids", "images", "cameras")


def check(args: argparse.Namespace) -> dict:
    """The arguments that decide the bytes, defaults filled in; UserError names the first bad one."""
    if args.like_sysu and args.layout != LIKE:
        raise UserError(f"--like-sysu has no meaning with --layout {args.layout}")
    options = {} if args.like_sysu else LAYOUTS[args.layout].options
    chosen = {"version": VERSION, "layout": args.layout, "size": list(args.size), "seed": args.seed}
    for key in LAYOUT_OPTIONS:
        value, option = getattr(args, key), "--" + key.replace("_", "-")
        if value is not None and key not in options:
            raise UserError(
                f"{option} has no meaning with {'--like-sysu' if args.like_sysu else f'--layout {args.layout}'}"
            )
        if key in options:
            chosen[key] = options[key] if value is None else value
        if key not in ("cameras", "val_ids") and chosen.get(key, 1) < 1:
            raise UserError(f"{option} = {value}: must be at least 1")
    if chosen.get("val_ids", 0) < 0:
        raise UserError(f"--val-ids = {args.val_ids}: must not be negative")
    if chosen.get("ids", 2) < 2:
        raise UserError("--ids = 1: must be at least 2, one for each half")
    if sum(chosen.get(k, 0) for k in ("train_ids", "val_ids", "test_ids", "ids", "images")) > 9999:
        raise UserError("too many identities or images: names have four digits")
    if not all(16 <= side <= 2048 for side in args.size):
        raise UserError(f"--size = {args.size[0]} {args.size[1]}: both must lie in 16..2048")
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed = {args.seed}: must lie in 0..{2**32 - 1}")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers = {args.workers}: must be at least 1")
    if "cameras" in chosen:
        chosen["cameras"] = _check_cameras(chosen["cameras"], LAYOUTS[args.layout])
    if args.like_sysu:
        chosen["like_sysu"] = _digest(args.like_sysu)
    return chosen


def _check_cameras(cameras: list[int], layout: Layout) -> list[int]:
    given, text = sorted(set(cameras)), "--cameras = " + words(cameras)
    known = sorted({*layout.visible, *layout.infrared})
    if set(given) - set(known):
        raise UserError(f"{text}: choose from {words(known)}")
    if not set(given) & set(layout.visible) or not set(given) & set(layout.infrared):
        visible, infrared = words(layout.visible), words(layout.infrared)
        raise UserError(f"{text}: needs a visible camera ({visible}) and an infrared one ({infrared})")
    return given


def words(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


def _digest(folder: Path) -> str:
    """Represents the three files in the record: their place may change, their content may not."""
    digest = hashlib.sha256()
    for name in ("rand_perm_cam.mat", "train_id.mat", "test_id.mat"):
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; --like-sysu needs the folder of the official split")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_plan(args: argparse.Namespace, chosen: dict) -> Plan:
    """What to draw."""
    if args.like_sysu:
        return like_sysu(args.like_sysu)
    return LAYOUTS[args.layout].plan(args.seed, chosen)

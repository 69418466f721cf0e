"""Make synthetic images of pedestrians, stored as SYSU-MM01, RegDB or LLCM are published, or as own images are.

    python -m tools.make_synthetic demo/data --train-ids 64 --test-ids 40 --images 4

The same arguments give the same bytes, whatever the number of workers. Colour does not carry over to the infrared
images; build, cut, pattern and belongings do.
"""

import argparse
import errno
import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tools.synthetic import layouts
from tools.synthetic.writing import write
from utils.cli import Parser, exit_code
from utils.errors import UserError
from utils.locks import lock

VERSION = 1  # of the drawings; raise it when the same arguments no longer give the same bytes
RECORD = "synthetic.json"
STATE = "unfinished"  # in the folder of a data set that is being made: its arguments; locked by who makes it
LIKE = "sysu"  # whose layout --like-sysu copies


# ---------------------------------------------------------------------------------------------------- arguments


def build_parser() -> argparse.ArgumentParser:
    """Options without a value stay None, so that one that does not belong to the layout is noticed."""
    parser = Parser(
        prog="python -m tools.make_synthetic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="Create this folder.")
    parser.add_argument(
        "--layout",
        choices=tuple(layouts.LAYOUTS),
        default=LIKE,
        help=f"Store the images as this data set does (default: {LIKE}).",
    )
    for split in ("train", "val", "test"):
        parser.add_argument(
            f"--{split}-ids",
            type=int,
            metavar="N",
            help=f"Number of {split} identities ({_defaults(split + '_ids')}).",
        )
    parser.add_argument(
        "--ids",
        type=int,
        metavar="N",
        help=f"Number of identities, half of them for training ({_defaults('ids')}).",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"Number of images per identity and camera ({_defaults('images')}).",
    )
    parser.add_argument(
        "--cameras",
        type=int,
        nargs="+",
        metavar="C",
        help=f"Use these cameras ({_defaults('cameras')}).",
    )
    parser.add_argument(
        "--like-sysu",
        type=Path,
        metavar="DIR",
        help="Take identities, cameras and counts from DIR/{rand_perm_cam,train_id,test_id}.mat (sysu).",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=[192, 96],
        metavar=("H", "W"),
        help="Make images of this height and width, in pixels (default: 192 96).",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed all random numbers with it (default: 0).")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="Number of processes (default: one per core, fewer for small sets).",
    )
    return parser


def _defaults(key: str) -> str:
    """The layouts that have an option, with its default: "default: sysu 4, regdb 10"."""
    given = {name: layout.options[key] for name, layout in layouts.LAYOUTS.items() if key in layout.options}
    words = (f"{name} {_words(own) if isinstance(own, list) else own}" for name, own in given.items())
    return f"default: {', '.join(words)}"


def check(args: argparse.Namespace) -> dict:
    """The arguments that decide the bytes, defaults filled in; UserError names the first bad one."""
    if args.like_sysu and args.layout != LIKE:
        raise UserError(f"--like-sysu has no meaning with --layout {args.layout}")
    options = {} if args.like_sysu else layouts.LAYOUTS[args.layout].options
    chosen = {"version": VERSION, "layout": args.layout, "size": list(args.size), "seed": args.seed}
    for key in ("train_ids", "val_ids", "test_ids", "ids", "images", "cameras"):
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
        chosen["cameras"] = _check_cameras(chosen["cameras"], layouts.LAYOUTS[args.layout])
    if args.like_sysu:
        chosen["like_sysu"] = _digest(args.like_sysu)
    return chosen


def _check_cameras(cameras: list[int], layout: layouts.Layout) -> list[int]:
    given, text = sorted(set(cameras)), "--cameras = " + _words(cameras)
    known = sorted({*layout.visible, *layout.infrared})
    if set(given) - set(known):
        raise UserError(f"{text}: choose from {_words(known)}")
    if not set(given) & set(layout.visible) or not set(given) & set(layout.infrared):
        visible, infrared = _words(layout.visible), _words(layout.infrared)
        raise UserError(f"{text}: needs a visible camera ({visible}) and an infrared one ({infrared})")
    return given


def _words(numbers: Iterable[int]) -> str:
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


def make_plan(args: argparse.Namespace, chosen: dict) -> layouts.Plan:
    """What to draw."""
    if args.like_sysu:
        return layouts.like_sysu(args.like_sysu)
    return layouts.LAYOUTS[args.layout].plan(args.seed, chosen)


# ------------------------------------------------------------------------------------------------------- folder


def already_made(out: Path, chosen: dict) -> str | None:
    """The summary of a finished data set of these arguments, None if `out` is free; UserError if it is taken."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise UserError(f"{out}: exists and is not a folder")
    if not any(out.iterdir()):
        return None
    try:
        record = json.loads((out / RECORD).read_text())
        summary = record.pop("summary")
    except (OSError, ValueError, KeyError, AttributeError):
        raise UserError(f"{out}: exists and holds other files; choose another folder") from None
    differences = [
        f"{key} = {record.get(key)}, asked {chosen.get(key)}"
        for key in {**record, **chosen}
        if record.get(key) != chosen.get(key)
    ]
    if differences:
        raise UserError(
            f"{out}: holds a data set made with other arguments ({'; '.join(differences)}); "
            "remove it or choose another folder"
        )
    return summary


@contextmanager
def unfinished(out: Path, chosen: dict) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end. Interrupted, it stays, and the same arguments resume it.

    What other arguments left there is removed, as is all of it where the disk is full. UserError while another process
    works on it.
    """
    part = out.with_name(f".{out.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with (part / STATE).open("a+b") as state:
            if lock(state) is False:
                raise UserError(f"{out}: another process is making it; wait for it, or stop it")
            _start(part, state, json.dumps(chosen).encode())
            yield part
            (part / STATE).unlink()
            if out.exists():
                out.rmdir()  # empty, as already_made saw
            part.rename(out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = "no space left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise UserError(f"{out}: {reason}; nothing was written") from None


def _start(part: Path, state: BinaryIO, arguments: bytes) -> None:
    """Empty the folder, but for its state, unless it was made with the same arguments."""
    state.seek(0)
    if state.read() == arguments:
        return
    state.truncate(0)
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != STATE:
            path.unlink()
    state.write(arguments)
    state.flush()


def run(argv: list[str] | None) -> str:
    """Do it all; returns the line to print."""
    args = build_parser().parse_args(argv)
    chosen, out = check(args), args.out.resolve()
    summary = already_made(out, chosen)
    if summary is not None:
        return f"{args.out}: already made with these arguments, left as it is: {summary}"
    plan, start = make_plan(args, chosen), time.monotonic()
    try:
        with unfinished(out, chosen) as part:
            write(part, plan, args.seed, tuple(args.size), args.workers)
            (part / RECORD).write_text(json.dumps({**chosen, "summary": plan.summary}, indent=1) + "\n")
    except KeyboardInterrupt:
        print(f"{args.out}: the same command resumes it; finished images are kept beside it", file=sys.stderr)
        raise
    return f"{args.out}: {plan.summary}; {time.monotonic() - start:.0f} s"


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done or nothing to do, 2 bad input, 130 interrupted."""
    return exit_code(lambda: print(run(argv)))


if __name__ == "__main__":
    # A stopped container or batch job says SIGTERM: as Ctrl-C, so that the processes that draw end as well.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main())

"""Answers as one sheet of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from data.images.decode import load_image
from tools.figures.search_sheet import COLUMNS, Line, Tile, lines_of, search_sheet, to_png
from tools.searching.answers import CANDIDATES, Answer, Hit, Query
from utils.errors import UserError, shown
from utils.logging import logger

LINES = 20  # of a sheet, 10 images each


def sheet(answers: Iterable[Answer], size: tuple[int, int]) -> bytes:
    """A PNG file's content. size: (H, W) of a tile.

    An image that cannot be read is a grey tile; one warning is for all of them.
    """
    lines: list[Line] = []
    missing: list[str] = []
    complete = True
    for query, hits in answers:
        room = COLUMNS * (LINES - len(lines))
        complete = complete and len(hits) <= room > 0
        if room:
            tiles = [tile(hit, size, missing) for hit in hits[:room]]
            lines += lines_of(heading(query, hits), query_tile(query, size, missing), tiles)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        logger.warning(f"{shown(missing[0])}{more}: gone or not readable; grey in the sheet")
    if not complete:
        logger.warning(f"the sheet has room for {LINES} lines of {COLUMNS} images; the others are not in it")
    return to_png(search_sheet(lines, size))


def heading(query: Query, hits: Sequence[Hit]) -> str:
    """What was searched for, and what the numbers under the images are."""
    who = f", identity {query.identity}" if query.identity else ""
    how = f"k-reciprocal, of the first {CANDIDATES}" if any(hit.reranked is not None for hit in hits) else "1 - cosine"
    return f"{PurePath(shown(query.path)).name} ({query.modality}{who}); distances: {how}"


def query_tile(query: Query, size: tuple[int, int], missing: list[str]) -> Tile:
    return Tile(pixels(query.path, size, missing), ["query", query.modality])


def tile(hit: Hit, size: tuple[int, int], missing: list[str]) -> Tile:
    distance = hit.distance if hit.reranked is None else hit.reranked
    names = [f"{what} {name}" for what, name in (("id", hit.identity), ("cam", hit.camera)) if name]
    return Tile(pixels(hit.path, size, missing), [f"{distance:.2f}", *names, hit.modality], hit.right)


def pixels(path: str, size: tuple[int, int], missing: list[str]):
    """[H, W, 3] uint8, or None, the path then added to `missing`."""
    try:
        return load_image(path, size).permute(1, 2, 0).numpy()
    except UserError:
        missing.append(path)
        return None

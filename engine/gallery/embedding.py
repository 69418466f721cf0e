"""From a list of images to a gallery folder, in batches that are read ahead; what was stopped is resumed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from data.images.decode import load_image
from data.images.workers import PatientLoader, asked_workers, workers_with_room
from data.sets.common import SUFFIXES
from engine.embed import Embedder
from engine.gallery.card import HASH
from engine.gallery.folder import CARD_FILE, IMAGES, MODEL_FILE, Row, read_card, read_images
from engine.gallery.listing import Filled, Listing
from engine.gallery.writer import PART, STATE, State, Writer, held, publish, read_state, started
from utils.errors import UserError, shown
from utils.logging import logger
from utils.resources import lacks_memory
from utils.schema import each, misfit, whole
from utils.terminal import bar_options

NAMED = 20  # unreadable images that are reported by name
REQUESTS = "requests"  # entry of a gallery's card: what it was made of, a hash for each command


class Outcome(NamedTuple):
    """What a gallery holds after a command."""

    rows: int  # images of the gallery
    added: int  # of them by this command, all its processes together
    left_out: int  # images that could not be read
    done_before: bool  # the command found all its work done


class Loaded(NamedTuple):
    """A batch as a loader gives it."""

    images: Tensor  # [B, 3, H, W] uint8, of those that can be read
    rows: list[Row]  # B, theirs
    faults: list[str]  # a line for each of the others


class Loading(Dataset):
    """Rows of images -> Loaded, resized to (height, width) as the model wants; whatever cannot be read is left out."""

    def __init__(self, size: tuple[int, int], interpolation: str):
        self.size, self.interpolation = size, interpolation

    def __getitem__(self, rows: list[Row]) -> Loaded:
        images, kept, faults = [], [], []
        for row in rows:
            try:
                images.append(load_image(row.path, self.size, self.interpolation))
                kept.append(row)
            except UserError as error:
                faults.append(str(error))
        stacked = torch.stack(images) if images else torch.empty(0, 3, *self.size, dtype=torch.uint8)
        return Loaded(stacked, kept, faults)


class Batches:
    """The batches of a list from a row on, as a loader takes its sampler."""

    def __init__(self, listing: Listing, start: int, size: int):
        self.listing, self.start, self.size = listing, start, size

    def __iter__(self) -> Iterator[list[Row]]:
        return self.listing.batches(self.start, self.size)


def embed_into(
    root: Path,
    embedder: Embedder,
    images: Callable[[], Iterable[Row]],
    batch: int,
    workers: int | None = None,
    append: bool = False,
) -> Outcome:
    """Make the gallery folder `root` of these images, or add them to it, in batches of `batch`.

    Resumes where the same call was stopped, and ends with the same bytes, however often that happened. workers: loader
    processes; None: one for each core. UserError where the folder holds something else, where no image can be read, and
    where the disk is full: what is done stays.
    """
    with held(root):
        card = read_card(root) if (root / CARD_FILE).exists() else None
        _require_kind(root, card, embedder, append)
        with closing(Listing(root / PART / "listing.sqlite")) as listing:
            known = islice(read_images(root / IMAGES), card["rows"]) if card and append else ()
            filled = _filled(listing, images(), known)
            request = hashlib.sha256(json.dumps([filled.digest, embedder.hash, batch]).encode()).hexdigest()
            if card and request in card[REQUESTS] or append and filled.asked and not listing.count:
                return _nothing_to_do(root, card, request)
            state = _state(root, request, filled, card if append else None, embedder.dimension)
            if not state.complete:
                with Writer(root, state, embedder.dimension) as writer:
                    _embed(writer, embedder, listing, batch, workers)
                    _finish(writer, {**(card or embedder.card), MODEL_FILE: str(embedder.file or "")}, request)
            publish(root)
            return Outcome(state.rows, state.rows - (card["rows"] if card else 0), state.left_out, False)


def _filled(listing: Listing, rows: Iterable[Row], known: Iterable[Row]) -> Filled:
    filled = listing.fill(rows, known)
    if filled.repeated:
        logger.warning(
            f"{filled.repeated} images are in the gallery already, or are named twice, {shown(filled.example)} first; "
            "left out"
        )
    return filled


def _require_kind(root: Path, card: dict[str, Any] | None, embedder: Embedder, append: bool) -> None:
    """UserError where the folder cannot take what this model embeds. card: of the gallery in it; gets its requests."""
    if append and card is None:
        raise UserError(f"{root}: holds no {CARD_FILE}, so there is no finished gallery to add to; leave out --append")
    if card is None:
        return
    if card["model"] != embedder.hash:
        raise UserError(
            f"{root / CARD_FILE}: a gallery of another model, {card['model'][:12]} and not {embedder.hash[:12]}; give "
            "another --out"
        )
    card.setdefault(REQUESTS, [])
    if wrong := misfit(card, {REQUESTS: each(HASH), "rows": whole(1)}):
        raise UserError(f"{root / CARD_FILE}: not as tools.embed writes it: {wrong}; give another --out")


def _nothing_to_do(root: Path, card: Mapping[str, Any], request: str) -> Outcome:
    state = read_state(root)
    if state is not None and state.request == request:  # killed between its last rename and its end
        publish(root)
    return Outcome(card["rows"], 0, 0, True)


def _state(root: Path, request: str, filled: Filled, card: Mapping[str, Any] | None, dimension: int) -> State:
    """Where the embedding starts or resumes. card: of the gallery that it adds to. UserError where it may not."""
    if card is None and (root / CARD_FILE).exists():
        raise UserError(
            f"{root}: a finished gallery of other images, or with another --batch; --append adds to it, or give "
            "another --out"
        )
    if not filled.asked:
        raise UserError(f"there is no image in what was given: folders are searched for {', '.join(sorted(SUFFIXES))}")
    state = read_state(root)
    if state is None:
        return started(root, request, card, dimension)
    if state.request != request:
        raise UserError(
            f"{root / PART}: an unfinished embedding of other images, of another model or with another --batch: start "
            "that one again, remove this folder, or give another --out"
        )
    return state


def _embed(writer: Writer, embedder: Embedder, listing: Listing, batch: int, workers: int | None) -> None:
    """Embed what the list holds from the writer's state on. UserError for vectors that are not finite."""
    writer.save()
    state, reported = writer.state, 0
    loader = _loader(embedder, listing, state.listed, batch, workers)
    bar = tqdm(total=listing.count, initial=state.listed, desc="embedding: ", leave=False, **bar_options())
    with bar, _interrupts_said():
        for loaded in loader:
            vectors = _vectors(embedder, loaded)
            listed = len(loaded.rows) + len(loaded.faults)
            writer.add(loaded.rows, vectors, listed, len(loaded.faults))
            bar.update(listed)
            for fault in loaded.faults[: max(0, NAMED - reported)]:
                logger.warning(f"{fault}; left out")
            reported += len(loaded.faults)
    if reported > NAMED:
        logger.warning(f"unreadable images besides: {reported - NAMED}; left out")


def _loader(embedder: Embedder, listing: Listing, start: int, batch: int, workers: int | None) -> PatientLoader:
    left = math.ceil((listing.count - start) / batch)
    size = batch * 3 * embedder.size[0] * embedder.size[1]
    return PatientLoader(
        Loading(embedder.size, embedder.interpolation),
        batch_size=None,
        sampler=Batches(listing, start, batch),
        num_workers=workers_with_room(min(asked_workers(workers), left), size),
        pin_memory=embedder.device.type == "cuda",
        generator=torch.Generator().manual_seed(0),  # the global random state stays as it is
    )


def _vectors(embedder: Embedder, loaded: Loaded) -> np.ndarray:
    if not loaded.rows:
        return np.empty((0, embedder.dimension), dtype=np.float32)
    try:
        vectors = embedder(loaded.images, loaded.rows[0].modality).numpy()
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise UserError(
            f"not enough memory to embed {len(loaded.rows)} images at a time; give a smaller --batch"
        ) from None
    if not np.isfinite(vectors).all():
        raise UserError(
            f"{shown(loaded.rows[0].path)} or an image after it has a vector that is not finite: the model's weights "
            "are damaged or diverged; give another checkpoint"
        )
    return vectors


def _finish(writer: Writer, card: Mapping[str, Any], request: str) -> None:
    """Complete the gallery's files. UserError where no image could be read; then nothing is left of the attempt."""
    state = writer.state
    if state.left_out == state.listed:
        (writer.part / STATE).unlink()
        raise UserError(f"none of the {state.listed} images can be read; nothing was written")
    writer.finish({**card, REQUESTS: [*card.get(REQUESTS, []), request]})


@contextmanager
def _interrupts_said() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes") from None

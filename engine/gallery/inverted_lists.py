"""An index of faiss that looks into a few lists of vectors, not all: it is fast, and may miss some of the nearest."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import numpy as np

from engine.gallery.folder import VECTORS, Gallery, require_unit
from utils.errors import UserError, reason
from utils.extras import require
from utils.files import replacing
from utils.logging import logger

PREFIX, SUFFIX = "faiss-", ".index"
SAMPLES = 64  # rows for each list, from which the lists' centres are computed
LEAST = 39  # rows for each list, below which faiss warns
SHARE, FEWEST = 3, 32  # a search looks into one list of SHARE, into FEWEST at least
MORE = 4  # candidates for each image that is asked for: the lists hold 8 bits of a number, the gallery's file all 32
ADDED = 2**27  # bytes of vectors that are sorted into lists at once


class InvertedLists:
    """The rows of a gallery, sorted into about sqrt(N) lists by the centres of their vectors.

    Building them takes longer than many exact searches, so they are kept in the gallery's folder, under a name that
    changes with the model and with vectors.npy. Raises UserError where faiss is not installed or a vector is not of
    unit length.
    """

    def __init__(self, gallery: Gallery):
        self.faiss: Any = require("faiss", "the index faiss")
        self.path = gallery.root / f"{PREFIX}{_stamp(gallery)}{SUFFIX}"
        self.index = self._read(gallery.vectors) or self._build(gallery.vectors)

    def rows(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> np.ndarray:
        """At least `count` candidates of each query where there are so many, [Q, D] -> [Q, C] int64, -1 for none."""
        there = self.index.ntotal if allowed is None else int(allowed.sum())
        wanted = min(MORE * count, there)
        if not len(queries) or not wanted:
            return np.empty((len(queries), 0), dtype=np.int64)
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        chosen = {} if bits is None else {"sel": self.faiss.IDSelectorBitmap(bits)}
        probes = max(FEWEST, self.index.nlist // SHARE)
        while True:
            settings = self.faiss.SearchParametersIVF(nprobe=min(probes, self.index.nlist), **chosen)
            rows = self.index.search(queries, wanted, params=settings)[1]
            if (rows >= 0).sum(axis=1).min() >= min(count, there) or probes >= self.index.nlist:
                return rows
            probes *= 2  # few of the images in these lists are allowed

    def _read(self, vectors: np.ndarray) -> Any:
        """The index that was kept, or None."""
        with suppress(OSError, RuntimeError, MemoryError), self.path.open("rb") as stream:
            index = self.faiss.read_index(self.faiss.PyCallbackIOReader(stream.read))
            if (index.ntotal, index.d) == vectors.shape:
                return index
        return None

    def _build(self, vectors: np.ndarray) -> Any:
        """A new index, kept where the folder allows it."""
        count, width = vectors.shape
        lists = max(1, min(int(count**0.5), count // LEAST))
        inner = self.faiss.METRIC_INNER_PRODUCT
        centres = self.faiss.IndexFlatIP(width)
        index = self.faiss.IndexIVFScalarQuantizer(centres, width, lists, self.faiss.ScalarQuantizer.QT_8bit, inner)
        try:
            step = max(1, ADDED // (4 * width))
            for start in range(0, count, step):
                require_unit(vectors[start : start + step], np.arange(start, count))
            if count:
                sample = np.linspace(0, count - 1, min(count, SAMPLES * lists)).astype(np.int64)
                index.train(vectors[sample])
            for start in range(0, count, step):
                index.add(vectors[start : start + step])
        except RuntimeError as error:
            raise UserError(f"{self.path.parent / VECTORS}: no index can be made of it ({reason(error)})") from None
        self._keep(index)
        return index

    def _keep(self, index: Any) -> None:
        try:
            with replacing(self.path, patient=False) as stream:
                self.faiss.write_index(index, self.faiss.PyCallbackIOWriter(stream.write))
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or reason(error)
            logger.warning(f"{self.path}: not kept ({why}), so the next search builds it again")
            return
        for older in self.path.parent.glob(f"{PREFIX}*{SUFFIX}"):
            if older != self.path:
                older.unlink(missing_ok=True)


def _stamp(gallery: Gallery) -> str:
    """Changes with the model and with the content of vectors.npy."""
    found = (gallery.root / VECTORS).stat()
    known = (gallery.card["model"], *gallery.vectors.shape, found.st_size, found.st_mtime_ns)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]

"""The rankers by name. An entry is all that training, tables, reports and commands know of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from engine.retrieval.cosine import cosine_ranking, inner_ranking
from engine.retrieval.k_reciprocal import KReciprocalDefaults, k_reciprocal_ranking
from engine.retrieval.mser import mser_ranking
from engine.retrieval.reranking import Ranking
from utils.errors import UserError, pick
from utils.types import MserDefaults

# (query [Vq, Q, D], gallery [Vg, N, D], both normalised unless the ranker compares lengths, memory in GB) -> a ranking
# of any part of that gallery. Whatever trials with the same queries share is computed when it is called.
Rank = Callable[[Tensor, Tensor, float], Ranking]


class Ranker(NamedTuple):
    """A way to rank a gallery."""

    label: str  # as people write it
    # From MSER's parameters, None where the data set has none: UserError from a ranker that needs them.
    make: Callable[[MserDefaults | None], Rank]
    spectra: bool = False  # whether it compares visible images in four spectra
    uses_queries: bool = False  # whether a query's ranking depends on the other queries (transductive)
    lengths: bool = False  # whether vectors keep their lengths; those that other rankers get have length 1


def _cosine(mser: MserDefaults | None) -> Rank:
    return cosine_ranking


def _inner(mser: MserDefaults | None) -> Rank:
    return inner_ranking


def _mser(mser: MserDefaults | None) -> Rank:
    if mser is None:
        raise UserError(
            "mser: nobody published its parameters for this data set; leave it out (mser false, or rankers without "
            "it), or give main.py the keys mser_k1, mser_k2, mser_lambda and mser_queries_only"
        )
    return partial(_with, mser_ranking, mser)


def _k_reciprocal(mser: MserDefaults | None) -> Rank:
    return partial(_with, k_reciprocal_ranking, KReciprocalDefaults())


def _with(ranking: Callable, parameters: tuple, query: Tensor, gallery: Tensor, memory_gb: float) -> Ranking:
    return ranking(query, gallery, parameters, memory_gb)


PLAIN = "cosine"  # evaluates during training, where it selects the model
RANKERS = {
    PLAIN: Ranker("cosine", _cosine),
    "inner": Ranker("inner product", _inner, lengths=True),
    "mser": Ranker("MSER", _mser, spectra=True, uses_queries=True),
    "k_reciprocal": Ranker("k-reciprocal", _k_reciprocal, uses_queries=True),
}
DEFAULT = (PLAIN, "mser")  # of a final test


def rankers(names: Iterable[str], mser: MserDefaults | None) -> dict[str, Rank]:
    """These rankers, made with MSER's parameters. UserError where one needs parameters that are None."""
    return {name: RANKERS[name].make(mser) for name in names}


def require_rankers(said: str, names: Sequence[str]) -> None:
    """UserError for an unknown ranker, and for one that is named twice. said: the key or option that names them."""
    for position, name in enumerate(names):
        pick(RANKERS, name, said)
        if name in names[:position]:
            raise UserError(
                f"{said} = {','.join(names)!r} repeats {name}; choose each of {', '.join(sorted(RANKERS))} once"
            )


def label_of(name: str) -> str:
    """What people call a ranker; its name where it is one that RANKERS no longer has."""
    return RANKERS[name].label if name in RANKERS else name


def uses_queries(name: str) -> bool:
    """Whether a query's ranking depends on the other queries."""
    return name in RANKERS and RANKERS[name].uses_queries


def keeps_lengths(name: str) -> bool:
    """Whether a ranker compares vectors at their own lengths."""
    return name in RANKERS and RANKERS[name].lengths


def need_spectra(names: Iterable[str]) -> bool:
    """Whether one of these compares visible images in four spectra."""
    return any(RANKERS[name].spectra for name in names)

"""What the pages look like: values for the templates in pages/, which escape whatever they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.sets import DATASETS
from engine.retrieval.rankers import label_of
from tools.serving.asked import MOST_SHOWN, Browsed, Filters, Wanted
from tools.serving.library import OTHER, Answer, Hit, Place, Query
from tools.serving.reply import image_address
from tools.serving.service import Service

PAGES = Path(__file__).parent / "pages"
STATIC = PAGES / "static"
EACH_PAGE = 48  # images of a gallery that is looked through
COUNTS = (10, 20, 50, 100, MOST_SHOWN)
SCORES = {"r1": "Rank-1", "r5": "Rank-5", "r10": "Rank-10", "r20": "Rank-20", "mAP": "mAP", "mINP": "mINP"}


@cache
def templates() -> Environment:
    loader = FileSystemLoader(PAGES)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"image_address": image_address, "search_on": search_on, "model_line": model_line}
    return made


def render(name: str, service: Service, **values: Any) -> str:
    shared = {"card": service.library.card, "megabytes": service.limit / 2**20, "limit": service.limit}
    return templates().get_template(name).render(**shared, **values)


def home(service: Service, asked: Browsed) -> str:
    """Where a query is chosen: a form for an image, and a gallery to look through."""
    library = service.library
    shelf, modality, places, count = library.browse(asked, EACH_PAGE)
    last = max(1, -(-count // EACH_PAGE))
    steps = {"Previous": asked.page - 1, "Next": asked.page + 1}
    return render(
        "home.html",
        service,
        asked=asked,
        shelves=list(library.shelves.values()),
        shelf=shelf,
        modality=modality,
        places=places,
        count=count,
        last=last,
        steps={name: asked.address("/", page=page) + "#gallery" for name, page in steps.items() if 1 <= page <= last},
    )


def result(service: Service, wanted: Wanted, query: Query, answer: Answer) -> str:
    """The ranked images, one list or two."""
    library = service.library
    shelves = library.chosen(wanted.gallery)
    found = OTHER[query.modality] if wanted.modality == "other" else wanted.modality
    return render(
        "result.html",
        service,
        wanted=wanted,
        query=query,
        query_image=f"/upload/{query.token}" if query.token else image_address(query.place),
        answer=answer,
        found=found,
        searched=[shelf.name for shelf in shelves],
        all_galleries=list(library.shelves),
        cameras=library.cameras(shelves, found, wanted.camera),
        counts=COUNTS if wanted.top in COUNTS else sorted((*COUNTS, wanted.top)),
        lists=lists(query, answer),
        narrowed=wanted.filters() != Filters(),
        reset=wanted.address("/search", **Filters().model_dump()),
        other_side=wanted.address("/search", rerank=not wanted.rerank),
        legend=any(hit.right is not None for hit in answer.hits),
    )


def lists(query: Query, answer: Answer) -> list[dict[str, Any]]:
    """The columns of a result; `right` says how many of a column's images show the query's identity."""
    note = f"k-reciprocal, the nearest {answer.candidates} among themselves"
    columns = [("By distance", "1 − cosine of the vectors", answer.hits), ("Re-ranked", note, answer.reranked)]
    return [
        {"title": title, "note": note, "hits": hits, "right": right(hits) if query.identity and hits else ""}
        for title, note, hits in columns
        if hits is not None
    ]


def right(hits: Sequence[Hit]) -> str:
    """How many images are right, and where the first is."""
    ranks = [hit.rank for hit in hits if hit.right]
    return f"{len(ranks)} of the {len(hits)} shown are right" + (f", the first at rank {ranks[0]}" if ranks else "")


def search_on(place: Place, wanted: Wanted | None = None) -> str:
    """The address of the search with this image, with the filters of `wanted` that mean the same for it."""
    kept = Wanted(**wanted.filters().model_dump(exclude={"camera", "threshold"})) if wanted else Wanted()
    return kept.address("/search", query_gallery=place.gallery, query_row=place.row)


def model(service: Service) -> str:
    """The card."""
    card = service.library.card
    rows = [{**row, "ranking": label_of(row["ranking"])} for row in card.get("scores", [])]
    return render(
        "model.html",
        service,
        rows=rows,
        scores=SCORES,
        facts=facts(card),
        versions={name: version for name, version in card.get("versions", {}).items() if version},
        shelves=list(service.library.shelves.values()),
    )


def facts(card: Mapping[str, Any]) -> dict[str, str]:
    """What the card says of the model, in the words of people."""
    height, width = card["image_size"]
    return {
        "Method": card["method"] or "unknown",
        "Data set": data_set(card),
        "Protocol": card["protocol"] or "unknown",
        "Image size": f"{height} × {width} pixels",
        "Vector": f"{card['dimension']} numbers",
        "Hash": card["model"],
    }


def model_line(card: Mapping[str, Any]) -> str:
    """The model and its first score in a line."""
    name = f"{card['method'] or 'A model of an unknown method'}, trained on {data_set(card)}"
    if not card["scores"]:
        return f"{name}; how good it is is unknown"
    row = card["scores"][0]
    return f"{name}: rank-1 {row['r1']:.1f} %, mAP {row['mAP']:.1f} % ({row['protocol']}, {label_of(row['ranking'])})"


def data_set(card: Mapping[str, Any]) -> str:
    """Its name; where the model was not trained on the published identities, that of its layout only."""
    known, found = DATASETS.get(card["dataset"]), card.get("identities")
    if known is None:
        return card["dataset"] or "an unknown data set"
    published = known.published.get("training identities", found)
    if found in (None, published):
        return known.label
    return f"{found} identities in the layout of {known.label}, which has {published}"


def documentation(service: Service, operations: Sequence[Any], replies: Mapping[str, Any]) -> str:
    """The page of the API."""
    return render("api.html", service, operations=operations, replies=replies)


def message(service: Service, text: str) -> str:
    """A page that says why there is nothing else, with a way on."""
    return render("message.html", service, message=text)


@cache
def gone() -> str:
    """An image that says that there is none, SVG."""
    return (STATIC / "gone.svg").read_text(encoding="utf-8")

"""Measure how a running tools.serve answers many clients at once: searches with gallery images and with sent ones.

python -m benchmarks.serve http://127.0.0.1:8000/ --clients 50 --seconds 30
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from utils.cli import Parser, exit_code, natural, positive
from utils.errors import UserError, reason
from utils.extras import require

KINDS = {"page of a search": 4, "search, JSON": 3, "search with a sent image": 2, "image": 1}  # and how often
PATIENCE = 60  # seconds for an answer


class Answered(NamedTuple):
    kind: str
    seconds: float
    fault: str  # empty where all is well


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if not args.clients:
        raise UserError("--clients 0: give 1 or more")
    require("httpx", "benchmarks.serve", "tests/requirements.txt")
    answered, seconds = asyncio.run(load(args.url.rstrip("/"), args.clients, args.seconds))
    print(table(answered, args.clients, seconds))
    faults = sorted({each.fault for each in answered if each.fault})
    if faults:
        raise UserError(f"{args.url}: not every request was answered: {'; '.join(faults[:5])}")


async def load(url: str, clients: int, seconds: float) -> tuple[list[Answered], float]:
    """What so many clients got, each of which asks again as soon as it has an answer; and how long it took."""
    import httpx

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:
        try:
            gallery = (await client.get("/api/galleries")).raise_for_status().json()["galleries"][0]
            sent = (await client.get(f"/image/{gallery['name']}/0")).raise_for_status().content
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise UserError(f"{url}: no answer as tools.serve gives ({reason(error)}); start it first") from None
        start = time.perf_counter()
        ask = partial(asking, client, gallery, sent, start + seconds)
        found = await asyncio.gather(*(ask(random.Random(number)) for number in range(clients)))
    return [each for one in found for each in one], time.perf_counter() - start


async def asking(client: Any, gallery: dict[str, Any], image: bytes, end: float, draw: random.Random) -> list[Answered]:
    """One client, until `end` on the clock."""
    found = []
    while (start := time.perf_counter()) < end:
        (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
        row = draw.randrange(sum(gallery["images"].values()))
        try:
            answer = await request(client, kind, gallery["name"], row, image, draw)
            fault = "" if answer.status_code == 200 else f"{kind}: status {answer.status_code}"
        except Exception as error:
            fault = f"{kind}: {type(error).__name__}"
        found.append(Answered(kind, time.perf_counter() - start, fault))
    return found


async def request(client: Any, kind: str, gallery: str, row: int, image: bytes, draw: random.Random) -> Any:
    """The answer to a request of this kind. image: the file that is sent."""
    wanted = {"query_gallery": gallery, "query_row": row, "top": 20, "rerank": int(draw.random() < 0.25)}
    if kind == "image":
        return await client.get(f"/image/{gallery}/{row}")
    if kind == "search with a sent image":
        sent = {"image": ("query.jpg", image)}
        return await client.post("/api/search", files=sent, data={"query_modality": "infrared", "top": "20"})
    return await client.get("/search" if kind == "page of a search" else "/api/search", params=wanted)


def table(answered: Sequence[Answered], clients: int, seconds: float) -> str:
    """Markdown: a row for each kind of request and one for all."""
    faults = sum(bool(each.fault) for each in answered)
    rate = f"{len(answered) / seconds:.0f} a second"
    lines = [
        f"{clients} clients, {seconds:.0f} s: {len(answered)} requests ({rate}), {faults} errors\n",
        "| request | number | median, ms | 95 %, ms | longest, ms |",
        "|---|---|---|---|---|",
    ]
    for kind in (*KINDS, "all"):
        times = [1000 * each.seconds for each in answered if kind in (each.kind, "all")]
        if times:
            middle, late, last = np.percentile(times, (50, 95, 100))
            lines.append(f"| {kind} | {len(times)} | {middle:.0f} | {late:.0f} | {last:.0f} |")
    return "\n".join(lines)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("url", help="Ask the tools.serve at this address.")
    parser.add_argument(
        "--clients", type=natural, default=50, help="Ask from this number of clients at a time (default: 50)."
    )
    parser.add_argument("--seconds", type=positive, default=30.0, help="Ask for so long (default: 30).")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

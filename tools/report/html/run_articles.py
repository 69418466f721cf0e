"""The runs' facts, configurations and logs: what all have in common once, and what differs in each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.experiments.outcome import Outcome
from tools.report.html.markup import pairs, scrolling, tag, text
from tools.report.html.tables import anchor
from tools.report.run_files import RunFiles, shared

COMMON = "Common to all runs"
NOT_THERE = "There is no such file."


def run_articles(outcome: Outcome, files: Mapping[Path, RunFiles]) -> list[str]:
    """What the runs have in common, then every run; nothing where there is no run. files: in the page's order."""
    facts = shared([run.facts for run in files.values()])
    config = shared([run.config for run in files.values()])
    several = len(files) > 1
    parts = [common(facts, config)] if several else []
    for number, (folder, run) in enumerate(files.items(), start=1):
        heading = users(outcome, folder)
        parts.append(run_article(run, number, heading, *((facts, config) if several else ({}, {}))))
    return parts


def common(facts: Mapping[str, str], config: Mapping[str, str]) -> str:
    text_of = listing(f"config.yml, {COMMON.lower()}", "".join(config.values()), "keys") if config else ""
    title = [text("h4", "config.yml, the keys that are the same in all runs")] if config else []
    return tag("article", text("h3", COMMON), pairs(facts), *title, text_of)


def run_article(run: RunFiles, number: int, heading: str, facts: Mapping[str, str], config: Mapping[str, str]) -> str:
    """A run: its facts and configuration as far as they are not `facts` and `config`, and its log."""
    own = {name: value for name, value in run.facts.items() if name not in facts}
    different = "".join(block for key, block in run.config.items() if key not in config)
    if not run.config:
        settings = text("p", NOT_THERE)
    elif different:
        settings = listing(f"config.yml of {heading}", different, "keys")
    else:
        settings = text("p", "Nothing else.")
    log = listing(f"log.txt of {heading}", run.log) if run.log else text("p", NOT_THERE)
    title = f"config.yml, beside what is {COMMON.lower()}" if config else "config.yml"
    return tag(
        "article",
        text("h3", heading),
        pairs({**own, "folder": run.folder}),
        text("h4", title, id=anchor("config", number)),
        settings,
        text("h4", "log.txt", id=anchor("log", number)),
        log,
        id=anchor("run", number),
    )


def listing(label: str, content: str, kind: str = "") -> str:
    """A text in a box that scrolls on a screen and is whole on paper. kind: "keys" is set in columns."""
    return scrolling(label, text("pre", content), class_=f"listing {kind}".strip())


def users(outcome: Outcome, folder: Path) -> str:
    """The rows' runs that a folder holds: "+WG, seed 8"; "all and all + MSER, seed 8"."""
    rows: dict[str, list[str]] = {}
    for row in outcome.rows:
        for run in row.runs:
            if run.folder == folder:
                rows.setdefault(run.label, []).append(row.name)
    return "; ".join(f"{' and '.join(names)}, {label}" for label, names in rows.items())

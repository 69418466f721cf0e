"""What was found, as lines of at most 80 columns."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence

from tools.checkup.checks import CHECKS, CONTENT, Finding, Reading, how_many
from tools.checkup.examine import Examined
from utils.errors import shown

WIDTH = 80
NAME = 44  # columns of what is counted or checked


def table(reading: Reading, images: Sequence[Examined] | None, findings: Sequence[Finding]) -> str:
    """The whole report. images: None where they were not opened."""
    serious = sum(finding.serious for finding in findings)
    end = f"{serious} to put right" if serious else "all is well"
    parts = [
        heading(reading, images),
        counts(reading),
        checks(reading, findings, opened=images is not None),
        *(told(finding, str(reading.root)) for finding in findings),
        f"{reading.dataset.label}: {end}",
    ]
    return "\n\n".join(part for part in parts if part)


def heading(reading: Reading, images: Sequence[Examined] | None) -> str:
    seen = "images not opened" if images is None else f"{how_many(images, 'image')} opened"
    return filled(f"{reading.dataset.label} in {shown(reading.root)}: {seen}", "")


def counts(reading: Reading) -> str:
    """What there is in the first split that could be read, beside what its authors say; empty where none could."""
    if not reading.benchmarks:
        return ""
    split, benchmark = next(iter(reading.benchmarks.items()))
    found: Mapping[str, int] = reading.dataset.counted(benchmark)
    published = reading.dataset.published
    title = f"split {split}" if reading.dataset.splits else ""
    if benchmark.drawn is not None:
        title = f"the test drawn with seed {benchmark.drawn}"
    lines = [line_of(title, "found", "published" if published else "")]
    for name, number in found.items():
        expected = published.get(name)
        mark = "" if expected in (None, number) else "  differs"
        lines.append(line_of(name, str(number), "" if expected is None else str(expected)) + mark)
    return "\n".join(lines)


def line_of(name: str, *values: str) -> str:
    return (f"{name:{NAME}}" + "".join(f"{value:>12}" for value in values)).rstrip()


def checks(reading: Reading, findings: Sequence[Finding], opened: bool) -> str:
    """A line of each check."""
    lines = []
    for check in CHECKS:
        own = [finding.serious for finding in findings if finding.check == check]
        unknown = check in CONTENT and not opened or check not in CONTENT and not reading.benchmarks
        if check == "published counts" and not reading.dataset.published:
            continue
        state = "WRONG" if any(own) else "note" if own else "not known" if unknown else "ok"
        lines.append(line_of(check, state))
    return "\n".join(lines)


def told(finding: Finding, root: str) -> str:
    """A finding and what to do about it; names are relative to the data set's folder."""
    label = "WRONG  " if finding.serious else "note   "
    text = finding.said.replace(root + os.sep, "")
    return filled(f"{label}{finding.check}: {text}" + (f"; {finding.way}" if finding.way else ""), " " * len(label))


def filled(text: str, indent: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)

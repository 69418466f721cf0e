"""Pieces of HTML: whatever comes from outside is escaped here."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping
from html import escape

from tools.figures.style import DPI
from tools.report.captioned_figure import CaptionedFigure

CSS_DPI = 96


def tag(name: str, *content: str, **attributes: str | int) -> str:
    """An element of ready HTML; attribute values are escaped, a trailing _ of their names is dropped, others are -."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{given}>{''.join(content)}</{name}>"


def text(name: str, content: object, **attributes: str | int) -> str:
    """An element that holds text."""
    return tag(name, escape(str(content)), **attributes)


def items(lines: Iterable[str]) -> str:
    """A list of ready HTML."""
    return tag("ul", *(tag("li", line) for line in lines))


def pairs(facts: Mapping[str, str]) -> str:
    """Names and their meanings."""
    return tag("dl", *(text("dt", name) + text("dd", value) for name, value in facts.items())) if facts else ""


def scrolling(label: str, *content: str, **attributes: str | int) -> str:
    """A part that scrolls by itself where it is too wide or too long, with the keyboard too. label: what it shows."""
    kind = " ".join(filter(None, ["scroll", str(attributes.pop("class_", ""))]))
    return tag("div", *content, class_=kind, tabindex=0, role="region", aria_label=label, **attributes)


def figure(shown: CaptionedFigure) -> str:
    """The figure inside the page, in its natural size on paper, with its caption."""
    width, height = (round(side * CSS_DPI / DPI) for side in struct.unpack(">II", shown.png[16:24]))
    source = "data:image/png;base64," + base64.b64encode(shown.png).decode("ascii")
    image = f'<img src="{source}" width="{width}" height="{height}" alt="{escape(f"{shown.title}. {shown.caption}")}">'
    caption = tag("figcaption", text("strong", f"{shown.title}."), " ", escape(shown.caption))
    return tag("figure", image, caption)

"""Print docs/configuration.md from the table of keys: python -m tools.document_keys > docs/configuration.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from configs.defaults import GROUPS, Key
from utils.cli import Parser, exit_code

HEADER = """# Every configuration key

A run starts from these defaults, then takes the keys of its yml file (`--cfg`), then the `KEY VALUE` pairs at the end
of the command line. Values may be written as YAML or as Python: `test_only true`, `lr 1e-3`,
`image_size "(128, 64)"`, `lr_step "[40, 60]"`. An unknown key is refused, with the nearest real one. "empty" stands for
no value.

`source` says where a key comes from: the paper, the released code, or this project.

This page is printed by `python -m tools.document_keys` from `configs/defaults.py`.
"""


def document() -> str:
    """The page, as Markdown."""
    sections = [HEADER]
    for title, keys in GROUPS.items():
        rows = "\n".join(map(row, keys))
        sections.append(f"## {title}\n\n| key | type | default | meaning | source |\n|---|---|---|---|---|\n{rows}\n")
    return "\n".join(sections)


def row(key: Key) -> str:
    kind = (
        {int: "whole numbers", str: "names"}[key.of]
        if key.kind is tuple
        else {"int": "whole number", "float": "number", "str": "text"}.get(key.kind.__name__, "true/false")
    )
    default = "empty" if key.default in (None, "", ()) else f"`{key.default}`"
    meaning = key.meaning.replace("|", "\\|")
    return f"| `{key.name}` | {kind} | {default} | {meaning} | {key.source} |"


def main(argv: Sequence[str] | None = None) -> None:
    Parser(prog="python -m tools.document_keys", description=__doc__).parse_args(argv)
    print(document(), end="")


if __name__ == "__main__":
    sys.exit(exit_code(partial(main, None)))

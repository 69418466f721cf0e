"""The Chinese README says what README says: its commands, links, images, figures and sections are the same."""

import re
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
ENGLISH, CHINESE = (
    (HOME / name).read_text(encoding="utf-8").replace("[English](README.md)", "").replace("[中文](README.zh-CN.md)", "")
    for name in ("README.md", "README.zh-CN.md")
)
SAME = {
    "blocks of code": r"```.*?```",
    "levels of headings": r"^#+(?= )",
    "rows of tables": r"^\|(?=.)",
    "keys and names of files": r"`([a-z_]+(?:[./_][a-zA-Z_]+)+)`",
    "numbers with a decimal point": r"\d+\.\d+",
}


@pytest.mark.parametrize("pattern", SAME.values(), ids=SAME.keys())
def test_it_keeps_step(pattern):
    found = [re.findall(pattern, text, flags=re.S | re.M) for text in (ENGLISH, CHINESE)]
    if pattern.startswith("`"):
        found = [sorted(set(names)) for names in found]
    assert found[0] and found[0] == found[1]


def test_it_has_the_same_links_and_images():
    english, chinese = (set(re.findall(r"\]\(([^)]+)\)", text)) for text in (ENGLISH, CHINESE))
    assert english == chinese

"""Docstrings of tensor functions name shapes, those of methods name their formula, and documents keep to the words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("data", "models", "losses", "engine", "utils", "tools")
SHAPE = re.compile(r"\[[A-Za-z0-9' ][A-Za-z0-9_' /*+.,-]*\]|\bscalars?\b")
# Frames of losses and models, which hold no formula of their own.
FRAMES = {"__init__.py", "criterion.py", "distance.py", "released.py", "fusion.py"}
FORMULAS = [p for top in ("losses", "models") for p in sorted((ROOT / top).glob("*.py")) if p.name not in FRAMES]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def tensor_functions(tree: ast.Module) -> list[tuple[str, str]]:
    """(name, docstring) of the public functions that take or give tensors; a forward may lean on its class."""
    found = []
    for node in tree.body:
        owner = node if isinstance(node, ast.ClassDef) else None
        for function in owner.body if owner else [node]:
            if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
                continue
            given = [a.annotation for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
            if any(a and re.search(r"\b(Tensor|ndarray)\b", ast.unparse(a)) for a in (*given, function.returns)):
                text = ast.get_docstring(function) or ""
                if owner and function.name == "forward":
                    text += ast.get_docstring(owner) or ""
                found.append((function.name, text))
    return found


def test_what_counts():
    tree = ast.parse(
        'class A:\n    """[B] -> [B]."""\n    def forward(self, x: Tensor): pass\ndef _f(x: Tensor): pass\n'
    )
    assert tensor_functions(tree) == [("forward", "[B] -> [B].")]
    assert SHAPE.search("rows [N, 2 D]") and SHAPE.search("a scalar") and not SHAPE.search("values in [0, 1)")


@pytest.mark.parametrize("package", PACKAGES)
def test_tensor_functions_name_shapes(package):
    """At least seven of ten in each package."""
    found = [
        (path.name, *each)
        for path in sorted((ROOT / package).rglob("*.py"))
        for each in tensor_functions(ast.parse(path.read_text(encoding="utf-8")))
    ]
    without = [f"{path}: {name}" for path, name, text in found if not SHAPE.search(text)]
    assert found and len(without) <= 0.3 * len(found), without


@pytest.mark.parametrize("path", FORMULAS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_methods_name_their_formula(path):
    assert re.search(r" (=|->) ", ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks", "configs", "tests"])
def test_code_says_image(package):
    """In its names and comments; "pictures" in quotes is a key of run.json and of table files, which people have."""
    said = re.compile(r"picture(?!s[\"}:])", re.IGNORECASE)
    paths = [path for path in sorted((ROOT / package).rglob("*.py")) if path != Path(__file__)]
    assert paths and not [path for path in paths if said.search(path.name + path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_say_image(page):
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert not re.findall(r".*\b(?:pictures?|so many)\b.*", prose)

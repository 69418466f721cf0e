"""Who may import whom, where the configuration is read, and what never appears (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "utils": set(),
    "configs": {"utils"},
    "data": {"utils"},
    "models": {"utils"},
    "losses": {"utils"},
    "engine": {"utils", "configs", "data", "models", "losses"},
}
OURS = {*MAY_IMPORT, "main", "tools", "tests", "benchmarks"}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
# Functions beside build_* that take the configuration; all of them live in their package's build.py.
CFG_EDGES = {"data_root", "describe", "_loader", "rankings"}
TEXTS = [
    path
    for pattern in ("*.py", "*.yml", "*.md", "*.txt", "*.sh", "*.ini", "Makefile", ".ci/*")
    for path in [*ROOT.glob(pattern), *(p for top in (*OURS - {"main"}, "docs") for p in (ROOT / top).rglob(pattern))]
    if path.is_file()
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_packages(tree: ast.Module) -> set[str]:
    """Our packages that a file imports anywhere in it, inside functions too."""
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {module.split(".")[0] for module in modules} & OURS


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]


def takes_cfg(function: ast.FunctionDef) -> bool:
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return any(p and (p.arg == "cfg" or p.annotation and "CfgNode" in ast.unparse(p.annotation)) for p in parameters)


def words(tree: ast.Module) -> list[str]:
    """Identifiers and texts of a file, docstrings left out; comments are not in the tree."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) not in docstrings:
            found += [value for _, value in ast.iter_fields(node) if isinstance(value, str)]
    return found


# ------------------------------------------------------------------------------------- the helpers see what they should


def test_the_helpers_see_hidden_imports_and_parameters():
    tree = ast.parse(
        'def f(*, c: "CfgNode"):\n    "sysu"\n    import tools.x\n    from data import a\n    return c.dataset == "regdb"'
    )
    assert imported_packages(tree) == {"tools", "data"}
    assert [takes_cfg(f) for f in functions(tree)] == [True]
    assert "regdb" in words(tree) and "dataset" in words(tree) and "sysu" not in words(tree)
    assert len(FILES) > 25


# ----------------------------------------------------------------------------------------------------------- imports


@each(FILES)
def test_imports_point_downwards(path):
    package = path.relative_to(ROOT).parts[0]
    assert imported_packages(tree_of(path)) <= MAY_IMPORT[package] | {package}


def test_no_relative_and_no_star_imports():
    froms = [node for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]
    assert [ast.unparse(node) for node in froms if node.level or node.names[0].name == "*"] == []


# ----------------------------------------------------------------------------------------------------- configuration


@each([path for path in FILES if path.parts[-2] != "configs"])
def test_the_configuration_is_read_at_the_edge_only(path):
    tree = tree_of(path)
    readers = {getattr(f, "name", "lambda") for f in functions(tree) if takes_cfg(f)}
    assert {name for name in readers if not name.startswith("build_")} <= CFG_EDGES
    if path.name not in (
        "__init__.py",
        "build.py",
        "embed.py",
        "start.py",
    ):  # embed.py builds a model from a checkpoint's own
        assert readers == set() and not {"cfg", "CfgNode", "load_config"} & set(words(tree))


def test_the_list_of_edges_is_not_longer_than_needed():
    readers = {
        f.name for path in FILES for f in functions(tree_of(path)) if isinstance(f, ast.FunctionDef) and takes_cfg(f)
    }
    assert CFG_EDGES <= readers


# ------------------------------------------------------------------------------------------------------------- names


def test_main_is_short_and_names_no_data_set_model_or_loss():
    source = (ROOT / "main.py").read_text()
    assert len(source.splitlines()) < 100
    named = [word for word in words(ast.parse(source)) if re.search("sysu|regdb|resnet|cmr|mda", word, re.IGNORECASE)]
    assert set(named) <= {"configs/SYSU_MCJA.yml"}  # the default of --cfg


@each([path for path in FILES if path.parts[-2] in ("engine", "retrieval", "models", "backbones", "modules", "losses")])
def test_engine_models_and_losses_name_no_data_set(path):
    named = [word for word in words(tree_of(path)) if re.search("sysu|regdb", word, re.IGNORECASE)]
    assert named == []


def test_no_path_of_somebodys_machine():
    machine = re.compile(r"(?<![\w.~>)}])/(?:work|home|root|Users|mnt)/[\w.-]+")
    found = {name_of(path): machine.findall(path.read_text(encoding="utf-8")) for path in TEXTS}
    assert {name: paths for name, paths in found.items() if paths} == {}
    assert {"main.py", "Makefile", "configs/SYSU_MCJA.yml", "tests/conftest.py"} <= found.keys()
    assert machine.findall("see " + "/home" + "/me/data") == ["/home" + "/me"]

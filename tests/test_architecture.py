"""Who may import whom, where the configuration is read, and what never appears (docs/architecture.md)."""

import ast
import re
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from configs.defaults import KEYS

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
# Functions beside build_* that take the configuration; nearly all live in their package's build.py.
CFG_EDGES = {"data_root", "infrared_root", "describe", "_loader", "rankings", "rates", "released_names"}
# The rooms of tools; a command, which is a file of tools itself, may use all of them but no other command.
TOOLS_MAY_IMPORT = {
    "checkup": set(),
    "judging": set(),
    "experiments": set(),
    "exporting": {"synthetic"},
    "figures": set(),
    "serving": set(),
    "synthetic": set(),
    "report": {"experiments", "figures"},
    "searching": {"figures"},
}
# Files of one name: what makes the parts of a package from the configuration, what belongs to one method, to folders of
# images and of vectors, and a command named as the one file that it stands on.
NAMESAKES = {"__init__.py", "build.py", "embed.py", "folder.py", "mcja.py", "deen.py", "mclnet.py", "search.py"}
# Keys that a file may name as strings although it does not read the configuration, and why.
NAMED_KEYS = {
    "data/images/loader.py": {"batch_size", "num_workers"},  # arguments of torch's DataLoader
    "engine/embed.py": {"test_only"},  # rebuilds a model as a test does
    "engine/gallery/card.py": {"image_size"},  # an entry of a card
    "engine/start.py": {"test_only"},  # asks whether a run is tested before its configuration is read
    "tools/report/opened_run.py": {"test_only"},  # so does this
    "tools/report/run_files.py": {"image_size", "num_epoch"},  # shows these values of a run
    "tools/serving/views.py": {"image_size"},  # shows an entry of a card
    "tools/experiments/commands.py": {"output_dir", "test_only"},  # writes command lines of main.py
    "tools/experiments/reading.py": {"output_dir", "test_only"},  # refuses the keys of these command lines
    "tools/experiments/run_id.py": {"amp_dtype"},  # a run's name holds the precision that it comes to
}
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


# -------------------------------------------------------------------------------------------------------------- imports


@each(FILES)
def test_imports_point_downwards(path):
    package = path.relative_to(ROOT).parts[0]
    assert imported_packages(tree_of(path)) <= MAY_IMPORT[package] | {package}


def test_no_relative_and_no_star_imports():
    froms = [node for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]
    assert [ast.unparse(node) for node in froms if node.level or node.names[0].name == "*"] == []


def modules() -> dict[str, Path]:
    """Our files by the names that import them."""
    paths = [ROOT / "main.py", *(path for top in OURS - {"main"} for path in (ROOT / top).rglob("*.py"))]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def imported_modules(tree: ast.Module, known) -> set[str]:
    """Names of our files that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            submodules = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in submodules.values()}
    return found & known.keys()


def test_no_circle_among_files():
    known = modules()
    graph = {name: imported_modules(tree_of(path), known) - {name} for name, path in known.items()}
    assert len(graph) > 150 and {"engine.retrieval.rankers", "utils.cli"} <= graph["tools.evaluate"]
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_tools_stand_on_one_another_in_order():
    known = modules()
    for name, path in known.items():
        top, *rest = name.split(".")
        if top == "tools" and rest:
            used = {other.split(".")[1] for other in imported_modules(tree_of(path), known) if other[:6] == "tools."}
            allowed = set(TOOLS_MAY_IMPORT) if len(rest) == 1 else TOOLS_MAY_IMPORT[rest[0]] | {rest[0]}
            assert used <= allowed, name


def test_a_file_s_name_tells_it_from_all_others():
    places = defaultdict(list)
    for name, path in modules().items():
        if name.split(".")[0] not in ("tests", "benchmarks"):
            places[path.name].append(name)
    assert {name for name, found in places.items() if len(found) > 1} == NAMESAKES


# -------------------------------------------------------------------------------------------------------- configuration


def test_keys_are_not_named_as_strings_outside_configs():
    """Sets of keys, such as "those that change nothing", come from the keys' own rows. Names of one word mean more."""
    keys = {key for key in KEYS if "_" in key}
    named = {}
    for path in modules().values():
        outside = path.relative_to(ROOT).parts[0] not in ("configs", "tests", "benchmarks", "main.py")
        if outside and path.name != "build.py":
            strings = {n.value for n in ast.walk(tree_of(path)) if isinstance(n, ast.Constant) and n.value in keys}
            named |= {name_of(path): strings} if strings else {}
    assert named == NAMED_KEYS


@each([path for path in FILES if path.parts[-2] != "configs"])
def test_the_configuration_is_read_at_the_edge_only(path):
    tree = tree_of(path)
    readers = {getattr(f, "name", "lambda") for f in functions(tree) if takes_cfg(f)}
    assert {name for name in readers if not name.startswith("build_")} <= CFG_EDGES
    # embed.py builds a model from a checkpoint's own, optim.py tells the learning rates of one.
    if path.name not in ("__init__.py", "build.py", "embed.py", "start.py", "optim.py"):
        assert readers == set() and not {"cfg", "CfgNode", "load_config"} & set(words(tree))


def test_the_list_of_edges_is_not_longer_than_needed():
    readers = {
        f.name for path in FILES for f in functions(tree_of(path)) if isinstance(f, ast.FunctionDef) and takes_cfg(f)
    }
    assert CFG_EDGES <= readers


# ---------------------------------------------------------------------------------------------------------------- names


def test_main_is_short_and_names_no_data_set_model_or_loss():
    source = (ROOT / "main.py").read_text()
    assert len(source.splitlines()) < 100
    named = [
        word for word in words(ast.parse(source)) if re.search("sysu|regdb|llcm|resnet|cmr|mda", word, re.IGNORECASE)
    ]
    assert set(named) <= {"configs/SYSU_MCJA.yml"}  # the default of --cfg


@each([path for path in FILES if path.parts[-2] in ("engine", "retrieval", "models", "backbones", "modules", "losses")])
def test_engine_models_and_losses_name_no_data_set(path):
    named = [word for word in words(tree_of(path)) if re.search("sysu|regdb|llcm", word, re.IGNORECASE)]
    assert named == []


def test_no_path_of_somebodys_machine():
    machine = re.compile(r"(?<![\w.~>)}])/(?:work|home|root|Users|mnt)/[\w.-]+")
    found = {name_of(path): machine.findall(path.read_text(encoding="utf-8")) for path in TEXTS}
    assert {name: paths for name, paths in found.items() if paths} == {}
    assert {"main.py", "Makefile", "configs/SYSU_MCJA.yml", "tests/conftest.py"} <= found.keys()
    assert machine.findall("see " + "/home" + "/me/data") == ["/home" + "/me"]

"""Imports follow the layers; they are read from the sources without running them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From bottom to top: a package imports those below it, and itself.
LAYERS = (
    {"data"},
    {"semantic_ids", "input_pipeline"},
    {"models"},
    {"decoding"},
    {"ranking"},
    {"serving"},
    {"evaluation"},
    {"training"},
    {"planning"},
)
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
# Modules that import no package of genrec.
BASE = {
    "artifacts",
    "charts",
    "config",
    "disk_space",
    "distributed",
    "errors",
    "exit_codes",
    "files",
    "printing",
    "progress",
    "settings",
    "settings_check",
    "sharding",
    "shares",
    "signals",
    "tables",
    "workdir_lock",
}
FOREIGN = ("tensorflow", "torch", "apache_beam")  # never imported with a module, at most when a function needs it


def modules() -> list[Path]:
    return sorted((ROOT / "genrec").rglob("*.py"))


def name_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT / "genrec").with_suffix("").parts


def imported(tree: ast.AST) -> Iterator[str]:
    """Yields the full names of all imports anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_at_top(body: list[ast.stmt]) -> Iterator[str]:
    """Yields the imports that run when the module is imported: those outside functions."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported_at_top([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])


def violations(module: tuple[str, ...], names: list[str]) -> list[str]:
    """Returns the imports that a module of genrec must not have."""
    found = []
    for name in names:
        package, *parts = name.split(".")
        if package in ("launch", "tools", "configs", "tests"):
            found.append(name)
        if package != "genrec" or not parts:
            continue
        own, target = module[0], parts[0]
        if target not in LEVEL:
            if own in LEVEL and target not in BASE:
                found.append(f"{name} (for scripts and configs)")
        elif own not in LEVEL or LEVEL[target] > LEVEL[own]:
            found.append(name)
        elif target == "semantic_ids" and own not in ("semantic_ids", "planning") and parts[1:2] != ["codes"]:
            found.append(f"{name} (semantic_ids.codes only)")
        elif target != own and LEVEL[target] == LEVEL[own] and target != "semantic_ids":
            found.append(f"{name} (stands beside {own})")
    return found


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Returns modules that import each other in a circle, the first one again at the end; empty if there is none."""
    done: set[str] = set()

    def follow(path: list[str]) -> list[str]:
        for module in sorted(imports.get(path[-1], ())):
            if module in path:
                return [*path[path.index(module) :], module]
            if module not in done and (found := follow([*path, module])):
                return found
        done.add(path[-1])
        return []

    return next((found for module in sorted(imports) if (found := follow([module]))), [])


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(name_of(path)))
def test_imports_point_one_way(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert violations(name_of(path), list(imported(tree))) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(name_of(path)))
def test_no_second_framework_and_no_extra_at_import(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [name for name in imported_at_top(tree.body) if name.split(".")[0] in FOREIGN] == []


def test_no_circle_of_imports():
    known = {".".join(("genrec", *name_of(path))): path for path in modules()}
    graph = {}
    for module, path in known.items():
        names = imported(ast.parse(path.read_text(encoding="utf-8")))
        # `from genrec.data import dataset` names a module, `from genrec.data.dataset import Dataset` what is in one.
        graph[module] = {found for name in names for found in (name, name.rpartition(".")[0]) if found in known}
    assert circle(graph) == []


def test_a_circle_is_found_however_long():
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": {"e"}, "d": {"b"}}) == ["b", "d", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_one_module_imports_apache_beam():
    names = {"/".join(name_of(path)): imported(ast.parse(path.read_text(encoding="utf-8"))) for path in modules()}
    users = [module for module in names if any(name.split(".")[0] == "apache_beam" for name in names[module])]
    assert users == ["data/beam/runner"]


@pytest.mark.parametrize(
    ("module", "source", "allowed"),
    [
        ("models.layers", "from genrec.semantic_ids import codes", True),
        ("models.layers", "from genrec.semantic_ids import rqvae", False),
        ("input_pipeline.examples", "from genrec.semantic_ids import codes", True),
        ("semantic_ids.growth", "from genrec.input_pipeline import examples", False),
        ("serving.engine", "from genrec.evaluation import metrics", False),
        ("models.layers", "import genrec.training.train", False),
        ("data.dataset", "def f():\n    from genrec.evaluation import metrics", False),
        ("config", "from genrec.data import dataset", False),
        ("training.train", "from tools import recommend", False),
        ("training.train", "from genrec import artifacts\nfrom genrec.data.dataset import Dataset", True),
        ("training.train", "from genrec import recipes", False),
        ("recipes", "from genrec import config", True),
        ("cluster.slurm", "from genrec.cluster import job", True),
        ("cluster.slurm", "from genrec.training import train", False),
        ("training.train", "from genrec.cluster import job", False),
        ("planning.programs", "from genrec.semantic_ids import residual_kmeans", True),
        ("training.train", "from genrec.planning import topologies", False),
    ],
)
def test_violations_are_found(module, source, allowed):
    assert (violations(tuple(module.split(".")), list(imported(ast.parse(source)))) == []) == allowed


def test_imports_inside_functions_are_not_at_the_top():
    source = "try:\n    import torch\nexcept ImportError:\n    pass\ndef f():\n    import tensorflow"
    assert list(imported_at_top(ast.parse(source).body)) == ["torch"]

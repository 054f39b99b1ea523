"""Files are where a reader looks for them, and functions are short."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_LINES = 60


def test_no_function_is_long():
    long = [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for folder in ("genrec", "launch", "tools", "configs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= MOST_LINES
    ]
    assert long == []


def test_tests_stand_in_folders_that_follow_the_packages():
    packages = {path.parent.relative_to(ROOT / "genrec") for path in (ROOT / "genrec").rglob("__init__.py")}
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*_test.py")}
    assert folders - packages == {Path("scripts")}
    assert packages <= folders

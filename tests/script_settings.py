"""Flags that scripts define of whole dataclasses of settings."""

import ast
import importlib
import re

from genrec import settings_check


def of_dataclasses(source: str) -> set[str]:
    """Returns the flags of `define_fields(NAME)` in the source of a script, for names that it imports from genrec."""
    homes = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    found: set[str] = set()
    for name in re.findall(r"define_fields\(([\w.]+)\)", source):
        module, _, own = name.rpartition(".")
        home = importlib.import_module(f"{homes[module]}.{module}" if module else homes[own])
        found.update(setting for setting, _, _ in settings_check.flat_fields(getattr(home, own)))
    return found

"""Fields of Kubernetes manifests: which are known, of which type.

Expected fields are a dict from names, of which "!" marks the required ones, to types: a dict is an object, a list holds
elements like its only one, a set holds the allowed words, OPEN is an object with names of the user's own.
"""

from typing import Any

OPEN = "strings by name"
QUANTITIES = "integers by name"
METADATA = {"name": str, "labels": OPEN, "annotations": OPEN}


def misfits(value: Any, expected: Any, where: str = "") -> list[str]:
    """Returns the fields of a manifest that are unknown, missing, or of another type."""
    if expected is OPEN or expected is QUANTITIES:
        kind = str if expected is OPEN else int
        fits = isinstance(value, dict) and all(type(k) is str and type(v) is kind for k, v in value.items())
        return [] if fits else [f"{where}: not {expected}"]
    if isinstance(expected, set):
        return [] if value in expected else [f"{where}: {value!r} is none of {sorted(expected)}"]
    if isinstance(expected, list):
        if not isinstance(value, list) or not value:
            return [f"{where}: not a list with elements"]
        return [found for i, part in enumerate(value) for found in misfits(part, expected[0], f"{where}[{i}]")]
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            return [f"{where}: not an object"]
        fields = {name.rstrip("!"): kind for name, kind in expected.items()}
        found = [f"{where}.{name}: unknown" for name in value if name not in fields]
        found += [f"{where}.{name[:-1]}: missing" for name in expected if name[-1] == "!" and name[:-1] not in value]
        for name in value.keys() & fields.keys():
            found += misfits(value[name], fields[name], f"{where}.{name}")
        return found
    return [] if type(value) is expected else [f"{where}: {value!r} is not {expected.__name__}"]

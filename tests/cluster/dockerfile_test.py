"""Properties of the image that can be checked without building it."""

import fnmatch
import re
import runpy
from pathlib import Path

import pytest
import setuptools

from genrec.cluster import jobset

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "launch" / "cluster" / "Dockerfile"
SOURCE = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())  # one instruction a line


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2] for line in SOURCE.splitlines() if line.startswith(f"{name} ")]


def in_context(path: str) -> bool:
    """Returns whether a file is in the build context: the last pattern that matches it, or a parent folder, decides."""
    seen = True
    patterns = (DOCKERFILE.parent / f"{DOCKERFILE.name}.dockerignore").read_text().splitlines()
    parts = Path(path).parts
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for pattern in patterns:
        name = pattern.removeprefix("!").removeprefix("**/")
        if name and not name.startswith("#") and any(fnmatch.fnmatch(part, name) for part in [*above, *parts]):
            seen = pattern.startswith("!")
    return seen


def test_copied_files_exist_and_are_in_the_build_context():
    sources = [source for copy in instructions("COPY") for source in copy.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source == "." or in_context(source), source


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("genrec/cluster/slurm.sh", True),
        ("launch/run.py", True),
        ("tools/evaluate_checkpoint.py", True),
        ("configs/quickstart.py", True),
        ("runs/quickstart/metrics.jsonl", False),
        (".venv/bin/python", False),
        (".git/HEAD", False),
        ("genrec/__pycache__/config.pyc", False),
    ],
)
def test_the_image_holds_the_code_and_nothing_else(path, seen):
    assert in_context(path) == seen


def test_the_extras_exist(monkeypatch):
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    runpy.run_path(str(ROOT / "setup.py"))
    given = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE.read_text())
    assert given
    assert {extra for extras in given for extra in extras.split(",")} <= found["extras_require"].keys()
    assert any("EXTRAS" in run and "-c requirements.lock" in run for run in instructions("RUN"))


def test_its_user_is_the_one_for_whom_the_bucket_is_mounted():
    assert instructions("USER") == ["genrec"]
    assert any(f"useradd --uid {jobset.USER} " in run for run in instructions("RUN"))


def test_its_python_is_supported():
    (image,) = instructions("FROM")
    assert re.fullmatch(r"python:3\.1[123]-slim", image)

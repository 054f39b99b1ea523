"""Properties of the images that can be checked without building them."""

import fnmatch
import json
import re
import runpy
from pathlib import Path

import pytest
import setuptools

from genrec.cluster import deployment, jobset

ROOT = Path(__file__).parents[2]
TRAINING, SERVING = (ROOT / "launch" / folder / "Dockerfile" for folder in ("cluster", "serving"))


@pytest.fixture(params=[TRAINING, SERVING], ids=["training", "serving"])
def dockerfile(request) -> Path:
    return request.param


def instructions(dockerfile: Path, name: str) -> list[str]:
    source = re.sub(r"\\\n\s*", "", dockerfile.read_text())  # one instruction a line
    return [line.partition(" ")[2] for line in source.splitlines() if line.startswith(f"{name} ")]


def in_context(dockerfile: Path, path: str) -> bool:
    """Returns whether a file is in the build context: the last pattern that matches it, or a parent folder, decides."""
    seen = True
    patterns = (dockerfile.parent / f"{dockerfile.name}.dockerignore").read_text().splitlines()
    parts = Path(path).parts
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for pattern in patterns:
        name = pattern.removeprefix("!").removeprefix("**/")
        if name and not name.startswith("#") and any(fnmatch.fnmatch(part, name) for part in [*above, *parts]):
            seen = pattern.startswith("!")
    return seen


def test_copied_files_exist_and_are_in_the_build_context(dockerfile):
    sources = [source for copy in instructions(dockerfile, "COPY") for source in copy.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source == "." or in_context(dockerfile, source), source


@pytest.mark.parametrize(
    ("path", "images"),
    [
        ("genrec/cluster/slurm.sh", [TRAINING, SERVING]),
        ("genrec/serving/server/page/index.html", [TRAINING, SERVING]),
        ("tools/serve.py", [TRAINING, SERVING]),
        ("tools/recommend.py", [TRAINING]),
        ("launch/run.py", [TRAINING]),
        ("configs/quickstart.py", [TRAINING]),
        ("runs/quickstart/metrics.jsonl", []),
        (".venv/bin/python", []),
        (".git/HEAD", []),
        ("genrec/__pycache__/config.pyc", []),
    ],
)
def test_the_images_hold_their_code_and_nothing_else(path, images):
    assert [image for image in (TRAINING, SERVING) if in_context(image, path)] == images


@pytest.fixture
def packaging(monkeypatch) -> dict:
    """What setup.py says."""
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def test_the_extras_exist(packaging):
    given = re.findall(r"EXTRAS=([\w,]+)", TRAINING.read_text())
    assert given
    assert {extra for extras in given for extra in extras.split(",")} <= packaging["extras_require"].keys()
    assert any("EXTRAS" in run and "-c requirements.lock" in run for run in instructions(TRAINING, "RUN"))


def test_the_server_has_what_serving_imports_and_no_library_of_training(packaging):
    def names(texts: list[str]) -> set[str]:
        return {re.split("[<>=;]", text)[0].strip() for text in texts if not text.startswith("#")}

    extras, required = packaging["extras_require"], names(packaging["install_requires"])
    given = names((SERVING.parent / "requirements.txt").read_text().splitlines())
    training = {"array_record", "duckdb", "flax", "grain", "importlib_resources", "jinja2", "matplotlib", "optax"}
    training |= {"orbax-checkpoint", "pyyaml", "scikit-learn", "tensorboardX", "tensorflow-datasets", "threadpoolctl"}
    assert given == (required | names(extras["serve"])) - training - {"jax"}
    (install,) = (run for run in instructions(SERVING, "RUN") if "pip" in run)
    assert "-c requirements.lock" in install and "${JAX}" in install
    assert set(re.findall(r"JAX=(\S+)", SERVING.read_text())) == {"jax", "jax[cuda12]"}
    assert names(extras["cuda"]) == {"jax[cuda12]"}


def test_its_user_is_the_one_of_the_pods(dockerfile):
    assert instructions(dockerfile, "USER") == ["genrec"]
    assert any(f"useradd --uid {jobset.USER} " in run for run in instructions(dockerfile, "RUN"))


def test_its_python_is_supported(dockerfile):
    (image,) = instructions(dockerfile, "FROM")
    assert re.fullmatch(r"python:3\.1[123]-slim", image)


def test_the_server_starts_without_a_shell_on_the_port_that_is_exposed():
    (command,) = instructions(SERVING, "CMD")
    assert (ROOT / json.loads(command)[1]).exists()
    assert instructions(SERVING, "EXPOSE") == [str(deployment.PORT)]
    assert f"GENREC_PORT={deployment.PORT} " in SERVING.read_text()

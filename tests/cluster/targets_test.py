"""Jobs rendered from named settings, and by the script from flags."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml
from forked_scripts import Script

from genrec.cluster import targets
from genrec.cluster.job import ClusterError

ROOT = Path(__file__).parents[2]
COMMAND = "python launch/run.py --config=configs/quickstart.py"
EXAMPLES = {
    "gke": dict(workdir="gs://bucket/a", image="x/genrec:tpu", accelerator="v5e", topology="4x4"),
    "tpu_vm": dict(workdir="gs://bucket/a", accelerator="v5e", topology="4x4", zone="us-central1-a"),
    "slurm": dict(workdir="/shared/a", nodes=2, gpus_per_node=8),
    "serve": dict(image="x/genrec-serve", bundle="gs://bucket/bundle", secret="secrets"),
}


def settings_of(target: str, **changes) -> dict:
    command = {} if target == "serve" else {"command": COMMAND}
    return {"name": "a", **command, **EXAMPLES[target], **changes}


@pytest.fixture
def script(tmp_path_factory):
    """Runs the script to its end; returns it."""

    def to_the_end(*flags: str) -> Script:
        ended = Script(tmp_path_factory.mktemp("logs"), "launch/cluster/render.py", *flags)
        ended.wait()
        return ended

    return to_the_end


def flags_of(target: str, **settings) -> list[str]:
    given = {"target": target, **settings_of(target, **settings)}
    return [f"--{name}={value}" for name, value in given.items()]


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_script_prints_the_rendered_job(script, target):
    printed = script(*flags_of(target))
    assert printed.returncode == 0, printed.errors
    assert printed.output == targets.render(target, settings_of(target))


def test_the_script_writes_a_file(script, tmp_path):
    written = script(*flags_of("gke"), "--spot", "--slices=2", f"--output={tmp_path}/new/job.yaml")
    assert written.returncode == 0 and written.output == "", written.errors
    manifest = yaml.safe_load((tmp_path / "new" / "job.yaml").read_text())
    assert manifest["spec"]["replicatedJobs"][0]["replicas"] == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["job.yaml"]


def test_an_error_is_one_message(script, tmp_path):
    ended = script(*flags_of("gke", topology="4x5"), f"--output={tmp_path}/job.yaml")
    assert ended.returncode == 1 and not list(tmp_path.iterdir())
    assert ended.errors.startswith("render.py: --topology=4x5")
    assert len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize("target", targets.TARGETS)
def test_settings_without_default_are_required(target):
    complete = settings_of(target)
    required = [name for name in complete if name not in ("topology", "nodes", "gpus_per_node")]
    for name in required:
        with pytest.raises(ClusterError, match=f"--{name} "):
            targets.render(target, {key: value for key, value in complete.items() if key != name})


@pytest.mark.parametrize(
    ("target", "name", "message"),
    [
        ("gke", "partition", "--partition.*slurm.*gke"),
        ("slurm", "topology", "--topology.*gke, tpu_vm.*slurm"),
        ("tpu_vm", "image", "--image.*gke.*tpu_vm"),
        ("serve", "command", "--command.*slurm.*serve"),
    ],
)
def test_settings_of_other_targets_are_refused(target, name, message):
    with pytest.raises(ClusterError, match=message):
        targets.render(target, settings_of(target, **{name: "x"}))


def test_settings_have_types_and_descriptions():
    found = targets.settings()
    assert {name: found[name].type for name in ("name", "nodes", "spot")} == {"name": str, "nodes": int, "spot": bool}
    assert found["partition"].description.endswith("(slurm)")
    assert not found["name"].description.endswith(")")


def commands_in(text: str) -> list[list[str]]:
    """Returns the flags of every call of the script in a document."""
    calls = re.findall(r"python launch/cluster/render.py ((?:.*\\\n)*.*)", text)
    variables = {"BUCKET": "my-bucket", "IMAGE": "example.com/genrec:tpu", "REGISTRY": "example.com"}
    filled = [re.sub(r"\$\(.*?\)", "1", call) for call in calls if call.startswith("--target")]
    filled = [re.sub(r"\$(\w+)", lambda match: variables[match[1]], call) for call in filled]
    return [shlex.split(call.partition("|")[0].replace("\\\n", " ")) for call in filled]


@pytest.mark.parametrize(
    ("document", "targets_shown"),
    [
        ("docs/clusters.md", ["gke", "tpu_vm", "slurm", "gke"]),
        ("docs/serving.md", ["serve"]),
        ("launch/cluster/render.py", ["gke", "tpu_vm", "slurm", "serve"]),
    ],
)
def test_commands_in_documents_render(document, targets_shown):
    text = (ROOT / document).read_text()
    calls = commands_in(ast.get_docstring(ast.parse(text)) if document.endswith(".py") else text)
    assert [call[0] for call in calls] == [f"--target={target}" for target in targets_shown]
    for target, call in zip(targets_shown, calls, strict=True):
        given = {}
        for flag in call[1:]:
            name, _, value = flag.removeprefix("--").partition("=")
            kind = targets.settings()[name].type if name != "output" else str
            given[name] = value == "" if kind is bool else kind(value)
        given.pop("output", None)
        assert targets.render(target, given)

"""Plans of jobs before they are rendered."""

import subprocess
from types import SimpleNamespace

import pytest

from genrec.cluster import plan, targets
from genrec.cluster.job import ClusterError

GKE = dict(name="job", workdir="gs://bucket/folder", image="image", accelerator="v5e", topology="4x4")
TRAIN = "python launch/run.py --config=configs/quickstart.py"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(), ["--config=configs/quickstart.py", "--topology=v5e:4x4", "--slices=1"]),
        (
            dict(slices=2, command=f"{TRAIN} --config.mesh.fsdp=16 --seed=1"),
            ["--config=configs/quickstart.py", "--config.mesh.fsdp=16", "--topology=v5e:4x4", "--slices=2"],
        ),
        (
            dict(command="python launch/run.py --config configs/quickstart.py:tiny"),
            ["--config=configs/quickstart.py:tiny", "--topology=v5e:4x4", "--slices=1"],
        ),
    ],
)
def test_a_plan_has_the_config_the_settings_and_the_slices_of_its_job(changes, expected):
    assert plan.arguments(targets.make("gke", GKE | dict(command=TRAIN) | changes)) == expected


@pytest.mark.parametrize(
    ("target", "settings", "word"),
    [
        ("gke", GKE | dict(command="python tools/report.py"), "--config"),
        ("gke", GKE | dict(command=TRAIN, accelerator="nvidia-l4", topology=None, gpus_per_node=1), "TPUs"),
    ],
)
def test_jobs_without_a_config_or_tpus_have_no_plan(target, settings, word):
    with pytest.raises(ClusterError, match=word):
        plan.arguments(targets.make(target, settings))


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_whose_plan_fails_is_refused(monkeypatch, code):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command) or SimpleNamespace(returncode=code))
    job = targets.make("gke", GKE | dict(command=TRAIN))
    if code:
        with pytest.raises(ClusterError, match="--plan"):
            plan.check(job)
    else:
        plan.check(job)
    assert "--topology=v5e:4x4" in ran[0] and ran[0][1].endswith("tools/plan_training.py")

"""The manifest is valid for Kubernetes: every field is known, of its type, and has the value of its setting."""

import re
import shlex
from typing import Any

import pytest
import yaml
from manifests import METADATA, OPEN, QUANTITIES, misfits

from genrec import exit_codes
from genrec.cluster import job, jobset

# --- Fields of JobSet v1alpha2, batch/v1 Job and core/v1 Pod, as far as jobs here use them.

ENVIRONMENT = {"name!": str, "value": str, "valueFrom": {"fieldRef": {"fieldPath!": str, "apiVersion": str}}}
CONTAINER = {
    "name!": str,
    "image": str,
    "command": [str],
    "env": [ENVIRONMENT],
    "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}],
}
VOLUME = {
    "name!": str,
    "emptyDir": {"medium": {"", "Memory"}, "sizeLimit": str},
    "csi": {"driver!": str, "readOnly": bool, "volumeAttributes": OPEN},
}
TOLERATION = {
    "key": str,
    "operator": {"Exists", "Equal"},
    "value": str,
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
}
POD = {
    "restartPolicy": {"Never", "OnFailure"},  # of a Job
    "terminationGracePeriodSeconds": int,
    "shareProcessNamespace": bool,
    "securityContext": {"runAsUser": int, "runAsGroup": int, "runAsNonRoot": bool, "fsGroup": int},
    "serviceAccountName": str,
    "nodeSelector": OPEN,
    "tolerations": [TOLERATION],
    "containers!": [CONTAINER],
    "volumes": [VOLUME],
}
POD_FAILURE_RULE = {
    "action!": {"FailJob", "FailIndex", "Ignore", "Count"},
    "onExitCodes": {"containerName": str, "operator!": {"In", "NotIn"}, "values!": [int]},
    "onPodConditions": [{"type!": str, "status": {"True", "False", "Unknown"}}],
}
JOB = {
    "parallelism": int,
    "completions": int,
    "completionMode": {"NonIndexed", "Indexed"},
    "backoffLimit": int,
    "podFailurePolicy": {"rules!": [POD_FAILURE_RULE]},
    "template!": {"metadata": METADATA, "spec": POD},
}
FAILURE_RULE = {
    "name!": str,
    "action!": {
        "FailJobSet",
        "RestartJobSet",
        "RestartJobSetAndIgnoreMaxRestarts",
        "RestartJob",
        "RestartJobAndIgnoreMaxRestarts",
    },
    "onJobFailureReasons": [str],
    "onJobFailureMessagePatterns": [str],
    "targetReplicatedJobs": [str],
}
JOBSET = {
    "apiVersion!": {"jobset.x-k8s.io/v1alpha2"},
    "kind!": {"JobSet"},
    "metadata!": METADATA,
    "spec!": {
        "network": {"enableDNSHostnames": bool, "subdomain": str, "publishNotReadyAddresses": bool},
        "failurePolicy": {
            "maxRestarts": int,
            "restartStrategy": {"Recreate", "BlockingRecreate", "InPlaceRestart"},
            "rules": [FAILURE_RULE],
        },
        "replicatedJobs!": [
            {"name!": str, "groupName": str, "replicas": int, "template!": {"metadata": METADATA, "spec": JOB}}
        ],
    },
}


COMMON = dict(
    name="beauty",
    command="python launch/run.py --config=configs/quickstart.py",
    workdir="gs://my-bucket/runs/beauty",
    image="example.com/genrec:tpu",
)
VARIANTS = {
    "one host": dict(accelerator="v5e", topology="2x4"),
    "a slice": dict(accelerator="v5e", topology="4x4"),
    "slices": dict(
        accelerator="v5p", topology="2x2x4", slices=4, spot=True, service_account="trainer", queue="team", root=True
    ),
    "a GPU": dict(accelerator="nvidia-l4", gpus_per_node=1),
    "GPU nodes": dict(accelerator="nvidia-h100-80gb", gpus_per_node=8, nodes=4, spot=True),
    "not mounted": dict(accelerator="v6e", topology="8x8", mount=False, restarts=0, grace=25),
}


def rendered(**settings: Any) -> dict[str, Any]:
    return yaml.safe_load(jobset.render(jobset.GkeJob(**{**COMMON, **settings})))


def workers(manifest: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    return replicated


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    return workers(manifest)["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_field_is_known_and_of_its_type(variant):
    assert misfits(rendered(**VARIANTS[variant]), JOBSET) == []


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda it: workers(it).update(replica=2), ".spec.replicatedJobs[0].replica: unknown"),
        (
            lambda it: it["spec"]["failurePolicy"].update(maxRestarts="3"),
            ".spec.failurePolicy.maxRestarts: '3' is not int",
        ),
        (lambda it: pod(it)["containers"][0].pop("name"), ".containers[0].name: missing"),
        (
            lambda it: pod(it).update(restartPolicy="Always"),
            ".restartPolicy: 'Always' is none of ['Never', 'OnFailure']",
        ),
        (lambda it: pod(it)["nodeSelector"].update(spot=True), ".nodeSelector: not strings by name"),
        (lambda it: pod(it).update(containers=[]), ".containers: not a list with elements"),
    ],
)
def test_the_check_finds_what_is_wrong(spoil, found):
    manifest = rendered(**VARIANTS["a slice"])
    spoil(manifest)
    (misfit,) = misfits(manifest, JOBSET)
    assert misfit.endswith(found)


def test_every_slice_is_a_replica_and_every_host_a_pod():
    replicated = workers(rendered(**VARIANTS["slices"]))
    job_spec = replicated["template"]["spec"]
    assert replicated["replicas"] == 4
    assert job_spec["parallelism"] == job_spec["completions"] == 4 and job_spec["completionMode"] == "Indexed"


def test_a_pod_takes_all_chips_of_its_host_on_nodes_of_its_topology():
    spec = pod(rendered(**VARIANTS["slices"]))
    resources = spec["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"] == {"google.com/tpu": 4}
    assert spec["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x2x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert spec["tolerations"][0]["key"] == "cloud.google.com/gke-spot"
    assert spec["serviceAccountName"] == "trainer"


@pytest.mark.parametrize(("variant", "exclusive"), [("one host", False), ("a slice", True), ("GPU nodes", False)])
def test_a_slice_of_several_hosts_has_its_own_node_pool(variant, exclusive):
    annotations = rendered(**VARIANTS[variant])["metadata"].get("annotations", {})
    assert ("alpha.jobset.sigs.k8s.io/exclusive-topology" in annotations) == exclusive


def test_gpu_nodes_get_coordinator_and_process_index():
    manifest = rendered(**VARIANTS["GPU nodes"])
    environment = {entry["name"]: entry for entry in pod(manifest)["containers"][0]["env"]}
    host, port = environment["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    # JOBSET-REPLICATEDJOB-JOBINDEX-PODINDEX.SUBDOMAIN, and the subdomain is by default the JobSet's name
    assert host == f"beauty-{workers(manifest)['name']}-0-0.beauty" and port.isdigit()
    assert environment["JAX_NUM_PROCESSES"]["value"] == "4" == str(workers(manifest)["template"]["spec"]["completions"])
    assert "job-completion-index" in environment["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert pod(manifest)["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 8}


@pytest.mark.parametrize("variant", ["a GPU", "one host", "slices"])
def test_other_jobs_get_no_coordinator(variant):
    environment = pod(rendered(**VARIANTS[variant]))["containers"][0]["env"]
    assert [entry["name"] for entry in environment if "JAX" in entry["name"]] == ["JAX_COMPILATION_CACHE_DIR"]


@pytest.mark.parametrize(("mount", "root"), [(True, "/bucket"), (False, "gs://")])
def test_compiled_functions_are_kept_beside_the_checkpoints(mount, root):
    container = pod(rendered(**VARIANTS["slices"], mount=mount))["containers"][0]
    (workdir,) = (word.partition("=")[2] for word in container["command"] if word.startswith("--workdir="))
    (cache,) = (entry["value"] for entry in container["env"] if entry["name"] == "JAX_COMPILATION_CACHE_DIR")
    assert cache == f"{workdir}/compiled" and cache.startswith(root)


def outcome(manifest: dict[str, Any], exit_code: int, disrupted: bool = False) -> str:
    """Returns the JobSet's action after a pod ended so, by both sets of rules, as Kubernetes documents them."""
    job_spec = workers(manifest)["template"]["spec"]
    policy = manifest["spec"]["failurePolicy"]
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    assert job_spec["backoffLimit"] == 0
    for index, rule in enumerate(job_spec["podFailurePolicy"]["rules"]):
        conditions = [condition["type"] for condition in rule.get("onPodConditions", [])]
        if exit_code in rule.get("onExitCodes", {}).get("values", []) or (disrupted and conditions):
            reason = "PodFailurePolicy"
            message = (
                f"Container train for pod default/x failed with exit code 0 matching FailJob rule at index {index}"
            )
            break
    for rule in policy["rules"]:
        matches = any(re.search(pattern, message) for pattern in rule["onJobFailureMessagePatterns"])
        if reason in rule["onJobFailureReasons"] and matches:
            return rule["action"]
    return "RestartJobSet"


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_error_ends_the_job_a_preemption_is_free_and_a_crash_counts(variant):
    manifest = rendered(**VARIANTS[variant])
    assert outcome(manifest, exit_codes.FAILED) == "FailJobSet"
    assert outcome(manifest, exit_codes.RESTART) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(manifest, 137, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(manifest, exit_codes.FAILED, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(manifest, 134) == outcome(manifest, 137) == "RestartJobSet"
    # The rules name the container that there is, and Kubernetes takes them only where pods never restart by themselves.
    assert pod(manifest)["restartPolicy"] == "Never"
    named = [
        rule["onExitCodes"]["containerName"]
        for rule in workers(manifest)["template"]["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    ]
    assert set(named) == {container["name"] for container in pod(manifest)["containers"]}


def test_restarts_and_grace_period_are_set():
    manifest = rendered(**VARIANTS["not mounted"])
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 0
    assert pod(manifest)["terminationGracePeriodSeconds"] == 25


def test_the_bucket_is_mounted_where_the_command_looks():
    manifest = rendered(**VARIANTS["a slice"])
    template, spec = workers(manifest)["template"]["spec"]["template"], pod(manifest)
    (volume,), (mount,) = spec["volumes"], spec["containers"][0]["volumeMounts"]
    assert volume["csi"]["volumeAttributes"]["bucketName"] == "my-bucket" and volume["name"] == mount["name"]
    assert spec["containers"][0]["command"][-1] == f"--workdir={mount['mountPath']}/runs/beauty"
    assert template["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}


def test_the_path_of_the_bucket_is_passed_if_it_is_not_mounted():
    manifest = rendered(**VARIANTS["not mounted"])
    assert pod(manifest)["containers"][0]["command"][-1] == "--workdir=gs://my-bucket/runs/beauty"
    assert "volumes" not in pod(manifest)


def expanded(argument: str) -> str:
    """Expands as Kubernetes does: $$ is one $, and $(NAME) a variable."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda match: "$" if match[0] == "$$" else f"<{match[1]}>", argument)


def test_arguments_arrive_unchanged():
    words = ["python", "a b.py", "--text='quoted' \"twice\"", "$HOME $(HOME) $$", "- x: [y]", "2", "true", "#", "\\n"]
    manifest = rendered(**VARIANTS["a slice"], command=shlex.join(words))
    assert [expanded(argument) for argument in pod(manifest)["containers"][0]["command"][:-1]] == words


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(accelerator="h100"), "--accelerator=h100.* v4, v5e, v5p, v6e .* nvidia-"),
        (dict(accelerator="v5e"), "--topology.* 1x1, 2x2"),
        (dict(accelerator="v5e", topology="4x5"), "--topology=4x5.*v5e"),
        (dict(accelerator="v5e", topology="4x4", nodes=2), "--nodes=2.* 4x4 .*4 hosts"),
        (dict(accelerator="v5e", topology="4x4", gpus_per_node=2), "--gpus_per_node.*v5e"),
        (dict(accelerator="v5e", topology="2x4", slices=2), "--slices=2.*2x4"),
        (dict(accelerator="v5e", topology="4x4", slices=0), "--slices.*at least 1.*0"),
        (dict(accelerator="v5e", topology="4x4", grace=0), "--grace.*at least 1.*0"),
        (dict(accelerator="v5e", topology="4x4", image=""), "--image=''"),
        (dict(accelerator="v5e", topology="4x4", workdir="/tmp/x"), "--workdir=/tmp/x.*gs://BUCKET/FOLDER"),
        (dict(accelerator="nvidia-l4"), "--gpus_per_node.*1 to 8.*nvidia-l4.*None"),
        (dict(accelerator="nvidia-l4", gpus_per_node=16), "--gpus_per_node.*1 to 8.*16"),
        (dict(accelerator="nvidia-l4", gpus_per_node=1, nodes=0), "--nodes.*at least 1.*0"),
        (dict(accelerator="nvidia-l4", gpus_per_node=1, topology="4x4"), "--topology.*--slices"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(job.ClusterError, match=message):
        rendered(**settings)

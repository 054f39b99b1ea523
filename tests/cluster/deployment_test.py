"""Fields of the manifests of a server, and what they have in common."""

from typing import Any

import pytest
import yaml
from manifests import METADATA, OPEN, misfits

from genrec.cluster import deployment, job

SECRET_KEY = {"name!": str, "key!": str}
PROBE = {
    "httpGet!": {"path!": str, "port!": str},
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
}
CONTAINER = {
    "name!": str,
    "image": str,
    "env": [{"name!": str, "value": str, "valueFrom": {"secretKeyRef": SECRET_KEY}}],
    "ports": [{"name": str, "containerPort!": int}],
    "resources": {"requests": OPEN, "limits": OPEN},
    "startupProbe": PROBE,
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "lifecycle": {"preStop": {"exec": {"command!": [str]}}},
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "capabilities": {"drop": [str]},
    },
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}],
}
VOLUME = {
    "name!": str,
    "emptyDir": OPEN,
    "secret": {"secretName!": str, "items": [{"key!": str, "path!": str}]},
    "csi": {"driver!": str, "readOnly": bool, "volumeAttributes": OPEN},
}
SPREAD = {
    "maxSkew!": int,
    "topologyKey!": str,
    "whenUnsatisfiable!": {"DoNotSchedule", "ScheduleAnyway"},
    "labelSelector": {"matchLabels": OPEN},
}
POD = {
    "terminationGracePeriodSeconds": int,
    "securityContext": {"runAsUser": int, "runAsGroup": int, "runAsNonRoot": bool, "fsGroup": int},
    "serviceAccountName": str,
    "nodeSelector": OPEN,
    "topologySpreadConstraints": [SPREAD],
    "containers!": [CONTAINER],
    "volumes": [VOLUME],
}
SPECS = {
    ("apps/v1", "Deployment"): {
        "selector!": {"matchLabels": OPEN},
        "strategy": {
            "type": {"RollingUpdate", "Recreate"},
            "rollingUpdate": {"maxUnavailable": int, "maxSurge": int},
        },
        "template!": {"metadata": METADATA, "spec": POD},
    },
    ("v1", "Service"): {"selector": OPEN, "ports": [{"name": str, "port!": int, "targetPort": str}]},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "scaleTargetRef!": {"apiVersion": str, "kind!": str, "name!": str},
        "minReplicas": int,
        "maxReplicas!": int,
        "metrics": [
            {
                "type!": {"Resource"},
                "resource": {
                    "name!": {"cpu", "memory"},
                    "target!": {"type!": {"Utilization"}, "averageUtilization": int},
                },
            }
        ],
    },
    ("policy/v1", "PodDisruptionBudget"): {"maxUnavailable": int, "selector": {"matchLabels": OPEN}},
}
COMMON = dict(name="music", image="x/genrec-serve", bundle="gs://my-bucket/bundles/7", secret="music-secrets")
VARIANTS: dict[str, dict[str, Any]] = {
    "cores": {},
    "GPU": dict(accelerator="nvidia-l4", replicas=3, most_replicas=5, memory="512Mi", service_account="reader"),
    "bundle of the image": dict(bundle="/bundle", grace=90, cpus=8),
}


def rendered(**settings: Any) -> dict[str, dict[str, Any]]:
    """Returns the manifests by kind."""
    manifests = list(yaml.safe_load_all(deployment.render(deployment.Server(**{**COMMON, **settings}))))
    assert len({manifest["kind"] for manifest in manifests}) == len(manifests)
    return {manifest["kind"]: manifest for manifest in manifests}


def pod(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return manifests["Deployment"]["spec"]["template"]["spec"]


def container(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (only,) = pod(manifests)["containers"]
    return only


def environment(manifests: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(manifests)["env"] if "value" in entry}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_field_is_known_and_of_its_type(variant):
    manifests = rendered(**VARIANTS[variant])
    assert {(manifest["apiVersion"], kind) for kind, manifest in manifests.items()} == SPECS.keys()
    for kind, manifest in manifests.items():
        fields = {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "spec!": SPECS[manifest["apiVersion"], kind]}
        assert misfits(manifest, fields) == []
        assert manifest["metadata"]["name"] == "music"


@pytest.mark.parametrize("variant", VARIANTS)
def test_service_autoscaler_and_budget_select_the_pods_of_the_deployment(variant):
    manifests = rendered(**VARIANTS[variant])
    spec = manifests["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == manifests["Service"]["spec"]["selector"]
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "music"
    # Labels of another server differ: neither would answer for the other.
    assert labels != rendered(name="films")["Service"]["spec"]["selector"]


def test_ports_probes_and_mounts_name_what_there_is():
    manifests = rendered()
    ports = {port["name"] for port in container(manifests)["ports"]}
    assert {port["targetPort"] for port in manifests["Service"]["spec"]["ports"]} == ports
    probes = {name: container(manifests)[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == ports
    assert probes["liveness"]["path"] == "/health/live" and probes["readiness"]["path"] == "/health/ready"
    assert environment(manifests)["GENREC_PORT"] == str(container(manifests)["ports"][0]["containerPort"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container(manifests)["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod(manifests)["volumes"]}
    for setting, volume in (("GENREC_TOKEN_FILE", "secrets"), ("JAX_COMPILATION_CACHE_DIR", "cache")):
        assert environment(manifests)[setting].startswith(mounts[volume])


def test_secrets_are_named_and_not_written_down():
    manifests = rendered()
    (database,) = (entry for entry in container(manifests)["env"] if "valueFrom" in entry)
    assert database["name"] == "GENREC_STORE"
    assert database["valueFrom"]["secretKeyRef"] == {"name": "music-secrets", "key": "database-url"}
    (volume,) = (volume["secret"] for volume in pod(manifests)["volumes"] if "secret" in volume)
    assert volume["secretName"] == "music-secrets"
    assert environment(manifests)["GENREC_TOKEN_FILE"].endswith(f"/{volume['items'][0]['path']}")


def test_a_bundle_of_a_bucket_is_mounted_and_one_of_the_image_is_not():
    manifests = rendered()
    (bucket,) = (volume["csi"] for volume in pod(manifests)["volumes"] if "csi" in volume)
    assert bucket["volumeAttributes"]["bucketName"] == "my-bucket" and bucket["readOnly"]
    (mount,) = (mount for mount in container(manifests)["volumeMounts"] if mount["name"] == "bucket")
    assert environment(manifests)["GENREC_BUNDLE"] == f"{mount['mountPath']}/bundles/7"
    assert "gke-gcsfuse/volumes" in manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    manifests = rendered(bundle="/bundle")
    assert environment(manifests)["GENREC_BUNDLE"] == "/bundle"
    assert not any("csi" in volume for volume in pod(manifests)["volumes"])


def test_a_pod_may_answer_what_it_accepted_before_it_is_killed():
    manifests = rendered(grace=90)
    delay = int(container(manifests)["lifecycle"]["preStop"]["exec"]["command"][1])
    assert environment(manifests)["GENREC_DRAIN_SECONDS"] == "90"
    assert pod(manifests)["terminationGracePeriodSeconds"] > delay + 90


def test_a_gpu_is_requested_and_its_node_selected():
    manifests = rendered(**VARIANTS["GPU"])
    resources = container(manifests)["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
    assert pod(manifests)["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == "512Mi"
    scaled = manifests["HorizontalPodAutoscaler"]["spec"]
    assert (scaled["minReplicas"], scaled["maxReplicas"]) == (3, 5)
    # The autoscaler measures in shares of what is requested.
    assert resources["requests"]["cpu"] == "2"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(image=" "), "--image"),
        (dict(bundle="bundles/7"), "--bundle=bundles/7.*gs://BUCKET/FOLDER"),
        (dict(bundle="gs://my-bucket"), "--bundle=gs://my-bucket"),
        (dict(secret="Music"), "--secret=Music"),
        (dict(secret=""), "--secret="),
        (dict(replicas=0), "--replicas.*at least 1"),
        (dict(replicas=9), "--most_replicas=8.*--replicas=9"),
        (dict(cpus=0), "--cpus.*at least 1"),
        (dict(grace=0), "--grace.*at least 1"),
        (dict(memory="4GB"), "--memory=4GB.*Gi"),
        (dict(memory="0Gi"), "--memory=0Gi"),
        (dict(accelerator="v5e"), "--accelerator=v5e.*nvidia-l4"),
        (dict(name="Music"), "--name=Music"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(job.ClusterError, match=message):
        rendered(**settings)

"""Servers on Kubernetes: a Deployment of tools/serve.py with Service, probes, autoscaler and disruption budget.

Replicas share one PostgreSQL; each holds the model, its index and its caches. The bundle is a folder of the image, or
of a bucket that GKE mounts. Tokens and the URL of the database come from a Secret.
"""

import dataclasses
import re
from typing import Any, ClassVar

import yaml

from genrec.cluster import accelerators
from genrec.cluster.job import MOUNT, ClusterError, Target, at_least_one, bucket_of, check_image, heading, setting
from genrec.cluster.jobset import MOUNTED, USER

PORT = 8080
TOKENS, DATABASE = "tokens", "database-url"  # keys of the Secret
DRAIN = 5  # seconds between the end of a pod's endpoint and SIGTERM, in which proxies learn of it
LAST = 5  # seconds between the end of a server's own grace period and SIGKILL
START = 300  # seconds that a start may take: reading the bundle, compiling its programs
BUSY = 70  # percent of the requested cores, above which replicas are added
_SECRETS, _CACHE = "/secrets", "/cache"
_MEMORY = re.compile(r"[1-9]\d*(Mi|Gi)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server(Target):
    """Settings of a server."""

    target: ClassVar[str] = "serve"
    guide: ClassVar[str] = "docs/serving.md"

    image: str = setting("Container image with genrec, built by launch/serving/Dockerfile.")
    bundle: str = setting("Bundle, in a bucket that is mounted (gs://BUCKET/FOLDER) or a folder of the image.")
    secret: str = setting(f"Secret with the keys {TOKENS} (a token file) and {DATABASE} (of PostgreSQL).")
    replicas: int = setting("Minimum number of replicas (by default 2).", 2)
    most_replicas: int = setting("Maximum number of replicas (by default 8), by the use of their cores.", 8)
    cpus: int = setting("Cores per replica (by default 2).", 2)
    memory: str = setting("Memory per replica (by default 4Gi).", "4Gi")
    accelerator: str | None = setting(
        f"GPU of each replica ({', '.join(accelerators.GPUS)}); by default it computes on its cores.", None
    )
    service_account: str | None = setting("Service account with read access to the bucket.", None)
    grace: int = setting("Seconds to answer what was accepted, after SIGTERM (by default 25).", 25)

    def __post_init__(self):
        super().__post_init__()
        check_image(self.image)
        if not self.bundle.startswith("/"):
            bucket_of(self.bundle, "bundle")
        for name in ("replicas", "cpus", "grace"):
            at_least_one(name, getattr(self, name))
        if self.most_replicas < self.replicas:
            raise ClusterError(f"--most_replicas={self.most_replicas} is less than --replicas={self.replicas}.")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", self.secret):
            raise ClusterError(f"--secret={self.secret}: give the name of a Secret, as `kubectl get secrets` lists it.")
        if not _MEMORY.fullmatch(self.memory):
            raise ClusterError(f"--memory={self.memory}: give a whole number of Mi or Gi, such as 4Gi.")
        if self.accelerator is not None and self.accelerator not in accelerators.GPUS:
            raise ClusterError(
                f"--accelerator={self.accelerator}: servers run on cores or on one GPU of "
                f"{', '.join(accelerators.GPUS)}."
            )


def render(server: Server) -> str:
    """Returns the manifests, for `kubectl apply -f`."""
    manifests = [_deployment(server), _service(server), _autoscaler(server), _budget(server)]
    return heading(server) + yaml.safe_dump_all(manifests, sort_keys=False, width=120)


def _labels(server: Server) -> dict[str, str]:
    return {"app.kubernetes.io/name": "genrec", "app.kubernetes.io/instance": server.name}


def _manifest(server: Server, version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": server.name, "labels": _labels(server)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _deployment(server: Server) -> dict[str, Any]:
    spec = {
        # No number of replicas: it is the autoscaler's, and applying the manifest again would reset it.
        "selector": {"matchLabels": _labels(server)},
        # A new bundle or image: each replica is replaced after its successor is ready.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": _pod(server),
    }
    return _manifest(server, "apps/v1", "Deployment", spec)


def _pod(server: Server) -> dict[str, Any]:
    mounted = not server.bundle.startswith("/")
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": DRAIN + server.grace + LAST,
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        # Replicas on different nodes, where there are enough.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _labels(server)},
            }
        ],
        "containers": [_container(server)],
        "volumes": [
            {"name": "secrets", "secret": {"secretName": server.secret, "items": [{"key": TOKENS, "path": TOKENS}]}},
            {"name": "cache", "emptyDir": {}},
            {"name": "temporary", "emptyDir": {}},
        ],
    }
    if mounted:
        bucket, _ = bucket_of(server.bundle, "bundle")
        attributes = {"bucketName": bucket, "mountOptions": "implicit-dirs"}
        driver = {"driver": "gcsfuse.csi.storage.gke.io", "readOnly": True, "volumeAttributes": attributes}
        spec["volumes"].append({"name": "bucket", "csi": driver})
    if server.service_account:
        spec["serviceAccountName"] = server.service_account
    if server.accelerator:
        spec["nodeSelector"] = {"cloud.google.com/gke-accelerator": server.accelerator}
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"}
    return {
        "metadata": {"labels": _labels(server), "annotations": scraped | (MOUNTED if mounted else {})},
        "spec": spec,
    }


def _container(server: Server) -> dict[str, Any]:
    bundle, mounts = server.bundle, {"secrets": _SECRETS, "cache": _CACHE, "temporary": "/tmp"}
    if not bundle.startswith("/"):
        _, folder = bucket_of(bundle, "bundle")
        bundle, mounts["bucket"] = f"{MOUNT}/{folder}", MOUNT
    resources = {"cpu": str(server.cpus), "memory": server.memory}
    device = {"nvidia.com/gpu": "1"} if server.accelerator else {}
    settings = {
        "GENREC_BUNDLE": bundle,
        "GENREC_HOST": "0.0.0.0",
        "GENREC_PORT": str(PORT),
        "GENREC_TOKEN_FILE": f"{_SECRETS}/{TOKENS}",
        "GENREC_DRAIN_SECONDS": str(server.grace),
        "JAX_COMPILATION_CACHE_DIR": _CACHE,
    }
    environment: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in settings.items()]
    database = {"secretKeyRef": {"name": server.secret, "key": DATABASE}}
    return {
        "name": "serve",
        "image": server.image,
        "env": [*environment, {"name": "GENREC_STORE", "valueFrom": database}],
        "ports": [{"name": "http", "containerPort": PORT}],
        # No limit of cores: a batch that is throttled keeps all its requests waiting.
        "resources": {"requests": resources | device, "limits": {"memory": server.memory} | device},
        "startupProbe": _probe("ready", period=2, failures=START // 2),
        "livenessProbe": _probe("live", period=10, failures=3),
        "readinessProbe": _probe("ready", period=5, failures=2),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DRAIN)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if name in ("secrets", "bucket") else {})}
            for name, path in mounts.items()
        ],
    }


def _probe(state: str, period: int, failures: int) -> dict[str, Any]:
    request = {"path": f"/health/{state}", "port": "http"}
    return {"httpGet": request, "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures}


def _service(server: Server) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return _manifest(server, "v1", "Service", {"selector": _labels(server), "ports": ports})


def _autoscaler(server: Server) -> dict[str, Any]:
    busy = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": BUSY}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": server.name},
        "minReplicas": server.replicas,
        "maxReplicas": server.most_replicas,
        "metrics": [{"type": "Resource", "resource": busy}],
    }
    return _manifest(server, "autoscaling/v2", "HorizontalPodAutoscaler", spec)


def _budget(server: Server) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(server)}}
    return _manifest(server, "policy/v1", "PodDisruptionBudget", spec)

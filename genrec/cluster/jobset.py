"""JobSets for GKE: TPU slices, or nodes with GPUs, with the bucket of the work directory mounted.

Every TPU slice is a replica of one replicated job; GPU nodes are the pods of a single replica. The cluster needs JobSet
0.10 or newer (https://jobset.sigs.k8s.io): only its message tells by which rule a Job failed, and older versions cannot
match messages.
"""

import dataclasses
from typing import Any, ClassVar

import yaml

from genrec.cluster import accelerators
from genrec.cluster.job import CACHE, MOUNT, ClusterError, Job, at_least_one, bucket_of, check_image, heading, setting
from genrec.exit_codes import FAILED, RESTART

PORT = 8476  # of JAX's coordinator, on GPU nodes
USER = 1000  # of the image (launch/cluster/Dockerfile)
MOUNTED = {"gke-gcsfuse/volumes": "true"}  # annotation of pods that mount a bucket
_POD_INDEX = "batch.kubernetes.io/job-completion-index"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GkeJob(Job):
    """Settings of a job on GKE."""

    target: ClassVar[str] = "gke"

    image: str = setting("Container image with genrec, built by launch/cluster/Dockerfile.")
    accelerator: str = setting(
        f"TPU generation ({', '.join(accelerators.TPUS)}) or GPU ({', '.join(accelerators.GPUS)})."
    )
    topology: str | None = setting("Topology of the TPU slice, such as 4x4.", None)
    slices: int = setting("Number of TPU slices (by default 1).", 1)
    nodes: int | None = setting(
        "Number of GPU nodes, one process each (by default 1); of TPU slices the topology gives it.", None
    )
    gpus_per_node: int | None = setting("Number of GPUs per node.", None)
    spot: bool = setting("Use spot machines, which are cheaper and can be preempted at any time.", False)
    service_account: str | None = setting("Service account with read and write access to the bucket.", None)
    queue: str | None = setting("Local queue of Kueue, which then schedules the job.", None)
    mount: bool = setting("Mount the bucket as a file system (default); --nomount uses gs:// paths.", True)
    root: bool = setting("Run as root, where nodes give access to their accelerators to root only.", False)
    grace: int = setting("Seconds between SIGTERM and SIGKILL, for a last checkpoint (by default 120).", 120)

    def __post_init__(self):
        super().__post_init__()
        bucket_of(self.workdir)
        at_least_one("slices", self.slices)
        at_least_one("grace", self.grace)
        check_image(self.image)
        if self.accelerator in accelerators.TPUS:
            self._check_tpus()
        elif self.accelerator in accelerators.GPUS:
            self._check_gpus()
        else:
            raise ClusterError(
                f"--accelerator={self.accelerator}: unknown accelerator; there are the TPUs "
                f"{', '.join(accelerators.TPUS)} and the GPUs {', '.join(accelerators.GPUS)}."
            )

    def _check_tpus(self) -> None:
        if self.topology is None:
            topologies = ", ".join(accelerators.TPUS[self.accelerator].topologies)
            raise ClusterError(f"--topology is missing: {self.accelerator} has {topologies}.")
        if self.gpus_per_node is not None:
            raise ClusterError(f"--gpus_per_node: {self.accelerator} has no GPUs. Leave it out.")
        if self.hosts == 1 and self.slices > 1:
            raise ClusterError(
                f"--slices={self.slices}: GKE connects only slices of several hosts, and {self.topology} has one. "
                "Choose a larger topology."
            )

    def _check_gpus(self) -> None:
        if self.topology is not None or self.slices != 1:
            raise ClusterError("--topology and --slices are for TPUs: give --nodes and --gpus_per_node for GPUs.")
        most = accelerators.GPUS[self.accelerator]
        if self.gpus_per_node is None or not 1 <= self.gpus_per_node <= most:
            raise ClusterError(f"--gpus_per_node must be 1 to {most} for {self.accelerator}, got {self.gpus_per_node}.")
        at_least_one("nodes", self.hosts)

    @property
    def slice(self) -> accelerators.TpuSlice | None:
        """Shape of a TPU slice; None on GPUs."""
        if self.topology is None:
            return None
        return accelerators.tpu_slice(self.accelerator, self.topology, self.nodes)

    @property
    def hosts(self) -> int:
        """Number of pods per replica."""
        if self.slice is not None:
            return self.slice.hosts
        return 1 if self.nodes is None else self.nodes


def render(job: GkeJob) -> str:
    """Returns the manifest, for `kubectl create -f`."""
    return heading(job) + yaml.safe_dump(_jobset(job), sort_keys=False, width=120)


def _jobset(job: GkeJob) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": job.name, "labels": {"app.kubernetes.io/name": "genrec"}}
    if job.queue:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = job.queue
    if job.slice and job.hosts > 1:
        # A node pool is a slice: all pods of a replica are placed in one, and no other replica is.
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    pod_rules, jobset_rules = _failures()
    job_spec = {
        "parallelism": job.hosts,
        "completions": job.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one process cannot rejoin the others: the JobSet restarts all, the Job none
        "podFailurePolicy": {"rules": pod_rules},
        "template": _pod(job),
    }
    spec = {
        "network": {"enableDNSHostnames": True},
        "failurePolicy": {
            "maxRestarts": job.restarts,
            "restartStrategy": "BlockingRecreate",  # new pods must not run beside those of the attempt before
            "rules": jobset_rules,
        },
        "replicatedJobs": [{"name": "workers", "replicas": job.slices, "template": {"spec": job_spec}}],
    }
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec}


def _failures() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the failure rules of the Job, and the JobSet's action for each; all other failures are crashes."""

    def exit_code(code: int) -> dict[str, Any]:
        codes = {"containerName": "train", "operator": "In", "values": [code]}
        return {"action": "FailJob", "onExitCodes": codes}

    again, failed = "RestartJobSetAndIgnoreMaxRestarts", "FailJobSet"
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    rules = [
        # The first match counts: the exit code of an evicted pod is not that of the command.
        ("disrupted", again, {"action": "FailJob", "onPodConditions": [disrupted]}),
        ("preempted", again, exit_code(RESTART)),
        ("failed", failed, exit_code(FAILED)),
    ]
    jobset_rules = [
        {
            "name": name,
            "action": action,
            "onJobFailureReasons": ["PodFailurePolicy"],
            "onJobFailureMessagePatterns": [f"matching FailJob rule at index {index}$"],
        }
        for index, (name, action, _) in enumerate(rules)
    ]
    return [rule for _, _, rule in rules], jobset_rules


def _pod(job: GkeJob) -> dict[str, Any]:
    bucket, folder = bucket_of(job.workdir)
    workdir = f"{MOUNT}/{folder}" if job.mount else job.workdir
    # Kubernetes replaces $(NAME) in arguments; a doubled $ is one $.
    arguments = [word.replace("$", "$$") for word in [*job.words, f"--workdir={workdir}"]]
    resource, count, selector = _accelerator(job)
    container: dict[str, Any] = {"name": "train", "image": job.image, "command": arguments, "env": _environment(job)}
    container["resources"] = {"requests": {resource: count}, "limits": {resource: count}}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace,
        # Otherwise Python is process 1, which ignores SIGTERM unless the stage handles it.
        "shareProcessNamespace": True,
        "nodeSelector": selector,
        "containers": [container],
    }
    pod: dict[str, Any] = {"spec": spec}
    volumes, mounts = [], []
    if job.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        toleration = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        spec["tolerations"] = [toleration]
    if job.root:
        spec["securityContext"] = {"runAsUser": 0}
    if job.service_account:
        spec["serviceAccountName"] = job.service_account
    if job.slice is None:
        # Shared memory, by which NCCL connects the GPUs of a node; the default is 64 MB.
        volumes.append({"name": "memory", "emptyDir": {"medium": "Memory"}})
        mounts.append({"name": "memory", "mountPath": "/dev/shm"})
    if job.mount:
        pod = {"metadata": {"annotations": MOUNTED}, "spec": spec}
        # No metadata cache: each host sees at once what the others write.
        user = 0 if job.root else USER
        options = f"implicit-dirs,uid={user},gid={user},metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0"
        attributes = {"bucketName": bucket, "mountOptions": options}
        volumes.append(
            {"name": "bucket", "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
        )
        mounts.append({"name": "bucket", "mountPath": MOUNT})
    if volumes:
        spec["volumes"], container["volumeMounts"] = volumes, mounts
    return pod


def _accelerator(job: GkeJob) -> tuple[str, int, dict[str, str]]:
    """Returns the resource, its number per pod, and the labels of the nodes that have it."""
    if job.slice is None:
        assert job.gpus_per_node is not None  # by `_check_gpus`
        return "nvidia.com/gpu", job.gpus_per_node, {"cloud.google.com/gke-accelerator": job.accelerator}
    labels = {
        "cloud.google.com/gke-tpu-accelerator": job.slice.generation.label,
        "cloud.google.com/gke-tpu-topology": job.slice.topology,
    }
    return "google.com/tpu", job.slice.chips_per_host, labels


def _environment(job: GkeJob) -> list[dict[str, Any]]:
    """Returns variables of the pods; on TPUs GKE sets those by which processes find each other."""
    bucket, folder = bucket_of(job.workdir)
    cache = f"{MOUNT if job.mount else f'gs://{bucket}'}/{folder}/{CACHE}"
    environment: list[dict[str, Any]] = [
        {"name": "PYTHONUNBUFFERED", "value": "1"},  # log lines at once
        {"name": "JAX_COMPILATION_CACHE_DIR", "value": cache},
    ]
    if job.slice is None and job.hosts > 1:
        environment += [
            {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{job.name}-workers-0-0.{job.name}:{PORT}"},
            {"name": "JAX_NUM_PROCESSES", "value": str(job.hosts)},
            {
                "name": "JAX_PROCESS_ID",
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_POD_INDEX}']"}},
            },
        ]
    return environment

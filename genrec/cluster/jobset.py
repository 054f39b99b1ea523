"""A JobSet for GKE: TPU slices, or nodes with GPUs, with the bucket of the work directory mounted.

One replicated job, of which every TPU slice is a replica; GPU nodes are the pods of a single one. Needs JobSet 0.10 or
newer in the cluster (https://jobset.sigs.k8s.io): a Job that fails tells only by its message which rule it failed by,
and older versions cannot match messages.
"""

import dataclasses
from typing import Any, ClassVar

import yaml

from genrec.cluster import accelerators
from genrec.cluster.job import MOUNT, ClusterError, Job, at_least_one, bucket_of, heading, setting
from genrec.exit_codes import FAILED, RESTART

PORT = 8476  # of JAX's coordinator, on GPU nodes
USER = 1000  # of the image (launch/cluster/Dockerfile)
_POD_INDEX = "batch.kubernetes.io/job-completion-index"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GkeJob(Job):
    target: ClassVar[str] = "gke"

    image: str = setting("Container image with genrec, built by launch/cluster/Dockerfile.")
    accelerator: str = setting(
        f"TPU generation ({', '.join(accelerators.TPUS)}) or GPU ({', '.join(accelerators.GPUS)})."
    )
    topology: str | None = setting("Topology of the TPU slice, as 4x4.", None)
    slices: int = setting("TPU slices (by default 1).", 1)
    nodes: int | None = setting(
        "GPU nodes, one process each (by default 1); the hosts of a TPU slice follow from its topology.", None
    )
    gpus_per_node: int | None = setting("GPUs of each node.", None)
    spot: bool = setting("On spot machines, which are cheaper and may be taken away at any time.", False)
    service_account: str | None = setting("Account that may read and write the bucket.", None)
    queue: str | None = setting("Local queue of Kueue, which then decides when the job starts.", None)
    mount: bool = setting("Mounts the bucket as a file system; --nomount passes gs:// on (by default mounts).", True)
    root: bool = setting("Runs as root, where nodes give their accelerators to root only.", False)
    grace: int = setting("Seconds from the first signal to the kill, for a last checkpoint (by default 120).", 120)

    def __post_init__(self):
        super().__post_init__()
        bucket_of(self.workdir)
        at_least_one("slices", self.slices)
        at_least_one("grace", self.grace)
        if not self.image or self.image != self.image.strip():
            raise ClusterError(f"--image={self.image!r}: give the image that `docker push` wrote, REGISTRY/NAME:TAG.")
        if self.accelerator in accelerators.TPUS:
            self._check_tpus()
        elif self.accelerator in accelerators.GPUS:
            self._check_gpus()
        else:
            raise ClusterError(
                f"--accelerator={self.accelerator}: unknown. There are the TPUs {', '.join(accelerators.TPUS)} and the "
                f"GPUs {', '.join(accelerators.GPUS)}."
            )

    def _check_tpus(self) -> None:
        if self.topology is None:
            topologies = ", ".join(accelerators.TPUS[self.accelerator].topologies)
            raise ClusterError(f"--topology is missing: {self.accelerator} has {topologies}.")
        if self.gpus_per_node is not None:
            raise ClusterError(f"--gpus_per_node: {self.accelerator} has no GPUs. Leave it out.")
        if self.hosts == 1 and self.slices > 1:
            raise ClusterError(
                f"--slices={self.slices}: GKE joins only slices of several hosts, and {self.topology} has one. "
                "Choose a larger topology."
            )

    def _check_gpus(self) -> None:
        if self.topology is not None or self.slices != 1:
            raise ClusterError("--topology and --slices are for TPUs: give --nodes and --gpus_per_node for GPUs.")
        most = accelerators.GPUS[self.accelerator]
        if self.gpus_per_node is None or not 1 <= self.gpus_per_node <= most:
            raise ClusterError(f"--gpus_per_node={self.gpus_per_node}: a node has 1 to {most} of {self.accelerator}.")
        at_least_one("nodes", self.hosts)

    @property
    def slice(self) -> accelerators.TpuSlice | None:
        """One of the TPU slices; None on GPUs."""
        if self.topology is None:
            return None
        return accelerators.tpu_slice(self.accelerator, self.topology, self.nodes)

    @property
    def hosts(self) -> int:
        """Pods of each replica."""
        if self.slice is not None:
            return self.slice.hosts
        return 1 if self.nodes is None else self.nodes


def render(job: GkeJob) -> str:
    """The manifest, for `kubectl create -f`."""
    return heading(job) + yaml.safe_dump(_jobset(job), sort_keys=False, width=120)


def _jobset(job: GkeJob) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": job.name, "labels": {"app.kubernetes.io/name": "genrec"}}
    if job.queue:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = job.queue
    if job.slice and job.hosts > 1:
        # The node pool is the slice: all pods of a replica in one, and no other replica there.
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    pod_rules, jobset_rules = _failures()
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True},
            # New pods must not meet those of the attempt before.
            "failurePolicy": {
                "maxRestarts": job.restarts,
                "restartStrategy": "BlockingRecreate",
                "rules": jobset_rules,
            },
            "replicatedJobs": [
                {
                    "name": "workers",
                    "replicas": job.slices,
                    "template": {
                        "spec": {
                            "parallelizm": job.hosts,
                            "completions": job.hosts,
                            "completionMode": "Indexed",
                            # A process alone cannot rejoin: the JobSet restarts all of them, never the Job one.
                            "backoffLimit": 0,
                            "podFailurePolicy": {"rules": pod_rules},
                            "template": _pod(job),
                        }
                    },
                }
            ],
        },
    }


def _failures() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rules of the Job, and those of the JobSet for what failed by each; all else counts as a crash."""

    def exit_code(code: int) -> dict[str, Any]:
        codes = {"containerName": "train", "operator": "In", "values": [code]}
        return {"action": "FailJob", "onExitCodes": codes}

    again, failed = "RestartJobSetAndIgnoreMaxRestarts", "FailJobSet"
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    rules = [
        # The first that matches counts: what a pod says that was pushed off its node is no error of the command.
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
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace,
        # Else Python were process 1, which ignores SIGTERM in the stages that do not handle it.
        "shareProcessNamespace": True,
        "nodeSelector": selector,
        "containers": [
            {
                "name": "train",
                "image": job.image,
                "command": arguments,
                "env": _environment(job),
                "resources": {"requests": {resource: count}, "limits": {resource: count}},
            }
        ],
    }
    container, volumes, mounts = spec["containers"][0], [], []
    pod: dict[str, Any] = {"spec": spec}
    if job.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        toleration = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        spec["tolerations"] = [toleration]
    if job.root:
        spec["securityContext"] = {"runAsUser": 0}
    if job.service_account:
        spec["serviceAccountName"] = job.service_account
    if job.slice is None:
        # NCCL talks through it between the GPUs of a node; containers have 64 MB.
        volumes.append({"name": "memory", "emptyDir": {"medium": "Memory"}})
        mounts.append({"name": "memory", "mountPath": "/dev/shm"})
    if job.mount:
        pod = {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}, "spec": spec}
        # Hosts see at once what another wrote: nothing is remembered of which files there are.
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
    """The resource, how many of it a pod takes, and the nodes that have it."""
    if job.slice is None:
        return "nvidia.com/gpu", job.gpus_per_node, {"cloud.google.com/gke-accelerator": job.accelerator}
    labels = {
        "cloud.google.com/gke-tpu-accelerator": job.slice.generation.label,
        "cloud.google.com/gke-tpu-topology": job.slice.topology,
    }
    return "google.com/tpu", job.slice.chips_per_host, labels


def _environment(job: GkeJob) -> list[dict[str, Any]]:
    """How processes find each other. On TPUs GKE tells them (TPU_WORKER_HOSTNAMES, MEGASCALE_...)."""
    # Lines appear in the log when they are printed.
    environment: list[dict[str, Any]] = [{"name": "PYTHONUNBUFFERED", "value": "1"}]
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

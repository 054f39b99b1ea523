"""Google Cloud accelerators by name: TPU slices by topology, GPUs by model.

From https://cloud.google.com/tpu/docs (generations and runtime versions) and
https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (node labels, chips of a host).
"""

import dataclasses
import math
from collections.abc import Mapping

from genrec.cluster.job import ClusterError

# Topology -> the possible numbers of hosts, the default first.
_FLAT = {"1x1": (1,), "2x2": (1,), "2x4": (1, 2), "4x4": (4,), "4x8": (8,), "8x8": (16,), "8x16": (32,), "16x16": (64,)}
_CUBIC = {
    "2x2x1": (1,),
    "2x2x2": (2,),
    "2x2x4": (4,),
    "2x4x4": (8,),
    "4x4x4": (16,),
    "4x4x8": (32,),
    "4x8x8": (64,),
    "8x8x8": (128,),
    "8x8x16": (256,),
    "8x16x16": (512,),
}


@dataclasses.dataclass(frozen=True)
class Generation:
    """TPU generation."""

    label: str  # value of the GKE node label cloud.google.com/gke-tpu-accelerator
    vm_type: str  # prefix of the accelerator type of TPU VMs
    vm_unit: int  # units per chip in its number: 2 TensorCores, or 1 chip
    runtime: str  # software version of TPU VMs
    topologies: Mapping[str, tuple[int, ...]]  # topology -> possible numbers of hosts


TPUS = {
    "v4": Generation("tpu-v4-podslice", "v4", 2, "tpu-ubuntu2204-base", _CUBIC),
    "v5e": Generation("tpu-v5-lite-podslice", "v5litepod", 1, "v2-alpha-tpuv5-lite", _FLAT),
    "v5p": Generation("tpu-v5p-slice", "v5p", 2, "v2-alpha-tpuv5", _CUBIC),
    "v6e": Generation("tpu-v6e-slice", "v6e", 1, "v2-alpha-tpuv6e", _FLAT),
}

# Value of the GKE node label cloud.google.com/gke-accelerator -> maximum number of GPUs per node.
GPUS = {
    "nvidia-tesla-t4": 4,
    "nvidia-tesla-v100": 8,
    "nvidia-l4": 8,
    "nvidia-tesla-a100": 16,
    "nvidia-a100-80gb": 8,
    "nvidia-h100-80gb": 8,
    "nvidia-h100-mega-80gb": 8,
    "nvidia-h200-141gb": 8,
    "nvidia-b200": 8,
}


@dataclasses.dataclass(frozen=True)
class TpuSlice:
    """TPU slice: interconnected chips on one or several hosts."""

    generation: Generation
    topology: str  # chips along each axis: "4x4", "2x2x4"
    hosts: int

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(int(axis) for axis in self.topology.split("x"))

    @property
    def chips_per_host(self) -> int:
        """Number of chips per host."""
        return self.chips // self.hosts

    @property
    def vm_type(self) -> str:
        """Accelerator type of Cloud TPU VMs: "v5litepod-16", "v5p-32"."""
        return f"{self.generation.vm_type}-{self.chips * self.generation.vm_unit}"


def tpu_slice(accelerator: str, topology: str, hosts: int | None = None) -> TpuSlice:
    """Returns the slice of a generation ("v5e") and topology ("4x4"), on the default number of hosts or on `hosts`.

    Raises `ClusterError`, which lists the choices, if the generation, topology or number of hosts does not exist.
    """
    if accelerator not in TPUS:
        raise ClusterError(f"--accelerator={accelerator}: unknown TPU; there are {', '.join(TPUS)}.")
    topologies = TPUS[accelerator].topologies
    if topology not in topologies:
        existing = ", ".join(f"{name} ({_hosts(counts)})" for name, counts in topologies.items())
        raise ClusterError(f"--topology={topology}: not a topology of {accelerator}; there are {existing}.")
    if hosts is not None and hosts not in topologies[topology]:
        raise ClusterError(
            f"--nodes={hosts}: a {accelerator} slice {topology} has {_hosts(topologies[topology])}. "
            "Leave --nodes out, or choose a topology with as many hosts."
        )
    return TpuSlice(TPUS[accelerator], topology, topologies[topology][0] if hosts is None else hosts)


def _hosts(counts: tuple[int, ...]) -> str:
    return " or ".join(map(str, counts)) + (" host" if counts == (1,) else " hosts")

"""Devices of TPU slices to compile for, on machines without a TPU, and what is known of the chips.

The compiler comes with libtpu (the extra `tpu`).
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from genrec.errors import GenrecError

# libtpu asks Google Cloud which TPU the machine has, and lets one process at a time load it, unless told otherwise.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # of no effect on what is compiled
    "TPU_WORKER_HOSTNAMES": "localhost",
}
GIB = 2**30


class PlanError(GenrecError):
    """Error in what is to be planned. The message names the flag and what is allowed."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """One JAX device of a TPU generation: a chip, or half of one on tpu7x."""

    memory: int  # bytes
    clock: float  # Hz: the published peak divided by the operations of a cycle
    peak_flops: float  # dense bfloat16
    interconnect: float  # bytes/s to the other chips of its slice, all links together, in one direction


# From https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and the page of each generation.
CHIPS = {
    "v4": Chip(32 * GIB, 1.05e9, 275e12, 300e9),
    "v5e": Chip(16 * GIB, 1.5e9, 197e12, 200e9),
    "v5p": Chip(95 * GIB, 1.75e9, 459e12, 600e9),
    "v6e": Chip(32 * GIB, 1.75e9, 918e12, 448e9),
    "tpu7x": Chip(96 * GIB, 2.2e9, 1153e12, 600e9),
}


@dataclasses.dataclass(frozen=True)
class Slices:
    """One or several slices of TPUs."""

    name: str  # GENERATION:CHIPSxCHIPS
    count: int
    chip: Chip
    devices: Sequence[jax.Device]


def slices(name: str, count: int = 1) -> Slices:
    """Returns `count` slices of a topology such as "v5e:4x4" or "v5p:2x2x2".

    Raises PlanError if there is no such topology, or no compiler for TPUs.
    """
    generation, _, shape = name.partition(":")
    dimensions = 2 if generation in ("v5e", "v6e") else 3
    if generation not in CHIPS or not re.fullmatch(r"[1-9]\d{0,2}" + r"x[1-9]\d{0,2}" * (dimensions - 1), shape):
        raise PlanError(
            f"--topology={name}: give GENERATION:SHAPE, such as v5e:4x4 or v5p:2x2x2, of {', '.join(CHIPS)}; v5e and "
            "v6e have two dimensions, the others three"
        )
    if count < 1:
        raise PlanError(f"--slices={count} must be at least 1")
    if importlib.util.find_spec("libtpu") is None:
        raise PlanError("no compiler for TPUs: pip install -c requirements.lock -e '.[tpu]' brings it, on any machine")
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    options: dict[str, object] = {"num_slices": count} if count > 1 else {}
    if shape in ("1x1", "1x1x1"):  # the default are four chips a host
        options["chips_per_host_bounds"] = [1, 1, 1]
    if generation == "v4":  # one device a chip, as jobs have it; the default are two
        options["chip_config_name"] = "megacore"
    try:
        description = topologies.get_topology_desc(name, "tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise PlanError(f"--topology={name}, --slices={count}: {str(error).splitlines()[0]:.200}") from error
    return Slices(name, count, CHIPS[generation], description.devices)

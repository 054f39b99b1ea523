#!/usr/bin/env bash
# One would expect that a described topology lists the devices that a job on such a machine sees. For a v4 it lists the two cores of each
# chip as devices, where machines run the chips in megacore mode, as one device each: plans of memory and sharding made from the default
# description are for half devices. chip_config_name="megacore" gives one device a chip. For a v5p, which also has two cores a chip,
# both descriptions give one; for a TPU7x, whose chips are used as two devices, the default gives two.
# Versions: jax 0.10.2, libtpu 0.0.42.1. No TPU is needed: the devices are described ones.
# Sources: https://cloud.google.com/tpu/docs/v4 (two cores a chip), https://github.com/sgl-project/sglang-jax/pull/856 (a v4-8, which has
# eight cores, shows four devices).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 libtpu==0.0.42.1 numpy==2.4.6
cd "$work"
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
"$venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -5 "$work/log" >&2; exit 1; }
from jax.experimental import topologies


def per_chip(name, **options):
    devices = topologies.get_topology_desc(name, "tpu", **options).devices
    chips = {tuple(device.coords) for device in devices}
    print(f"{name} {options}: {len(chips)} chips, {len(devices)} devices")
    return len(devices) / len(chips)


assert per_chip("v4:2x2x1") == 2
assert per_chip("v4:2x2x1", chip_config_name="megacore") == 1
assert per_chip("v5p:2x2x1") == 1
assert per_chip("v5p:2x2x1", chip_config_name="megacore") == 1
assert per_chip("tpu7x:2x2x1") == 2
PYTHON

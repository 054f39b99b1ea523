#!/usr/bin/env bash
# One would expect that jax.make_mesh takes the devices of two TPU slices as it takes those of one, and that every device names its slice.
# It fails in an assertion that prints all devices; mesh_utils.create_hybrid_device_mesh makes the mesh. The attribute slice_index
# exists on devices of several slices only, so create_hybrid_device_mesh in turn refuses the devices of a single slice: a program that
# runs on one slice as well as on two needs both calls.
# Versions: jax 0.10.2, libtpu 0.0.42.1. No TPU is needed: the devices are described ones. The same assertion for parts of one slice:
# https://github.com/sgl-project/sglang-jax/pull/856
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 libtpu==0.0.42.1 numpy==2.4.6
cd "$work"
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
"$venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -5 "$work/log" >&2; exit 1; }
import jax
from jax.experimental import mesh_utils, topologies

one = topologies.get_topology_desc("v5e:4x4", "tpu").devices
two = topologies.get_topology_desc("v5e:4x4", "tpu", num_slices=2).devices


def outcome(what, make):
    try:
        result = f"shape {make().shape}"
    except (AssertionError, ValueError) as error:
        result = f"{type(error).__name__}: {error}"
    print(f"{what}: {result[:100]}")
    return result


print("slice_index:", sorted({getattr(device, "slice_index", "absent") for device in one}), "on one slice,",
      sorted({getattr(device, "slice_index", "absent") for device in two}), "on two")
assert not any(hasattr(device, "slice_index") for device in one)
assert {device.slice_index for device in two} == {0, 1}
mesh_one = outcome("make_mesh, one slice", lambda: jax.make_mesh((1, 16), ("slice", "data"), devices=one).devices)
mesh_two = outcome("make_mesh, two slices", lambda: jax.make_mesh((2, 16), ("slice", "data"), devices=two).devices)
hybrid_one = outcome("hybrid, one slice", lambda: mesh_utils.create_hybrid_device_mesh((1, 16), (1, 1), devices=one))
hybrid_two = outcome("hybrid, two slices", lambda: mesh_utils.create_hybrid_device_mesh((1, 16), (2, 1), devices=two))
assert (mesh_one, hybrid_two) == ("shape (1, 16)", "shape (2, 16)")
assert mesh_two.startswith("AssertionError") and hybrid_one.startswith("ValueError") and "slice_index" in hybrid_one
PYTHON

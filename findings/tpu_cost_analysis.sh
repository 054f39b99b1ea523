#!/usr/bin/env bash
# One would expect that the cost analysis of a compiled program counts all of its layers, and that its time is positive. For a TPU, a
# scan over 12 layers reports the same flops as one layer, and the same time as a scan over 4. "optimal_seconds" of 4 unrolled layers is
# negative, about -1 s, though that of 1 layer and of 12 unrolled layers is a plausible positive time: check its sign before use.
# Versions: jax 0.10.2, libtpu 0.0.42.1. No TPU is needed: the program is compiled for a described one.
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
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

WIDTH = 1024
device = SingleDeviceSharding(topologies.get_topology_desc("v5e:2x2", "tpu").devices[0])


def layer(x, kernel):
    return jnp.tanh(x @ kernel), None


def unrolled(x, kernels):
    for index in range(len(kernels)):
        x, _ = layer(x, kernels[index])
    return x


def scanned(x, kernels):
    return jax.lax.scan(layer, x, kernels)[0]


def cost(function, layers):
    shapes = [(WIDTH, WIDTH), (layers, WIDTH, WIDTH)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=device) for shape in shapes]
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
    flops, seconds = analysis["flops"], analysis["optimal_seconds"]
    print(f"{layers} layers {function.__name__}: {flops / (2 * WIDTH**3):.2f} products, optimal_seconds {seconds:.3g}")
    return flops, seconds


one, scan_4, scan_12 = cost(unrolled, 1), cost(scanned, 4), cost(scanned, 12)
loop_4, loop_12 = cost(unrolled, 4), cost(unrolled, 12)
assert scan_12[0] == scan_4[0] == one[0] and scan_12[1] == scan_4[1]
assert loop_12[0] > 11.9 * one[0]
assert loop_4[1] < 0 < one[1] < loop_12[1]
PYTHON

#!/usr/bin/env bash
# One would expect a product with a bfloat16 result to take no longer than the same product with a float32 result, of which it writes half
# as many bytes. By its own schedule, the compiler for TPU v5e gives a product of 4,096 x 128 by 128 x 1,024 bfloat16 numbers 42,600 cycles
# where the result is bfloat16, 9,000 where it is float32, and 9,200 where the same product gives both. For v6e all take 5,100. So it can
# pay on v5e to hand float32 from one product to the next, which rounds what it reads at no cost; but a float32 array that only products
# read is rounded where it is made. Here the bits of one, as integers behind a barrier, keep it float32.
# Versions: jax 0.10.2, libtpu 0.0.42.1. No TPU is needed: the program is compiled for a described one. Source: the compiled programs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 libtpu==0.0.42.1 numpy==2.4.6
cd "$work"
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
export TPU_ACCELERATOR_TYPE=v5litepod-1 TPU_WORKER_HOSTNAMES=localhost
"$venv/bin/python" - <<'PYTHON'
import re

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

barrier = jax.lax.optimization_barrier


def product(x, matrix):
    return jnp.matmul(x, matrix, preferred_element_type=jnp.float32)


def as_bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.int32)


# Each ends in a second product; what is between them stays in the fast memory of the chip.
def rounded(x, into, out):
    return product(barrier(product(x, into).astype(jnp.bfloat16)), out)


def float32(x, into, out):
    return product(barrier(product(x, into)).astype(jnp.bfloat16), out)


def bits(x, into, out):
    hidden = jax.lax.bitcast_convert_type(barrier(as_bits(product(x, into))), jnp.float32)
    return product(hidden.astype(jnp.bfloat16), out)


def both(x, into, out):
    hidden = product(x, into)
    hidden, also = barrier((as_bits(hidden), hidden.astype(jnp.bfloat16)))
    hidden = jax.lax.bitcast_convert_type(hidden, jnp.float32).astype(jnp.bfloat16)
    return product(hidden, out), product(also[:128], out)


def cycles(generation, function):
    """Returns the cycles and the shapes of the operation that makes the 4,096 x 1,024 array."""
    device = topologies.get_topology_desc(f"{generation}:2x2", "tpu").devices[0]
    shapes = [(4096, 128), (128, 1024), (1024, 128)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=SingleDeviceSharding(device)) for shape in shapes]

    def used(*arrays):
        # A sample of the sums, so that nothing but the first product writes much.
        return jax.tree.map(lambda x: barrier(x)[::64].sum(), function(*(barrier(2 * x) for x in arrays)))

    text = jax.jit(used).lower(*arrays).compile().as_text()
    made = [line for line in text.splitlines() if "estimated_cycles" in line and "[4096,1024]" in line.split(" fusion(")[0]]
    (line,) = made
    shapes = re.findall(r"([a-z]+\d+)\[4096,1024\]", line.split(" fusion(")[0])
    return int(re.search(r'"estimated_cycles":"(\d+)"', line)[1]), "+".join(shapes)


seen = {}
for generation in ("v5e", "v6e"):
    for function in (rounded, float32, bits, both):
        seen[generation, function] = cycles(generation, function)
        count, shapes = seen[generation, function]
        print(f"{generation}, {function.__name__}: {count:,} cycles for {shapes}")

assert seen["v5e", float32][1] == "bf16" and seen["v5e", bits][1] == "s32" and seen["v5e", both][1] == "s32+bf16"
assert seen["v5e", rounded][0] > 4 * seen["v5e", bits][0]
assert seen["v5e", both][0] < 1.3 * seen["v5e", bits][0]
assert seen["v6e", rounded][0] < 1.1 * seen["v6e", bits][0]
PYTHON

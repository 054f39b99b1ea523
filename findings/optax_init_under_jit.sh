#!/usr/bin/env bash
# One would expect that jax.jit(optimizer.init) puts the moments where the parameters are, as the same call without jit does. Zeros depend on
# no input but its shape, so the compiled call has no sharding to follow: with automatic axes the moments of a matrix that is split over
# eight devices lie whole on one. out_shardings must say where they go.
# Versions: jax 0.10.2, optax 0.2.8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 optax==0.2.8
cd "$work"
JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8 "$venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
params = jax.device_put(jnp.ones((64, 64)), NamedSharding(mesh, PartitionSpec("data")))
init = optax.adam(1e-3).init
shards = {}
for name, function in {"init": init, "jit(init)": jax.jit(init)}.items():
    moments = function(params)[0].mu
    shards[name] = len(moments.addressable_shards), moments.addressable_shards[0].data.shape
    print(f"{name}: moments {moments.shape} on {shards[name][0]} device(s), {shards[name][1]} on the first")
assert shards == {"init": (8, (8, 64)), "jit(init)": (1, (64, 64))}
PYTHON

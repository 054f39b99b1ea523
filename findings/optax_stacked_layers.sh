#!/usr/bin/env bash
# One would expect that stacking equal layers into one array, as a scan over layers wants them, does not change training. It changes
# nothing for Adam. Adafactor, LAMB and LARS scale an update by norms of the whole array, so stacked layers share one scale; Muon
# orthogonalizes arrays of two axes only and leaves a stack of matrices to its Adam; and Adafactor factors the two largest axes, which of
# a stack [300, 256, 512] are the stack and the columns, not the two of the matrix.
# Versions: optax 0.2.8, jax 0.10.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 optax==0.2.8
cd "$work"
JAX_PLATFORMS=cpu "$venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax

random = np.random.default_rng(0)
params = [jnp.asarray(random.normal(size=(256, 128)) * scale, jnp.float32) for scale in (1.0, 0.1, 0.01)]
grads = [jnp.asarray(random.normal(size=(256, 128)), jnp.float32) for _ in params]


def update(optimizer, params, grads):
    return optimizer.update(grads, optimizer.init(params), params)[0]


changes = {}
for name, make in dict(adam=optax.adam, adafactor=optax.adafactor, lamb=optax.lamb, lars=optax.lars, muon=optax.contrib.muon).items():
    separate = jnp.stack(update(make(1e-3), params, grads))
    stacked = update(make(1e-3), jnp.stack(params), jnp.stack(grads))
    sizes = [" ".join(f"{jnp.sqrt(jnp.mean(layer**2)):.1e}" for layer in part) for part in (separate, stacked)]
    changes[name] = float(jnp.abs(stacked - separate).max() / jnp.abs(separate).max())
    print(f"{name}: RMS of the updates of three layers {sizes[0]} apart, {sizes[1]} stacked")
assert changes.pop("adam") < 1e-5
assert min(changes.values()) > 0.2, changes

state = optax.adafactor(1e-3).init(jnp.zeros((300, 256, 512)))
factored = next(part for part in jax.tree.leaves(state, is_leaf=lambda part: hasattr(part, "v_row")) if hasattr(part, "v_row"))
print(f"adafactor of [300, 256, 512]: statistics {factored.v_row.shape} and {factored.v_col.shape}")
assert (factored.v_row.shape, factored.v_col.shape) == ((300, 256), (256, 512))
PYTHON

#!/usr/bin/env bash
# One would expect a sum of products of bfloat16 numbers with a float32 result, preferred_element_type=jnp.float32, to run on a CPU in every
# order of its dimensions: it does for a product of two matrices, for their batches, and with the factors converted to float32 first. Where
# a batched sum leaves the other dimensions in an order that is not that of a plain product, the program compiles, and each run of it
# raises an error: BF16 x BF16 = F32 is not supported. A model that computes in bfloat16 so trains on a TPU or GPU and not in a test on a CPU.
# Versions: jax and jaxlib 0.10.2, on x86-64.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cd "$work"
export JAX_PLATFORMS=cpu
"$venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp


def run(equation, first, second, convert=False):
    def product(x, y):
        factors = (x.astype(jnp.float32), y.astype(jnp.float32)) if convert else (x, y)
        return jnp.einsum(equation, *factors, preferred_element_type=jnp.float32)

    compiled = jax.jit(product).lower(*(jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in (first, second))).compile()
    try:
        result = compiled(jnp.ones(first, jnp.bfloat16), jnp.ones(second, jnp.bfloat16))
        seen = f"{result.dtype} {float(result.ravel()[0])}"
    except jax.errors.JaxRuntimeError as error:
        seen = str(error).splitlines()[0][-60:]
    print(f"{equation}{' of float32' if convert else ''}: {seen}")
    return seen


assert run("kq,kt->tq", (7, 5), (7, 4)) == "float32 7.0"
assert run("bmk,bkn->bmn", (2, 5, 8), (2, 8, 3)) == "float32 8.0"
for equation, first, second in [
    ("bhkq,kt->bhtq", (2, 3, 7, 5), (7, 4)),
    ("bqhd,bhdx->bhxq", (2, 5, 3, 8), (2, 3, 8, 8)),
]:
    assert "BF16 x BF16 = F32" in run(equation, first, second)
    assert run(equation, first, second, convert=True).startswith("float32")
PYTHON

#!/usr/bin/env bash
# One would expect that a look-up of 256 rows costs about the same from any table, and that semantic IDs in int8 are cheaper to read than
# in int32. The compiler for TPUs stores a table of fewer than 128 columns with its rows along the minor axis. From some of these it
# gathers directly; for others every look-up first copies the whole table into a padded buffer. With a million rows, on a v5e:
# int32[4] and int16[4] take no temporary memory, int8[4] takes 32 times its own size and hundreds of times the cycles;
# float32[32] and float32[128] take none, float32[64] twice its own size.
# Versions: jax 0.10.2, libtpu 0.0.42.1. No TPU is needed: the program is compiled for a described one. Source: the compiled programs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet jax==0.10.2 jaxlib==0.10.2 libtpu==0.0.42.1 numpy==2.4.6
cd "$work"
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
"$venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -5 "$work/log" >&2; exit 1; }
import re

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

ROWS = 1_000_000
device = SingleDeviceSharding(topologies.get_topology_desc("v5e:2x2", "tpu").devices[0])
seen = {}
for columns, dtype in [(4, "int32"), (4, "int16"), (4, "int8"), (32, "float32"), (64, "float32"), (128, "float32")]:
    table = jax.ShapeDtypeStruct((ROWS, columns), jnp.dtype(dtype), sharding=device)
    rows = jax.ShapeDtypeStruct((256,), jnp.int32, sharding=device)
    compiled = jax.jit(lambda table, rows: table[rows]).lower(table, rows).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes / (table.size * table.dtype.itemsize)
    cycles = sum(int(found) for found in re.findall(r'"estimated_cycles":"(\d+)"', compiled.as_text()))
    seen[dtype, columns] = temporary, cycles
    print(f"{dtype}[{ROWS}, {columns}]: temporary memory {temporary:.1f} times the table, {cycles} estimated cycles")

for direct in [("int32", 4), ("int16", 4), ("float32", 32), ("float32", 128)]:
    assert seen[direct][0] < 0.01 and seen[direct][1] < 10_000, direct
assert seen["int8", 4][0] > 30 and seen["int8", 4][1] > 100 * seen["int32", 4][1]
assert 1.9 < seen["float32", 64][0] < 2.1 and seen["float32", 64][1] > 100 * seen["float32", 128][1]
PYTHON

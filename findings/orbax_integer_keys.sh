#!/usr/bin/env bash
# One would expect that a tree comes back from a checkpoint with its leaves in order. Flax NNX keys the layers of a list by integers; Orbax
# restored without a target gives them back as strings, which sort as text: 0, 1, 10, 11, 2. The structure has as many leaves of the same
# shapes, so that putting the leaves into the structure of the model swaps layers without an error. With a target the keys stay integers.
# Versions: orbax-checkpoint 0.12.8, jax 0.10.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu "$venv/bin/python" - <<'PYTHON'
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

state = {"layers": {index: np.full(2, index) for index in range(12)}}
with ocp.CheckpointManager(Path("checkpoints").absolute()) as manager:
    manager.save(0, args=ocp.args.StandardSave(state))
    manager.wait_until_finished()
    bare = manager.restore(0, args=ocp.args.StandardRestore())
    targeted = manager.restore(0, args=ocp.args.StandardRestore(state))


def order(tree):
    return [int(leaf[0]) for leaf in jax.tree.leaves(tree)]


print("saved:", order(state))
print("restored without a target:", order(bare), "keys", list(bare["layers"])[:3])
print("restored onto the saved tree:", order(targeted))
rebuilt = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(bare))
print("layer 2 of the tree rebuilt from the leaves holds layer", rebuilt["layers"][2][0])
assert order(targeted) == order(state) == list(range(12))
assert order(bare)[:4] == [0, 1, 10, 11] and rebuilt["layers"][2][0] == 10
PYTHON

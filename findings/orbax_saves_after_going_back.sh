#!/usr/bin/env bash
# One would expect that a run which goes back to an earlier checkpoint, say after its loss diverged, saves from there on. Orbax leaves out
# every save at or before the latest step on disk: save returns False, and nothing is raised or written. A run that goes back from step
# 40 to 20 has nothing new on disk until step 45, and 30 and 40 remain those of the abandoned branch. save(..., force=True) writes.
# Versions: orbax-checkpoint 0.12.8, jax 0.10.2. Source: https://github.com/google/orbax/issues/527
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu "$venv/bin/python" - <<'PYTHON'
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp


def save(manager, step, value, **options):
    return manager.save(step, args=ocp.args.StandardSave({"weight": np.full(2, value)}), **options)


folder = Path("checkpoints").absolute()
with ocp.CheckpointManager(folder) as manager:
    for step in (0, 10, 20, 30, 40):
        assert save(manager, step, 1.0)
with ocp.CheckpointManager(folder) as manager:
    manager.restore(20, args=ocp.args.StandardRestore())
    saved = {step: save(manager, step, 2.0) for step in (25, 35, 45)}
    manager.wait_until_finished()
    print("saved after going back to step 20:", saved, "steps on disk:", sorted(manager.all_steps()))
    assert saved == {25: False, 35: False, 45: True}
    forced = save(manager, 35, 2.0, force=True)
    manager.wait_until_finished()
    print("step 35 with force=True:", forced, "steps on disk:", sorted(manager.all_steps()))
    assert forced and 35 in manager.all_steps()
PYTHON

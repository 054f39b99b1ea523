#!/usr/bin/env bash
# One would expect the same mixture from both classes of Grain. Mixing 100 and 5 elements with weights 0.9 and 0.1, MapDataset.mix ends
# with 50 elements, 45 of the first source: where the last element of the second falls due. IterDataset.mix ends with 59, 54 of the
# first: it goes on until an exhausted source is asked again. More data for the small source therefore lengthens an epoch of both.
# Versions: grain 0.2.18.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet grain==0.2.18 numpy==2.4.6
cd "$work"
"$venv/bin/python" - <<'PYTHON'
import grain

sources = [grain.MapDataset.range(100), grain.MapDataset.range(1000, 1005)]
weights = [0.9, 0.1]
by_index = list(grain.MapDataset.mix(sources, weights=weights))
in_turn = list(grain.IterDataset.mix([source.to_iter_dataset() for source in sources], weights=weights))
for name, mixed in dict(MapDataset=by_index, IterDataset=in_turn).items():
    print(f"{name}.mix: {len(mixed)} elements, {sum(element >= 1000 for element in mixed)} of the second source")
assert (len(by_index), len(in_turn)) == (50, 59)
assert in_turn[:50] == by_index
PYTHON

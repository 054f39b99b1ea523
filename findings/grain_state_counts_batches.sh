#!/usr/bin/env bash
# One would expect that the saved state of a Grain iterator marks a place in the data. It counts outputs of the MapDataset before
# to_iter_dataset: batches where the dataset was batched there. Restored into an iterator with twice the batch (as after a move to more
# devices), it continues at twice the place without a word, and leaves out the elements between. Batched after to_iter_dataset, the state
# counts elements, and the place is kept. Changed weights of a mixture likewise move the place in each source.
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


def batched_before(size):
    return iter(grain.MapDataset.range(1000).batch(size).to_iter_dataset())


def batched_after(size):
    return iter(grain.MapDataset.range(1000).to_iter_dataset().batch(size))


def mixed(weight):
    sources = [grain.MapDataset.range(100).repeat(), grain.MapDataset.range(1000, 1100).repeat()]
    return iter(grain.MapDataset.mix(sources, weights=[weight, 1 - weight]).to_iter_dataset())


def first_after_change(make, before, after, steps):
    iterator, restored = make(before), make(after)
    for _ in range(steps):
        next(iterator)
    restored.set_state(iterator.get_state())
    print(f"{make.__name__}({before} -> {after}): state {iterator.get_state()}, next is {(found := next(restored))}")
    return found


assert first_after_change(batched_before, 4, 8, steps=5)[0] == 40  # 20 elements were read
assert first_after_change(batched_after, 4, 8, steps=5)[0] == 20
assert first_after_change(mixed, 0.5, 0.9, steps=10) == 9  # 0 to 4 of the first source were read
PYTHON

#!/usr/bin/env bash
# One would expect that Parquet which pyarrow writes can be read by pyarrow. A column of lists of one size, as embeddings of items are
# often stored, is written with a missing list and then cannot be read at all: the error counts the missing list as one of size 0. Lists
# of any size keep the gap, and a fixed size without gaps is read. So a single item without a vector makes the whole file unreadable;
# genrec asks for lists of any size then.
# Versions: pyarrow 25.0.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet pyarrow==25.0.1
cd "$work"
"$venv/bin/python" - <<'PYTHON'
import pyarrow as pa
import pyarrow.parquet as pq

seen = {}
for name, kind in {"lists of size 2": pa.list_(pa.float32(), 2), "lists of any size": pa.list_(pa.float32())}.items():
    for gap in (False, True):
        vectors = [[1, 2], None if gap else [3, 4], [5, 6]]
        table = pa.table({"vector": pa.array(vectors, kind)})
        pq.write_table(table, "vectors.parquet")
        try:
            seen[name, gap] = pq.read_table("vectors.parquet")["vector"].to_pylist() == vectors
        except pa.ArrowException as error:
            seen[name, gap] = f"{type(error).__name__}: {error}"
        print(f"{name}, {'one missing' if gap else 'all there'}: {seen[name, gap]}")
assert seen["lists of size 2", False] is seen["lists of any size", False] is seen["lists of any size", True] is True
assert "size" in seen["lists of size 2", True]
PYTHON

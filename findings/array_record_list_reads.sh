#!/usr/bin/env bash
# One would expect a read of two records to take the same time in a small and in a large ArrayRecord file: that is what its index is for.
# ArrayRecordReader.read of a list of indices, which data sources of Grain and TFDS call for every random access, takes a time that grows
# with the records of the file: 0.2 ms with 100,000 records, 2 ms with a million, 58 ms with five million were seen. The same records
# as a range, read(i, i + 1), take 0.002 ms in all of them.
# Versions: array_record 0.8.6, grain 0.2.18.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet array_record==0.8.6 grain==0.2.18
cd "$work"
"$venv/bin/python" - <<'PYTHON'
import time

import grain
from array_record.python import array_record_module

SMALL, LARGE = 20_000, 2_000_000


def milliseconds(function):
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        function()
        best = min(best, 1000 * (time.perf_counter() - start))
    return best


seen = {}
for records in (SMALL, LARGE):
    path = f"{records}.array_record"
    writer = array_record_module.ArrayRecordWriter(path, "group_size:1,uncompressed")
    for number in range(records):
        writer.write(str(number).encode())
    writer.close()
    reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0")
    source = grain.sources.ArrayRecordDataSource(path)
    first, second = records // 2, records // 3
    assert reader.read([first, second]) == [str(first).encode(), str(second).encode()]
    assert reader.read(first, first + 1) == source.__getitems__([first]) == [str(first).encode()]
    seen[records] = {
        "list": milliseconds(lambda: reader.read([first, second])),
        "range": milliseconds(lambda: (reader.read(first, first + 1), reader.read(second, second + 1))),
        "grain": milliseconds(lambda: source.__getitems__([first, second])),
    }
    print(f"{records:,} records: " + ", ".join(f"{name} {time:.4f} ms" for name, time in seen[records].items()))

growth = {name: seen[LARGE][name] / seen[SMALL][name] for name in seen[SMALL]}
print("100 times the records, times the time: " + ", ".join(f"{name} {times:.1f}" for name, times in growth.items()))
assert growth["list"] > 10 and growth["grain"] > 10
assert growth["range"] < 5
PYTHON

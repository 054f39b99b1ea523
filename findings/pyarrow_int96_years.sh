#!/usr/bin/env bash
# One would expect pyarrow to read the times that it writes, or to raise an error. Times of the type INT96, which Spark writes by default
# and a Parquet file can hold up to the year 9999 and beyond, are read as nanoseconds in 64 bits, and what exceeds them wraps around
# without a word: 2500 becomes 1915, and the end of a subscription in 9999 lies in 1816. The same file read with
# coerce_int96_timestamp_unit="us" is right; genrec reads so.
# Versions: pyarrow 25.0.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet pyarrow==25.0.1
cd "$work"
"$venv/bin/python" - <<'PYTHON'
import datetime

import pyarrow as pa
import pyarrow.parquet as pq

times = [datetime.datetime(2024, 1, 1), datetime.datetime(2500, 1, 1), datetime.datetime(9999, 12, 31)]
table = pa.table({"until": pa.array(times, pa.timestamp("us"))})
pq.write_table(table, "times.parquet", use_deprecated_int96_timestamps=True)


def years(**options):
    column = pq.read_table("times.parquet", **options)["until"]
    found = [time.year for time in column.cast(pa.timestamp("us"), safe=False).to_pylist()]
    print(f"{options or 'by default'}: {column.type}, years {found}")
    return found


assert years(coerce_int96_timestamp_unit="us") == [2024, 2500, 9999]
assert years() == [2024, 1915, 1816]
PYTHON

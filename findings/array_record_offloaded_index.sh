#!/usr/bin/env bash
# One would expect an option of ArrayRecordReader to work without the others. The index of a file with many records, which is as large as
# the file has records, can stay on disk: index_storage_option:offloaded. Alone it is refused because of footer_prefetch_bytes, which was
# not set, and whose default contradicts it; footer_prefetch_bytes:0 must be given beside it.
# Versions: array_record 0.8.6.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=$(realpath -m "${FINDINGS_VENV:-$work/venv}")
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet array_record==0.8.6
cd "$work"
"$venv/bin/python" - <<'PYTHON'
from array_record.python import array_record_module

writer = array_record_module.ArrayRecordWriter("records", "group_size:1")
for number in range(1000):
    writer.write(str(number).encode())
writer.close()


def read(options):
    try:
        found = array_record_module.ArrayRecordReader("records", options).read([5, 3])
    except ValueError as error:
        found = str(error)
    print(f"{options}: {found}")
    return found


assert read("index_storage_option:in_memory") == [b"5", b"3"]
assert "footer_prefetch_bytes > 0" in read("index_storage_option:offloaded")
assert read("index_storage_option:offloaded,footer_prefetch_bytes:0") == [b"5", b"3"]
PYTHON

"""Sorting of more rows than fit into memory, by DuckDB, which spills to disk."""

import os
from collections.abc import Iterable, Iterator, Sequence

import duckdb
import pyarrow as pa
from etils import epath

from genrec.data.errors import DataError
from genrec.errors import cut

THREAD_BYTES = 128 << 20  # that DuckDB wants for each thread


def sort(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    by: Sequence[str],
    *,
    folder: epath.PathLike,
    memory: int,
    rows: int,
) -> Iterator[pa.RecordBatch]:
    """Yields all rows in ascending order, the first of them once `batches` has been consumed.

    An exception of `batches` is raised as it is. Raises DataError if memory or disk do not suffice.

    Args:
      batches: Rows of numbers without nulls.
      schema: Their columns.
      by: The columns that order them, which no two rows share.
      folder: For temporary files, which are made only if needed, and removed.
      memory: Bytes that the sort may hold.
      rows: Most rows of a batch that is yielded.
    """
    failures: list[BaseException] = []

    def guarded() -> Iterator[pa.RecordBatch]:  # DuckDB would turn an exception into one of its own
        try:
            yield from batches
        except BaseException as failure:
            failures.append(failure)

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory >> 20}MiB",
        "threads": max(1, min(os.cpu_count() or 1, memory // THREAD_BYTES)),
        "temp_directory": str(folder),
        "preserve_insertion_order": "false",  # of equal rows, of which there are none
    }
    with duckdb.connect(config=settings) as connection:
        connection.register("unsorted", pa.RecordBatchReader.from_batches(schema, guarded()))
        order = ", ".join(f'"{column}"' for column in by)
        try:
            for batch in connection.sql(f"SELECT * FROM unsorted ORDER BY {order}").to_arrow_reader(rows):
                if failures:
                    break
                yield batch
        except duckdb.OutOfMemoryException as error:
            raise DataError(
                f"the log cannot be sorted: {cut(str(error).splitlines()[0])} Raise data.memory_gb, or free space on "
                "the disk of --workdir."
            ) from error
    if failures:
        raise failures[0]

"""Reading the log of interactions from one or several files, as one table or in blocks of rows."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.reading import LOG_COLUMNS, SourceTable, TableFormat


def read(pattern: epath.PathLike, form: TableFormat = reading.PLAIN) -> SourceTable:
    """Returns the files of a log as one table; where a pattern was given, messages name the file.

    The cells of columns that are not in `LOG_COLUMNS` become null, as do those of columns that a file lacks.

    Raises:
      DataError: as `reading.read_table`, and if the files differ in a column's type.
    """
    tables = [reading.concatenate(list(blocks(file, None, form))) for file in files(pattern)]
    return reading.refuse_empty(join(tables, str(pattern)) if is_pattern(pattern) else tables[0], pattern)


def is_pattern(path: epath.PathLike) -> bool:
    """Returns whether a path is a glob pattern for several files, such as logs/day-*.csv."""
    path = epath.Path(path)
    return any(mark in path.name for mark in "*?[") and not path.exists()


def files(pattern: epath.PathLike) -> list[epath.Path]:
    """Returns the file of a path, or those of a pattern, sorted by name; raises `DataError` if a pattern has none."""
    path = epath.Path(pattern)
    found = sorted(path.parent.glob(path.name)) if is_pattern(pattern) else [path]
    if not found:
        raise DataError(f"{pattern}: matches no files. Check the pattern in the config (data.interactions).")
    return found


def blocks(
    path: epath.PathLike, block_bytes: int | None, form: TableFormat = reading.PLAIN, block_rows: int | None = None
) -> Iterator[SourceTable]:
    """Yields the blocks of `reading.read_blocks`, with null in columns that are not in `LOG_COLUMNS`."""
    for block in reading.read_blocks(path, block_bytes, form, is_log=True, block_rows=block_rows):
        table = block.table
        for place, column in enumerate(table.column_names):
            if column not in LOG_COLUMNS:
                table = table.set_column(place, column, pa.nulls(len(table)))
        yield dataclasses.replace(block, table=table)


def complete(source: SourceTable, columns: Iterable[str]) -> SourceTable:
    """Returns the table with a column of nulls for each of `columns` that it lacks."""
    table = source.table
    for column in columns:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), pa.string()))
    return dataclasses.replace(source, table=table)


def unify(schemas: Sequence[pa.Schema], name: str) -> pa.Schema:
    """Returns the joint schema of the parts of the log `name`; raises `DataError` if they differ in a column's type."""
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{name}: the files differ in a column's type: {error}. Give them one schema.") from error


def join(tables: Sequence[SourceTable], name: str) -> SourceTable:
    """Returns the parts of the log `name` as one table; raises `DataError` if they differ in a column's type."""
    unify([table.table.schema for table in tables], name)
    joined = pa.concat_tables([table.table for table in tables], promote_options="permissive")
    return SourceTable(
        joined,
        name,
        marks=tuple(dict.fromkeys(mark for table in tables for mark in table.marks)),
        renamed=tuple(dict.fromkeys(column for table in tables for column in table.renamed)),
        parts=tuple(tables),
    )

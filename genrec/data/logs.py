"""The log of interactions in one file or several, as one table or in blocks of rows."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.reading import LOG_COLUMNS, SourceTable


def read(pattern: epath.PathLike) -> SourceTable:
    """The files of a log as one table; where a pattern was given, messages name the file.

    Of columns that are not in `LOG_COLUMNS` only the name is kept, and those that a file lacks are null there.

    Raises:
      DataError: as `reading.read_table`, and when the files differ in a column's type.
    """
    tables = [reading.concatenate(list(blocks(file, None))) for file in files(pattern)]
    return reading.refuse_empty(_join(tables, str(pattern)) if is_pattern(pattern) else tables[0], pattern)


def is_pattern(path: epath.PathLike) -> bool:
    """Whether a path stands for several files: logs/day-*.csv."""
    path = epath.Path(path)
    return any(mark in path.name for mark in "*?[") and not path.exists()


def files(pattern: epath.PathLike) -> list[epath.Path]:
    """The file of a path, or those of a pattern in the order of their names; raises `DataError` when it finds none."""
    path = epath.Path(pattern)
    found = sorted(path.parent.glob(path.name)) if is_pattern(pattern) else [path]
    if not found:
        raise DataError(f"{pattern}: finds no files. Check the pattern in the config (data.interactions).")
    return found


def blocks(path: epath.PathLike, block_bytes: int | None) -> Iterator[SourceTable]:
    """One file in blocks of rows (`reading.read_blocks`), without the content of columns not in `LOG_COLUMNS`."""
    for block in reading.read_blocks(path, block_bytes, is_log=True):
        table = block.table
        for place, column in enumerate(table.column_names):
            if column not in LOG_COLUMNS:
                table = table.set_column(place, column, pa.nulls(len(table)))
        yield dataclasses.replace(block, table=table)


def complete(source: SourceTable, columns: Iterable[str]) -> SourceTable:
    """The table with nulls in those of `columns` that it lacks."""
    table = source.table
    for column in columns:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), pa.string()))
    return dataclasses.replace(source, table=table)


def unify(schemas: Sequence[pa.Schema], name: str) -> pa.Schema:
    """All columns of the parts of the log called `name`; raises `DataError` when they differ in a column's type."""
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{name}: the files differ in a column's type: {error}. Write them alike.") from error


def _join(tables: Sequence[SourceTable], name: str) -> SourceTable:
    unify([table.table.schema for table in tables], name)
    joined = pa.concat_tables([table.table for table in tables], promote_options="permissive")
    return SourceTable(joined, name, parts=tuple(tables))

"""Reading interactions, items and users from CSV, JSON Lines or Parquet into Arrow tables with line numbers.

docs/bring_your_own_data.md describes the schema. Only ids are converted here, to strings, which they remain: "007" and
"7" are two users.
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec import config as configs
from genrec.data import cells, csv_files
from genrec.data.errors import DataError
from genrec.errors import cut, shown

ID_COLUMNS = ("user_id", "item_id")
TIME_COLUMNS = ("timestamp", "order")
LOG_COLUMNS = (*ID_COLUMNS, *TIME_COLUMNS, "event_type", "rating")  # the columns that are read of a log
TEXT_FIELDS = ("title", "description")  # of the items, by default
BLOCK_BYTES = 32 << 20  # of a text file, per block of rows
BLOCK_ROWS = 1 << 18  # of a Parquet file, per block of rows
FORMATS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """The settings of `config.Data` on how the files of a source are written."""

    separator: str = ""  # of CSV files; empty recognizes it
    quoted: bool = True  # whether their cells may be in quotation marks
    missing_values: tuple[str, ...] = configs.Data().missing_values
    columns: tuple[tuple[str, str], ...] = ()  # (genrec's name, name in the files)
    text_fields: tuple[str, ...] = TEXT_FIELDS

    @classmethod
    def of(cls, config: configs.Data) -> "TableFormat":
        """Returns the format that the settings describe."""
        named = (text.partition("=") for text in config.columns)
        columns = tuple((ours.strip(), theirs.strip()) for ours, _, theirs in named)
        separator = "\t" if config.separator in ("tab", "\\t") else config.separator
        return cls(separator, config.quoted, config.missing_values, columns, text_fields(config))

    def ours(self, column: str) -> str:
        """Returns genrec's name of a column of a file."""
        return next((ours for ours, theirs in self.columns if theirs == column), column)


PLAIN = TableFormat()


def text_fields(config: configs.Data, own: tuple[str, ...] = TEXT_FIELDS) -> tuple[str, ...]:
    """Returns the columns of the items that hold text: those of the settings, or the source's `own` ones."""
    return own if config.text_fields == configs.AUTO else config.text_fields


@dataclasses.dataclass(frozen=True)
class SourceTable:
    """Table with the file and the line numbers that its rows came from, for messages."""

    table: pa.Table
    name: str  # of the file
    unit: str = "row"  # what `numbers` count: "line" in text files, "row" in others
    numbers: np.ndarray | None = None  # int64[rows]; None: row i has number first + i
    first: int = 1
    marks: tuple[str, ...] = ()  # what was recognized of the file's format, for the summary
    renamed: tuple[str, ...] = ()  # columns, as the file names them, that have another name in the table
    parts: "tuple[SourceTable, ...]" = ()  # of a table in several files: the table of each, in the order of the rows

    def where(self, row: int) -> str:
        """Returns where a row is, such as "line 17", or "log-2.csv line 17" if there are several files."""
        for part in self.parts:
            if row < len(part):
                return f"{epath.Path(part.name).name} {part.where(row)}"
            row -= len(part)
        return f"{self.unit} {self.first + row if self.numbers is None else self.numbers[row]}"

    def __len__(self) -> int:
        return self.table.num_rows


@dataclasses.dataclass(frozen=True)
class Tables:
    """Tables in genrec's schema, as every source of data returns them."""

    interactions: SourceTable
    items: SourceTable
    users: SourceTable | None = None
    text_fields: tuple[str, ...] = TEXT_FIELDS  # of the items, unless the config names others

    @property
    def all(self) -> list[SourceTable]:
        """The tables that there are."""
        return [table for table in (self.interactions, self.items, self.users) if table is not None]


def read_table(path: epath.PathLike, form: TableFormat = PLAIN) -> SourceTable:
    """Returns the table of a file, in the format of its ending.

    Raises DataError if the file is missing, malformed or has no rows.
    """
    return refuse_empty(concatenate(list(read_blocks(path, None, form))), path)


def read_blocks(
    path: epath.PathLike,
    block_bytes: int | None,
    form: TableFormat = PLAIN,
    is_log: bool = False,
    block_rows: int | None = None,
) -> Iterator[SourceTable]:
    """Yields a file in blocks of rows, at least one, which may be empty.

    Args:
      path: The file; its ending tells the format.
      block_bytes: Approximate size of a block of a text file, at least its longest line. None: not to save memory.
      form: How the file is written.
      is_log: Whether the columns in `LOG_COLUMNS` must have the same type in all blocks.
      block_rows: Most rows of a block of a Parquet file that is read in blocks; None: `BLOCK_ROWS`.

    Raises:
      DataError: as `read_table`, except that a file may have no rows.
    """
    path = epath.Path(path)
    ending = next((e for e in FORMATS if str(path).lower().endswith(e)), None)
    if ending is None:
        raise DataError(f"{path}: unknown file format. Give a file that ends in {', '.join(FORMATS)}.")
    if not path.exists():
        raise DataError(
            f"{path}: no such file. Check the path in the config (data.interactions, data.items, data.users)."
        )
    try:
        if ending.startswith((".csv", ".tsv")):
            blocks = _read_csv(path, block_bytes or BLOCK_BYTES, form)
        elif ending.startswith(".jsonl"):
            blocks = _read_jsonl(path, block_bytes, form, is_log)
        else:
            rows = None if block_bytes is None else block_rows or BLOCK_ROWS
            blocks = _read_parquet(path, rows, form, is_log)
        for block in blocks:
            table, renamed = _renamed(block.table, str(path), form)
            table = _ids_as_strings(_without_missing(table, form), str(path))
            yield dataclasses.replace(block, table=table, renamed=renamed)
    except UnicodeDecodeError as error:
        csv_files.refuse_foreign_bytes(path)
        raise DataError(f"{path}: is not UTF-8. Save the file as UTF-8.") from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: the name {shown(error.object)} has half of a character (\\ud83d). Rename it."
        ) from error
    except (pa.ArrowException, csv.Error, OSError, UnicodeError) as error:
        if "Expected all lists to be of size" in str(error):  # pyarrow 25 cannot read what it writes so
            raise DataError(
                f"{path}: a column of lists of one size has rows without a list, which Arrow cannot read. Write it as "
                "lists of any size, such as pa.list_(pa.float32())."
            ) from error
        raise DataError(f"{path}: cannot be read as {ending[1:]}: {cut(str(error))}. Write the file again.") from error


def concatenate(blocks: Sequence[SourceTable]) -> SourceTable:
    """Returns the blocks of one file as one table."""
    numbers = None
    if any(block.numbers is not None for block in blocks):
        numbers = np.concatenate(
            [block.first + np.arange(len(block)) if block.numbers is None else block.numbers for block in blocks]
        )
    return dataclasses.replace(blocks[0], table=pa.concat_tables(block.table for block in blocks), numbers=numbers)


def refuse_empty(source: SourceTable, path: epath.PathLike) -> SourceTable:
    """Returns the table; raises `DataError` if it has no rows."""
    if not len(source):
        raise no_rows(path)
    return source


def no_rows(path: epath.PathLike) -> DataError:
    """Returns the error for a file, or a pattern for several, without rows."""
    return DataError(f"{path}: has no rows. Check how the file was exported.")


def _read_csv(path: epath.Path, block_bytes: int, form: TableFormat) -> Iterator[SourceTable]:
    """Yields the blocks of a CSV file. All cells stay text: their types are inferred once they are validated."""
    known = (*LOG_COLUMNS, *(theirs for _, theirs in form.columns))
    dialect = csv_files.recognize(path, form.separator, known, form.quoted)
    for block in csv_files.read(path, dialect, block_bytes):
        yield SourceTable(block.table, str(path), "line", block.numbers, block.first, marks=dialect.marks)


def _read_jsonl(path: epath.Path, block_bytes: int | None, form: TableFormat, is_log: bool) -> Iterator[SourceTable]:
    with csv_files.opened(path) as file:
        lines: list[tuple[int, str]] = []
        characters = 0
        for numbered in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1):
            lines.append(numbered)
            characters += len(numbered[1])
            if block_bytes and characters >= block_bytes:
                yield _jsonl_block(lines, str(path), form, is_log)
                lines, characters = [], 0
        yield _jsonl_block(lines, str(path), form, is_log)


def _jsonl_block(lines: Iterable[tuple[int, str]], name: str, form: TableFormat, is_log: bool) -> SourceTable:
    """Returns the table of numbered lines with one JSON object each; blank lines are skipped."""
    columns: dict[str, list] = {}
    numbers: list[int] = []
    read = {theirs: ours for ours, theirs in form.columns}.keys() | set(LOG_COLUMNS)
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
            reason = error.msg if isinstance(error, json.JSONDecodeError) else cut(str(error))
            raise DataError(f"{name}, line {number}: not JSON ({reason}). Write one object per line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number}: not an object. Write one object per line, {{...}}.")
        for column, value in row.items():
            values = columns.setdefault(column, [])
            if not is_log or column in read:
                values.extend([None] * (len(numbers) - len(values)))
                values.append(value)
        numbers.append(number)
    arrays = {}
    for column, values in columns.items():
        values.extend([None] * (len(numbers) - len(values)))
        arrays[column] = _json_column(form.ours(column), values, name, numbers, form, is_log)
    return SourceTable(pa.table(arrays), name, "line", np.asarray(numbers, np.int64))


def _json_column(column: str, values: list, name: str, numbers: list[int], form: TableFormat, is_log: bool) -> pa.Array:
    try:
        if column in ID_COLUMNS or column in TIME_COLUMNS:
            return pa.array(_json_texts(column, values, name, numbers), pa.string())
        if not is_log:
            return cells.from_python(values, column in form.text_fields)
        # Always text in a log: the type must not depend on which rows are in a block.
        return cells.nested_as_text(values, is_text=False)
    except UnicodeEncodeError as error:
        number = next(n for n, value in zip(numbers, values, strict=True) if _has_surrogate(value))
        raise DataError(
            f"{name}, line {number}, column {column}: has half of a character (a lone surrogate such as \\ud83d). Cut "
            "texts at whole characters, not between the two halves of an emoji, or remove the half."
        ) from error


def _json_texts(column: str, values: list, name: str, numbers: list[int]) -> list[str | None]:
    """Returns ids or times as text; raises DataError for values of other types, and for ids that are floats."""
    texts: list[str | None] = []
    for value, number in zip(values, numbers, strict=True):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            texts.append(None)
            continue
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise DataError(f"{name}, line {number}, column {column}: {shown(value)} is neither text nor a number.")
        if isinstance(value, float):
            if column in ID_COLUMNS:
                raise DataError(
                    f"{name}, line {number}, column {column}: {shown(value)} is a float. Write ids as text."
                )
            texts.append(np.format_float_positional(value, trim="-"))
        else:
            texts.append(str(value))
    return texts


def _has_surrogate(value: object) -> bool:
    return re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)) is not None


def _read_parquet(path: epath.Path, block_rows: int | None, form: TableFormat, is_log: bool) -> Iterator[SourceTable]:
    with path.open("rb") as file:
        # The times of Spark and Hive; in nanoseconds, as by default, years after 2262 become others.
        parquet = pyarrow.parquet.ParquetFile(file, coerce_int96_timestamp_unit="us")
        names = parquet.schema_arrow.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"{path}: column {shown(repeated[0])} appears twice. Rename one of them.")
        # Of a log, nothing else is needed.
        wanted = [name for name in names if not is_log or form.ours(name) in LOG_COLUMNS]
        row = 1
        if block_rows is None:
            tables = iter([parquet.read(columns=wanted)])
        else:
            batches = parquet.iter_batches(batch_size=block_rows, columns=wanted)
            empty = pa.schema([parquet.schema_arrow.field(name) for name in wanted]).empty_table()
            tables = itertools.chain([empty], (pa.Table.from_batches([batch]) for batch in batches))
        for table in tables:
            arrays = {
                name: cells.plain(table[name], form.ours(name) in form.text_fields)
                if name in wanted
                else pa.nulls(len(table))
                for name in names
            }
            yield SourceTable(pa.table(arrays), str(path), first=row)
            row += len(table)


def _renamed(table: pa.Table, name: str, form: TableFormat) -> tuple[pa.Table, tuple[str, ...]]:
    """Returns the table with genrec's names of columns, and the columns that were renamed."""
    names = [form.ours(column) for column in table.column_names]
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        both = [theirs for theirs, ours in zip(table.column_names, names, strict=True) if ours == repeated[0]]
        raise DataError(f"{name}: columns {' and '.join(both)} are both {repeated[0]}. Correct data.columns.")
    renamed = tuple(theirs for theirs, ours in zip(table.column_names, names, strict=True) if theirs != ours)
    return table.rename_columns(names), renamed


def _without_missing(table: pa.Table, form: TableFormat) -> pa.Table:
    """Returns the table with null in the place of texts that stand for a missing value."""
    values = pa.array(form.missing_values, pa.string())
    columns = list(table.columns)
    for place, column in enumerate(columns):
        if len(values) and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            missing = pc.is_in(pc.utf8_trim_whitespace(column), values.cast(column.type))
            if pc.any(missing).as_py():
                columns[place] = pc.if_else(missing, None, column)
    return pa.table(columns, names=table.column_names)


def _ids_as_strings(table: pa.Table, name: str) -> pa.Table:
    for column in ID_COLUMNS:
        if column not in table.column_names:
            continue
        values = table[column]
        kind = values.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
        if not (is_text or is_whole or pa.types.is_null(kind)):
            raise DataError(
                f"{name}, column {column}: has type {kind}. Write ids as text or integers "
                "(pandas turns integers into floats when some are missing)."
            )
        table = table.set_column(table.column_names.index(column), column, values.cast(pa.string()))
    return table


def from_columns(columns: Mapping[str, object], name: str) -> SourceTable:
    """Returns the table that an adapter made, named after its file."""
    return SourceTable(pa.table(dict(columns)), name)

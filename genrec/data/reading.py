"""Reading interactions, items and users from CSV, JSON Lines or Parquet into Arrow tables with line numbers.

docs/bring_your_own_data.md describes the schema. Only ids are converted here, to strings, which they remain: "007" and
"7" are two users.
"""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from etils import epath

from genrec.data.errors import EXAMPLES, DataError
from genrec.errors import cut, shown

ID_COLUMNS = ("user_id", "item_id")
LOG_COLUMNS = (*ID_COLUMNS, "timestamp", "order", "event_type", "rating")  # the columns that are read of a log
BLOCK_BYTES = 32 << 20  # of a text file, per block of rows
BLOCK_ROWS = 1 << 18  # of a Parquet file, per block of rows
FORMATS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclasses.dataclass(frozen=True)
class SourceTable:
    """Table with the file and the line numbers that its rows came from, for messages."""

    table: pa.Table
    name: str  # of the file
    unit: str = "row"  # what `numbers` count: "line" in text files, "row" in others
    numbers: np.ndarray | None = None  # int64[rows]; None: row i has number first + i
    first: int = 1
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


def read_table(path: epath.PathLike) -> SourceTable:
    """Returns the table of a file, in the format of its ending.

    Raises DataError if the file is missing, malformed or has no rows.
    """
    return refuse_empty(concatenate(list(read_blocks(path, None))), path)


def read_blocks(path: epath.PathLike, block_bytes: int | None, is_log: bool = False) -> Iterator[SourceTable]:
    """Yields a file in blocks of rows, at least one, which may be empty.

    Args:
      path: The file; its ending tells the format.
      block_bytes: Approximate size of a block of a text file, at least its longest line. None: not to save memory.
      is_log: Whether the columns in `LOG_COLUMNS` must have the same type in all blocks.

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
        if ending.startswith(".csv"):
            blocks = _read_csv(path, block_bytes or BLOCK_BYTES)
        elif ending.startswith(".jsonl"):
            blocks = _read_jsonl(path, block_bytes, is_log)
        else:
            blocks = _read_parquet(path, block_bytes)
        for block in blocks:
            yield dataclasses.replace(block, table=_ids_as_strings(block.table, str(path)))
    except (pa.ArrowException, csv.Error, OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as {ending[1:]}: {cut(str(error))}. Write the file again.") from error


@contextlib.contextmanager
def _opened(path: epath.Path) -> Iterator[pa.NativeFile]:
    """Opens a file, and decompresses it if it ends in .gz."""
    with path.open("rb") as raw:
        yield pa.input_stream(raw, compression="gzip" if path.name.lower().endswith(".gz") else None)


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


def _read_csv(path: epath.Path, block_bytes: int) -> Iterator[SourceTable]:
    """Yields the blocks of a CSV file. All cells stay text: the validator knows the types of the columns."""
    with _opened(path) as file:
        columns = next(csv.reader([io.BufferedReader(file).readline().decode("utf-8-sig")]), [])
    if not columns:
        raise DataError(f"{path}, line 1: is empty. Write the names of the columns in the first line.")
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataError(f"{path}, line 1: column {shown(repeated[0])} appears twice. Rename one of them.")
    try:
        with _opened(path) as file:
            reader = pyarrow.csv.open_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=block_bytes),
                # Without a handler of invalid rows, which prints a traceback where one is not UTF-8.
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types={column: pa.string() for column in columns}, strings_can_be_null=False
                ),
            )
            line = 2
            # The first block is empty: a file without rows has columns, too.
            tables = itertools.chain(
                [reader.schema.empty_table()], (pa.Table.from_batches([batch]) for batch in reader)
            )
            for table in tables:
                block, line = _csv_block(table, str(path), line)
                yield block
    except pa.ArrowInvalid:
        _refuse_malformed(path, len(columns))
        raise


def _csv_block(table: pa.Table, name: str, line: int) -> tuple[SourceTable, int]:
    """Returns the rows that begin at `line`, without blank ones, and the number of the line after them."""
    newlines = np.zeros(table.num_rows, np.int64)
    blank = np.ones(table.num_rows, bool)
    for column in table.columns:
        newlines += pc.count_substring(column, "\n").to_numpy()
        blank &= pc.equal(column, "").to_numpy()
    end = line + table.num_rows + int(newlines.sum())
    if not (newlines.any() or blank.any()):
        return SourceTable(table, name, "line", first=line), end
    numbers = line + np.arange(table.num_rows) + np.cumsum(newlines) - newlines
    return SourceTable(table.filter(pa.array(~blank)), name, "line", numbers[~blank], first=line), end


def _refuse_malformed(path: epath.Path, width: int) -> None:
    """Raises DataError if there are lines whose number of cells is not `width`: Arrow names the first one alone."""
    examples: list[str] = []
    count, start = 0, 1
    with _opened(path) as file:
        reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        for cells in reader:
            if cells and len(cells) != width:
                count += 1
                if len(examples) < EXAMPLES:
                    examples.append(f"line {start} has {len(cells)}")
            start = reader.line_num + 1
    if count:
        raise DataError(
            f"{path}: {count:,} rows do not have the {width} cells of the header: {'; '.join(examples)}. "
            "Put quotation marks around values that contain a comma."
        )


def _read_jsonl(path: epath.Path, block_bytes: int | None, is_log: bool) -> Iterator[SourceTable]:
    with _opened(path) as file:
        lines: list[tuple[int, str]] = []
        characters = 0
        for numbered in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1):
            lines.append(numbered)
            characters += len(numbered[1])
            if block_bytes and characters >= block_bytes:
                yield _jsonl_block(lines, str(path), is_log)
                lines, characters = [], 0
        yield _jsonl_block(lines, str(path), is_log)


def _jsonl_block(lines: Iterable[tuple[int, str]], name: str, is_log: bool) -> SourceTable:
    """Returns the table of numbered lines with one JSON object each; blank lines are skipped."""
    columns: dict[str, list] = {}
    numbers: list[int] = []
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
        for column in row:
            columns.setdefault(column, [None] * len(numbers))
        for column, values in columns.items():
            values.append(row.get(column))
        numbers.append(number)
    arrays = {column: _json_column(column, values, name, numbers, is_log) for column, values in columns.items()}
    return SourceTable(pa.table(arrays), name, "line", np.asarray(numbers, np.int64))


def _json_column(column: str, values: list, name: str, numbers: list[int], is_log: bool) -> pa.Array:
    if column in ID_COLUMNS or column in ("timestamp", "order"):
        # Numbers become text as well, which the validator parses.
        for value, number in zip(values, numbers, strict=True):
            if not (value is None or isinstance(value, str | int | float)) or isinstance(value, bool):
                raise DataError(f"{name}, line {number}, column {column}: {shown(value)} is neither text nor a number.")
            if column in ID_COLUMNS and isinstance(value, float):
                raise DataError(
                    f"{name}, line {number}, column {column}: {shown(value)} is a float. Write ids as text."
                )
        return pa.array([value if value is None else str(value) for value in values], pa.string())
    if not is_log:
        try:
            return pa.array(values)
        # Mixed types, such as 1 and "one", and integers beyond 64 bits are kept as JSON text.
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    # Always text in a log: the type must not depend on which rows are in a block.
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string())


def _read_parquet(path: epath.Path, block_bytes: int | None) -> Iterator[SourceTable]:
    with path.open("rb") as file:
        parquet = pyarrow.parquet.ParquetFile(file)
        if block_bytes is None:
            yield SourceTable(parquet.read(), str(path))
            return
        row = 1
        yield SourceTable(parquet.schema_arrow.empty_table(), str(path))
        for batch in parquet.iter_batches(batch_size=BLOCK_ROWS):
            yield SourceTable(pa.Table.from_batches([batch]), str(path), first=row)
            row += len(batch)


def _ids_as_strings(table: pa.Table, name: str) -> pa.Table:
    for column in ID_COLUMNS:
        if column not in table.column_names:
            continue
        values = table[column]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (is_text or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise DataError(
                f"{name}, column {column}: has type {kind}. Write ids as text or integers "
                "(pandas turns integers into floats when some are missing)."
            )
        table = table.set_column(table.column_names.index(column), column, values.cast(pa.string()))
    return table


def from_columns(columns: Mapping[str, object], name: str) -> SourceTable:
    """Returns the table that an adapter made, named after its file."""
    return SourceTable(pa.table(dict(columns)), name)

"""Reads interactions, items and users from CSV, JSON Lines or Parquet into Arrow tables whose rows know their line.

The schema is described in docs/bring_your_own_data.md. Nothing is converted here but the ids, which become strings and
stay strings: "007" and "7" are two users.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from etils import epath

from genrec.data.errors import EXAMPLES, DataError

ID_COLUMNS = ("user_id", "item_id")
FORMATS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclasses.dataclass(frozen=True)
class SourceTable:
    """A table and where it came from, for messages."""

    table: pa.Table
    name: str  # of the file
    unit: str = "row"  # what `numbers` count: "line" in text files, "row" in others
    numbers: np.ndarray | None = None  # int64[rows]; None: row i has number first + i
    first: int = 1

    def where(self, row: int) -> str:
        """For instance "line 17"."""
        return f"{self.unit} {self.first + row if self.numbers is None else self.numbers[row]}"

    def __len__(self) -> int:
        return self.table.num_rows


@dataclasses.dataclass(frozen=True)
class Tables:
    """What every source of data gives: files in genrec's schema, an adapter, or the synthetic catalogue."""

    interactions: SourceTable
    items: SourceTable
    users: SourceTable | None = None


def read_table(path: epath.PathLike) -> SourceTable:
    """Reads one file; its ending says how. Raises `DataError` when it is missing, malformed or has no rows."""
    path = epath.Path(path)
    name = str(path)
    ending = next((e for e in FORMATS if name.lower().endswith(e)), None)
    if ending is None:
        raise DataError(f"{path}: unknown kind of file. Give one that ends in {', '.join(FORMATS)}.")
    if not path.exists():
        raise DataError(
            f"{path}: no such file. Check the path in the config (data.interactions, data.items, data.users)."
        )
    try:
        with path.open("rb") as raw:
            file = pa.input_stream(raw, compression="gzip" if ending.endswith(".gz") else None)
            if ending.startswith(".csv"):
                source = _read_csv(file, name)
            elif ending.startswith(".jsonl"):
                source = _read_jsonl(file, name)
            else:
                source = SourceTable(pa.parquet.read_table(io.BytesIO(file.read())), name)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as {ending[1:]}: {error}. Write the file again.") from error
    if not len(source):
        raise DataError(f"{path}: has no rows. Check how the file was exported.")
    return dataclasses.replace(source, table=_ids_as_strings(source.table, name))


def _read_csv(file: BinaryIO, name: str) -> SourceTable:
    """Every cell stays text: only the validator knows what a column means."""
    malformed = 0

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        nonlocal malformed
        malformed += 1
        return "skip"

    content = file.read()
    columns = next(csv.reader([content.partition(b"\n")[0].decode("utf-8-sig")]), [])
    if not columns:
        raise DataError(f"{name}, line 1: is empty. Write the names of the columns there.")
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataError(f"{name}, line 1: column {repeated[0]!r} appears twice. Rename one of them.")
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        parse_options=pyarrow.csv.ParseOptions(
            newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={column: pa.string() for column in columns}, strings_can_be_null=False
        ),
    )
    if malformed:
        raise DataError(
            f"{name}: {malformed:,} rows do not have the {len(columns)} cells of the header: "
            f"{_malformed_lines(content, len(columns))}. Put quotation marks around values that hold a comma."
        )
    numbers = None
    newlines = np.zeros(table.num_rows, np.int64)
    blank = np.ones(table.num_rows, bool)
    for column in table.columns:
        newlines += pc.count_substring(column, "\n").to_numpy()
        blank &= pc.equal(column, "").to_numpy()
    if newlines.any() or blank.any():
        numbers = 2 + np.arange(table.num_rows) + np.cumsum(newlines) - newlines
        table, numbers = table.filter(pa.array(~blank)), numbers[~blank]
    return SourceTable(table, name, "line", numbers, first=2)


def _malformed_lines(content: bytes, width: int) -> str:
    """The first lines whose number of cells is not `width`; read again, for Arrow does not tell lines."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    examples = []
    start = 1
    for cells in reader:
        if cells and len(cells) != width:
            examples.append(f"line {start} has {len(cells)}")
            if len(examples) == EXAMPLES:
                break
        start = reader.line_num + 1
    return "; ".join(examples)


def _read_jsonl(file: BinaryIO, name: str) -> SourceTable:
    columns: dict[str, list] = {}
    numbers = []
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {number}: not JSON ({error.msg}). Write one object a line.") from error
        if not isinstance(record, dict):
            raise DataError(f"{name}, line {number}: not an object. Write one object a line, {{...}}.")
        for column in record.keys() - columns.keys():
            columns[column] = [None] * len(numbers)
        for column, values in columns.items():
            values.append(record.get(column))
        numbers.append(number)
    arrays = {column: _json_column(column, values, name, numbers) for column, values in columns.items()}
    return SourceTable(pa.table(arrays), name, "line", np.asarray(numbers, np.int64))


def _json_column(column: str, values: list, name: str, numbers: list[int]) -> pa.Array:
    if column in ID_COLUMNS or column in ("timestamp", "order"):
        # Written as a number or as text: both are text here, and the validator reads it.
        for value, number in zip(values, numbers, strict=True):
            if not (value is None or isinstance(value, str | int | float)) or isinstance(value, bool):
                raise DataError(f"{name}, line {number}, column {column}: {value!r} is neither text nor a number.")
            if column in ID_COLUMNS and isinstance(value, float):
                raise DataError(f"{name}, line {number}, column {column}: {value!r} is a fraction. Write ids as text.")
        return pa.array([value if value is None else str(value) for value in values], pa.string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # mixed types, such as 1 and "one": keep what was written
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string())


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
                f"{name}, column {column}: has type {kind}. Write ids as text or whole numbers "
                "(pandas turns whole numbers into fractions when some are missing)."
            )
        table = table.set_column(table.column_names.index(column), column, values.cast(pa.string()))
    return table


def from_columns(columns: Mapping[str, object], name: str) -> SourceTable:
    """A table that an adapter made, named after the file it was made from."""
    return SourceTable(pa.table(dict(columns)), name)

"""Types of the attributes of items and users: inferred from their cells, the same from CSV, JSON Lines and Parquet.

An attribute is a number, a boolean, a date, text, or a list. Numbers are int64 where all are whole, else float64; dates
are date32 where none has a time of day, else timestamps in microseconds (UTC).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data import cells, timestamps
from genrec.data.errors import EXAMPLES, Problems
from genrec.data.reading import SourceTable
from genrec.errors import shown

NAMES = ("item_id", "user_id", "vector", "source_row")  # columns that are no attributes
SAMPLE = 1000  # cells that are looked at before all are
EXACT = 2**53  # whole numbers below are exact in float64
# Without leading zeros: codes that have some are text.
_NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE = r"^-?([0-9]{1,18}|[0-8][0-9]{18})$"  # in 64 bits
_TRUE, _FALSE = ("true", "1", "yes", "t", "y"), ("false", "0", "no", "f", "n")  # where a column is declared boolean


def convert(
    source: SourceTable, table: pa.Table, texts: Sequence[str], declared: Mapping[str, str], problems: Problems
) -> tuple[pa.Table, dict[str, str]]:
    """Returns the table with its attributes converted, and their types by column.

    Args:
      source: Where the rows come from, for messages.
      table: Items or users; its columns `texts` stay as they are.
      texts: Columns of text.
      declared: Types of columns, as in `data.types`.
      problems: Gets the cells that do not have the declared type.
    """
    types: dict[str, str] = {}
    columns: dict[str, pa.Array | pa.ChunkedArray] = dict(zip(table.column_names, table.columns, strict=True))
    for name, chunks in columns.items():
        if name in NAMES or name in texts:
            continue
        column = chunks.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # older pyarrow
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
        column = without_blanks(column)
        if name in declared:
            found = as_type(column, declared[name])
            wrong = pc.and_(column.is_valid(), pc.is_null(found)).to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(wrong)
            examples = [f"{source.where(row)}: {shown(column[row].as_py())}" for row in rows[:EXAMPLES].tolist()]
            where, what = f"{source.name}, column {name}", f"not a {declared[name]}, as data.types says"
            problems.add(where, what, "Correct the cells, or data.types.", count=len(rows), examples=examples)
            types[name] = declared[name]
        else:
            found, types[name] = infer(column)
        columns[name] = found
    return pa.table(columns), types


def without_blanks(column: pa.Array) -> pa.Array:
    """Returns the column with null in the place of blank text and NaN."""
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def infer(column: pa.Array) -> tuple[pa.Array, str]:
    """Returns a column in the type that all its cells have, and the name of that type."""
    kind = column.type
    if cells.is_list(kind):
        return column, "list"
    if pa.types.is_boolean(kind):
        return column, "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = _numbers(column)
        return numbers, "text" if pa.types.is_string(numbers.type) else "number"  # decimals of many digits
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _dates(column), "date"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([value if value is None else value.hex() for value in column.to_pylist()], pa.string()), "text"
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column.cast(pa.string()), "text"
    given = column.drop_null()
    if not len(given):
        return column, "text"
    for name in ("boolean", "number", "date"):
        if not any(_as_type_of_text(part, name).null_count for part in (given[:SAMPLE], given)):
            return as_type(column, name), name
    return column, "text"


def as_type(column: pa.Array, name: str) -> pa.Array:
    """Returns a column as a type, with null for the cells that do not have it."""
    kind = column.type
    if name == "text":
        inferred = _numbers(column) if pa.types.is_floating(kind) else column  # 7.0 is 7 among missing integers
        return cells.nested_as_text(column.to_pylist(), False) if cells.is_list(kind) else inferred.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _as_type_of_text(column, name, declared=True)
    found, inferred_name = infer(column)
    if inferred_name == name:
        return found
    if cells.is_list(kind):
        return pa.nulls(len(column), pa.string())
    return _as_type_of_text(found.cast(pa.string()), name, declared=True)


def _as_type_of_text(text: pa.Array, name: str, declared: bool = False) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    if name == "boolean":
        lower, true, false = pc.utf8_lower(text), _TRUE if declared else _TRUE[:1], _FALSE if declared else _FALSE[:1]
        is_true, is_false = (pc.is_in(lower, pa.array(words, lower.type)) for words in (true, false))
        return pc.if_else(pc.or_(is_true, is_false), is_true, None)
    if name == "number":
        return _numbers_of_text(pc.replace_substring_regex(text, r"^([+-]?)0+([0-9])", r"\1\2") if declared else text)
    if declared:  # 20240531
        text = pc.replace_substring_regex(text, r"^([0-9]{4})([0-9]{2})([0-9]{2})$", r"\1-\2-\3")
    # A year and a month, such as 1999-05 where the day is unknown, begin on their first day.
    text = pc.replace_substring_regex(text, r"^([0-9]{4})$", r"\1-01")
    parsed = timestamps.cells(pc.replace_substring_regex(text, r"^([0-9]{4}-[0-9]{2})$", r"\1-01"))
    return _dates(pa.array(parsed.times, mask=~parsed.is_time).cast(pa.timestamp("us")))


def _numbers_of_text(text: pa.Array) -> pa.Array:
    plain = pc.replace_substring_regex(text, r"^\+", "")
    plain = pc.if_else(pc.match_substring_regex(plain, _NUMBER), plain, None)
    whole = pc.replace_substring_regex(plain, r"\.0*$", "")
    if pc.all(pc.match_substring_regex(whole, _WHOLE), min_count=0).as_py():
        return whole.cast(pa.int64())
    digits = pc.replace_substring_regex(pc.replace_substring_regex(plain, r"[eE].*$", ""), r"[^0-9]", "")
    longest = pc.max(pc.utf8_length(pc.replace_substring_regex(digits, r"^0+|0+$", ""))).as_py() or 0
    if longest > 17:  # float64 would take different numbers for the same
        return pa.nulls(len(text), pa.float64())
    return plain.cast(pa.float64())


def _numbers(column: pa.Array) -> pa.Array:
    """Returns numbers as int64 where all are whole, else as float64; integers beyond 64 bits as they are."""
    if pa.types.is_integer(column.type):
        highest = pc.max(column).as_py() if pa.types.is_uint64(column.type) else None
        return column if highest is not None and highest >= 2**63 else column.cast(pa.int64())
    if pa.types.is_decimal(column.type):
        return _decimals(column)
    if pa.types.is_float64(column.type):
        numbers = column
    else:  # the shortest decimals of float32 are what was meant: 4.9, not 4.900000095
        values = column.to_numpy(zero_copy_only=False)
        numbers = pa.array(
            values.astype(str).astype(np.float64), mask=~column.is_valid().to_numpy(zero_copy_only=False)
        )
    values = numbers.drop_null().to_numpy()
    if (np.abs(values) < EXACT).all() and (values == np.floor(values)).all():
        return numbers.cast(pa.int64())
    return numbers


def _decimals(column: pa.Array) -> pa.Array:
    text = column.cast(pa.string())
    found = _numbers_of_text(text)
    return found if found.null_count == column.null_count else text


def _dates(column: pa.Array) -> pa.Array:
    times = column.cast(pa.timestamp("us"), safe=False)
    days = times.cast(pa.date32(), safe=False)
    return days if pc.all(pc.equal(days.cast(pa.timestamp("us")), times), min_count=0).as_py() else times

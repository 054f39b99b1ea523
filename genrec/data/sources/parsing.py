"""Reading of published text files into Arrow tables: lines of cells, CSV, JSON Lines, in blocks of bytes.

The files are read as they were published: without a header, with separators such as "::", without quoting. What is
general, such as encodings and missing values of a user's own files, is in `genrec.data.reading`.
"""

import ast
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
from absl import logging
from etils import epath

from genrec.data import csv_files, reading
from genrec.data.errors import DataError
from genrec.data.reading import SourceTable
from genrec.errors import cut, shown
from genrec.progress import progress

BLOCK_BYTES = 16 << 20


def byte_blocks(path: epath.Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a file, which may be gzipped, in blocks: the number of the first line, and the bytes."""
    number, rest = 1, b""
    with path.open("rb") as raw, pa.input_stream(raw, compression=_compression(path)) as file:
        while data := file.read(BLOCK_BYTES):
            end = data.rfind(b"\n") + 1
            if not end:
                rest += data
                continue
            block, rest = rest + data[:end], data[end:]
            yield number, block.removeprefix(b"\xef\xbb\xbf") if number == 1 else block
            number += block.count(b"\n")
    if rest:
        yield number, rest


def _compression(path: epath.Path) -> str | None:
    return "gzip" if path.name.lower().endswith(".gz") else None


def cell_blocks(
    path: epath.Path, separator: str, columns: Sequence[str], *, skip: int = 0, encodings: Sequence[str] = ("utf-8",)
) -> Iterator[SourceTable]:
    """Yields tables of text from lines of cells that are not quoted.

    Args:
      path: The file. Blank lines are left out.
      separator: What is between cells. The last cell may contain it.
      columns: Names of the columns; a line with fewer cells is an error.
      skip: Lines of a header.
      encodings: The first one in which a block can be decoded is taken.

    Raises:
      DataError: for a line that has too few cells, or is in another encoding.
    """
    for number, block in byte_blocks(path):
        lines = _decoded(block, encodings, path, number).split("\n")
        rows = [(i, line.removesuffix("\r")) for i, line in enumerate(lines, number) if line.strip("\r ") and i > skip]
        if rows:
            yield _split(path, separator, columns, rows)


def cells(
    path: epath.Path, separator: str, columns: Sequence[str], *, skip: int = 0, encodings: Sequence[str] = ("utf-8",)
) -> SourceTable:
    """Returns the blocks of `cell_blocks` as one table; raises `DataError` if there are none."""
    return _whole(cell_blocks(path, separator, columns, skip=skip, encodings=encodings), path)


def _whole(blocks: Iterable[SourceTable], path: epath.Path) -> SourceTable:
    parts = list(blocks)
    if not parts:
        raise reading.no_rows(path)
    return reading.concatenate(parts)


def _decoded(block: bytes, encodings: Sequence[str], path: epath.Path, number: int) -> str:
    for encoding in encodings:
        try:
            return block.decode(encoding)
        except UnicodeDecodeError as error:
            line = number + block[: error.start].count(b"\n")
    raise DataError(f"{path}, line {line}: is not {' or '.join(encodings)}. Download the file again.")


def _split(path: epath.Path, separator: str, columns: Sequence[str], rows: Sequence[tuple[int, str]]) -> SourceTable:
    """Returns the table of numbered lines."""
    width = len(columns)
    texts = pa.array([line for _, line in rows], pa.large_string())
    parts = pc.split_pattern(texts, separator, max_splits=width - 1)
    short = np.flatnonzero(pc.list_value_length(parts).to_numpy() < width)
    if len(short):
        number, line = rows[short[0]]
        raise DataError(
            f"{path}, line {number}: {shown(line)} has fewer than the {width} cells {', '.join(columns)}, separated by "
            f"{separator!r}. Download the file again."
        )
    values = parts.flatten().cast(pa.string())
    starts = np.arange(0, len(values), width)
    table = pa.table({name: values.take(pa.array(starts + place)) for place, name in enumerate(columns)})
    return SourceTable(table, str(path), "line", np.array([number for number, _ in rows]))


def csv_blocks(path: epath.Path, types: Mapping[str, pa.DataType], separator: str = ",") -> Iterator[SourceTable]:
    """Yields some columns of a CSV file with a header, in blocks of rows.

    Text cells are kept as they are; empty cells of other types are null. Raises `DataError` if the file lacks a column,
    or a value has another type.
    """
    header = next(byte_blocks(path), (1, b""))[1].split(b"\n", 1)[0].decode("utf-8", "replace")
    found = [name.strip().strip('"') for name in header.strip().split(separator)]
    missing = [name for name in types if name not in found]
    if missing:
        raise DataError(
            f"{path}, line 1: column {missing[0]} is missing (found: {cut(', '.join(found))}). Give the file as it was "
            "published."
        )
    with path.open("rb") as raw, pa.input_stream(raw, compression=_compression(path)) as file:
        try:
            reader = pyarrow.csv.open_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, column_names=found, skip_rows=1),
                parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(column_types=dict(types), include_columns=list(types)),
            )
            line, is_checked = 2, False
            for batch in reader:
                if not is_checked and _has_line_ends(batch):
                    _refuse_open_quotes(path, separator)
                    is_checked = True
                yield SourceTable(pa.Table.from_batches([batch]), str(path), "line", first=line)
                line += len(batch)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: cannot be read as CSV ({cut(str(error))}). Download the file again.") from error


def _has_line_ends(batch: pa.RecordBatch) -> bool:
    """Returns whether a cell of text goes over several lines, as rows do after a quotation mark that is not closed."""
    texts = (column for column in batch.columns if pa.types.is_string(column.type))
    return any(pc.any(pc.match_substring(column, "\n")).as_py() for column in texts)


def _refuse_open_quotes(path: epath.Path, separator: str) -> None:
    """Raises DataError if quotation marks do not open and close cells, so that Arrow takes rows for one cell."""
    with csv_files.opened(path) as file:
        if not csv_files.quotes_are_regular(file, separator):
            raise DataError(f"{path}: a quotation mark is not closed, or is within a cell. Download the file again.")


def csv(path: epath.Path, types: Mapping[str, pa.DataType], separator: str = ",") -> SourceTable:
    """Returns the blocks of `csv_blocks` as one table; raises `DataError` if there are none."""
    return _whole(csv_blocks(path, types, separator), path)


def json_blocks(path: epath.Path, types: Mapping[str, pa.DataType]) -> Iterator[SourceTable]:
    """Yields some fields of the objects in a file with one JSON object a line; null where an object lacks one.

    Raises `DataError` for a line that is not an object, and for a value that cannot be converted to its type.
    """
    schema = pa.schema(dict(types))
    for number, block in progress(byte_blocks(path), f"reading {path.name}"):
        rows = block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            table = pyarrow.json.read_json(
                io.BytesIO(block),
                read_options=pyarrow.json.ReadOptions(block_size=len(block) + 1, use_threads=False),
                parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            ).select(list(types))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError):
            table = None
        if table is None or len(table) != rows:  # blank lines, mixed types, or an error that is to be found
            yield _json_rows(path, number, block, schema)
        else:
            yield SourceTable(table, str(path), "line", first=number)


def json_lines(path: epath.Path, types: Mapping[str, pa.DataType]) -> SourceTable:
    """Returns the blocks of `json_blocks` as one table; raises `DataError` if there are none."""
    return _whole(json_blocks(path, types), path)


def _json_rows(path: epath.Path, number: int, block: bytes, schema: pa.Schema) -> SourceTable:
    """Returns the table of a block's lines, converting the values one by one."""
    rows, numbers = [], []
    for place, line in enumerate(_decoded(block, ("utf-8",), path, number).split("\n"), number):
        if line.strip():
            row = parse_object(json.loads, line, path, place)
            try:
                rows.append({field.name: _converted(row.get(field.name), field.type) for field in schema})
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {place}: {cut(str(error))}. Download the file again.") from error
            numbers.append(place)
    return SourceTable(pa.Table.from_pylist(rows, schema), str(path), "line", np.array(numbers, np.int64))


def _converted(value: Any, kind: pa.DataType) -> Any:  # a JSON value
    if value is None or pa.types.is_nested(kind):
        return value
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else json.dumps(value)
    return float(value) if pa.types.is_floating(kind) else int(value)


def objects(path: epath.Path, parse: Callable[[str], Any] = json.loads) -> Iterator[tuple[int, dict]]:
    """Yields the numbered objects of a file with one a line, in JSON, or in Python literals with `literal`."""
    for number, block in progress(byte_blocks(path), f"reading {path.name}"):
        for place, line in enumerate(_decoded(block, ("utf-8",), path, number).split("\n"), number):
            if line.strip():
                yield place, parse_object(parse, line, path, place)


literal = ast.literal_eval  # parses a Python literal, and runs no code


def parse_object(parse: Callable[[str], Any], text: str, path: epath.Path, line: int) -> dict:
    """Returns the object that a line holds; raises `DataError` if it holds none."""
    try:
        row = parse(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise DataError(
            f"{path}, line {line}: cannot be parsed ({type(error).__name__}: {cut(str(error))}). "
            "Download the file again."
        ) from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {line}: {shown(row)} is not an object. Download the file again.")
    return row


def json_file(path: epath.Path) -> Any:
    """Returns the content of a JSON file; raises `DataError` if it is none."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({cut(str(error))}). Download the file again.") from error


def with_columns(source: SourceTable, columns: Mapping[str, object]) -> SourceTable:
    """Returns a source table with other columns of the same rows."""
    return dataclasses.replace(source, table=pa.table(dict(columns)))


def keep(source: SourceTable, rows: np.ndarray) -> SourceTable:
    """Returns the rows where `rows` (bool[n]) is True, which keep their line numbers."""
    if rows.all():
        return source
    numbers = source.first + np.arange(len(source)) if source.numbers is None else source.numbers
    return dataclasses.replace(source, table=source.table.filter(pa.array(rows)), numbers=numbers[rows], parts=())


def without_repeats(source: SourceTable, columns: Sequence[str] = ("user_id", "item_id", "timestamp")) -> SourceTable:
    """Returns the rows without those that repeat an earlier one in all of `columns`; logs how many were dropped."""
    keys = [codes(source.table[name]) for name in columns]
    order = np.lexsort(keys)  # stable
    same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    first = np.ones(len(source), bool)
    first[order[1:][same]] = False
    return said(keep(source, first), len(source), f"that repeat {', '.join(columns)}")


def codes(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Returns int64[rows], equal where the values of a column are equal, and -1 where there is none.

    The chunks are not joined: an array of text holds 2 GB at most.
    """
    chunked = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    chunks = chunked.dictionary_encode().unify_dictionaries().chunks
    found = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate([np.zeros(0, np.int64), *found]).astype(np.int64)


def said(source: SourceTable, before: int, why: str) -> SourceTable:
    """Returns a table of which rows were dropped, after logging how many."""
    if len(source) < before:
        logging.info("%s: dropped %d of %d rows %s", epath.Path(source.name).name, before - len(source), before, why)
    return source


def joined(sources: Sequence[SourceTable], name: str) -> SourceTable:
    """Returns the tables of several files, of the same columns, as one; messages name the file."""
    if len(sources) == 1:
        return sources[0]
    return SourceTable(pa.concat_tables([source.table for source in sources]), name, parts=tuple(sources))


def described(items: SourceTable, log: SourceTable, fields: Sequence[str]) -> SourceTable:
    """Returns the items, with those of the log that they lack; the id stands in where none of `fields` has a text."""
    ids = log.table["item_id"].unique().drop_null()
    missing = ids.filter(pc.invert(pc.is_in(ids, items.table["item_id"].combine_chunks())))
    table = pa.concat_tables([items.table, pa.table({"item_id": missing})], promote_options="default")
    blank = np.logical_and.reduce([_blank(table[name]) for name in fields])
    if blank.any():
        logging.warning("%s: %d of %d items have no text: their id stands in", items.name, blank.sum(), len(blank))
        column = table[fields[0]]
        if pa.types.is_list(column.type):
            rows = zip(blank.tolist(), table["item_id"].to_pylist(), column.to_pylist(), strict=True)
            column = pa.array([[item] if is_blank else value for is_blank, item, value in rows], column.type)
        else:
            column = pc.if_else(pa.array(blank), table["item_id"], column)
        table = table.set_column(table.column_names.index(fields[0]), fields[0], column)
    return dataclasses.replace(items, table=table, unit="row", numbers=None, first=1)


def _blank(column: pa.ChunkedArray) -> np.ndarray:
    """Returns bool[rows], True where a text is blank or a list is empty."""
    is_list = pa.types.is_list(column.type)
    empty = pc.equal(pc.list_value_length(column), 0) if is_list else pc.equal(pc.utf8_trim_whitespace(column), "")
    return pc.fill_null(empty, True).to_numpy()


def milliseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns Unix milliseconds (int64) as times."""
    return column.cast(pa.timestamp("ms", "UTC"))


def names(values: Any) -> list[str]:
    """Returns the texts of a value that is a text, a list, or lists of lists, in order and without repetitions."""
    if isinstance(values, str):
        return [values.strip()] if values.strip() else []
    if isinstance(values, list | tuple):
        return list(dict.fromkeys(name for value in values for name in names(value)))
    return []


def first_of(path: epath.Path, name: str, wanted: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a JSON Lines file whose field `name` is a wanted id, with that id; the first of each."""
    remaining = set(wanted)
    for number, row in objects(path):
        if name not in row:
            raise DataError(f"{path}, line {number}: has no {name}. Download the file again.")
        if (found := str(row[name])) in remaining:
            remaining.remove(found)
            yield found, row


def catalogue(
    rows: Mapping[str, dict[str, Any]], ids: Sequence[str], types: Mapping[str, pa.DataType], where: str
) -> SourceTable:
    """Returns the items that have a row, by id, and the others of `ids`, whose title is the id."""
    missing = [item for item in ids if item not in rows]
    if missing and rows:
        logging.warning("%d of %d items have no metadata: the id is their title", len(missing), len(ids))
    found = [*rows.values(), *({"item_id": item, "title": item} for item in missing)]
    return SourceTable(pa.Table.from_pylist(found, pa.schema(types)), where)

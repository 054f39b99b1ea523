"""Reading CSV files: separators, escapes and line ends are recognized, and what would lose rows is refused.

Arrow reads what is no CSV without a word: a quotation mark that is never closed takes all rows after it into one cell,
and so does a quotation mark escaped by a backslash, as Spark writes it. So quotation marks are checked first.
"""

import codecs
import contextlib
import csv
import dataclasses
import io
import re
import typing
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from etils import epath

from genrec.data.errors import EXAMPLES, DataError
from genrec.errors import cut, shown

if typing.TYPE_CHECKING:
    from _csv import Reader

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}
SCAN_BYTES = 8 << 20
MOST_BLOCK_BYTES = 1 << 30  # of Arrow's blocks, which hold the longest row
QUOTE, NEWLINES = ord('"'), b"\r\n"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    columns: tuple[str, ...]
    separator: str
    quoted: bool = True  # whether cells may be in quotation marks
    escaped: bool = False  # whether a quotation mark within a cell is written \" and not ""
    marks: tuple[str, ...] = ()  # what was recognized, for the summary


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of a file."""

    table: pa.Table  # all cells are text
    numbers: np.ndarray | None  # int64[rows], their lines; None: row i is in line first + i
    first: int


@contextlib.contextmanager
def opened(path: epath.Path) -> Iterator[pa.NativeFile]:
    """Opens a file, and decompresses it if it ends in .gz."""
    with path.open("rb") as raw:
        yield pa.input_stream(raw, compression="gzip" if path.name.lower().endswith(".gz") else None)


def recognize(path: epath.Path, separator: str, known: Sequence[str], quoted: bool = True) -> Dialect:
    """Returns how a file is written.

    Args:
      path: The file.
      separator: The character between cells; empty, or one that the header does not have, recognizes it.
      known: Names of columns of which the header has one at least.
      quoted: Whether cells may be in quotation marks; else these are a part of the text.

    Raises:
      DataError: if the header is empty, goes over several lines or has a column twice, or if a quotation mark is not
        closed.
    """
    with opened(path) as file:
        header = _first_line(file)
    _refuse_other_files(path, header)
    try:
        text = header.decode("utf-8-sig")
    except UnicodeDecodeError:
        refuse_foreign_bytes(path)
        raise
    chosen = separator if separator and separator in text else _separator(text, known)
    dialect = Dialect((), chosen, quoted)
    if chosen != ",":
        dialect = dataclasses.replace(dialect, marks=(f"cells separated by {SEPARATORS.get(chosen, shown(chosen))}",))
    if quoted:
        dialect = _with_quotes(path, dialect)
    with opened(path) as file, _any_length():
        reader = _rows(file, dialect)
        columns = tuple(next(reader, ()))
        if reader.line_num > 1:
            raise DataError(f"{path}, line 1: the name of a column goes over several lines. Write it in one.")
    _refuse_columns(path, columns)
    return dataclasses.replace(dialect, columns=columns)


def _refuse_columns(path: epath.Path, columns: Sequence[str]) -> None:
    """Raises DataError for a header without columns, or with one twice."""
    if not columns:
        raise DataError(f"{path}, line 1: is empty. Write the names of the columns in the first line.")
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated == [""]:
        raise DataError(
            f"{path}, line 1: {columns.count('')} columns have no name. Name or remove them; if several characters "
            "separate the cells, such as ||, write one in their place."
        )
    if repeated:
        raise DataError(f"{path}, line 1: column {shown(repeated[-1])} appears twice. Rename one of them.")


def _with_quotes(path: epath.Path, dialect: Dialect) -> Dialect:
    """Returns how quotation marks within cells are written; raises DataError if one is not closed."""
    with opened(path) as file:
        if quotes_are_regular(file, dialect.separator):
            return dialect
    problem, is_open = _problem(path, dialect)
    if not problem:
        return dialect
    escaped = dataclasses.replace(
        dialect, escaped=True, marks=(*dialect.marks, 'quotation marks within cells are written \\"')
    )
    if not _problem(path, escaped)[0]:
        return escaped
    if is_open:
        raise DataError(f"{path}, {problem}")
    return dialect  # rows of another width are reported when all have been read


def _refuse_other_files(path: epath.Path, header: bytes) -> None:
    """Raises DataError for a file that is no text, or in UTF-16 without a mark, by how it begins."""
    kinds = {b"\x1f\x8b": "compressed: end its name in .gz", b"PK": "an archive: unpack it, or save the sheet as CSV"}
    kinds[b"PAR1"] = "Parquet: end its name in .parquet"
    for start, kind in kinds.items():
        if header.startswith(start) and (start != b"PK" or not header.isascii()):
            raise DataError(f"{path}: is no CSV but {kind}.")
    if b"\0" in header and not header.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16LE" if header.find(b"\0") % 2 else "UTF-16BE"
        raise DataError(f"{path}, line 1: is not UTF-8 but has bytes of value 0. {_convert(path, encoding)}")


def _convert(path: epath.Path, encoding: str) -> str:
    return (
        f"Save the file as UTF-8. If it is in {encoding}: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
    )


def _first_line(file: pa.NativeFile) -> bytes:
    """Returns the first line, which any of the three line ends closes."""
    found = b""
    while not any(mark in found for mark in (b"\n", b"\r")) and (part := file.read(1 << 16)):
        found += part
    return re.split(rb"[\r\n]", found, maxsplit=1)[0]


def _separator(header: str, known: Sequence[str]) -> str:
    """Returns the separator of a header: the one that gives it a known column, and most cells."""

    def worth(separator: str) -> tuple[bool, int]:
        cells = next(csv.reader([header], delimiter=separator), [])
        return not set(cells).isdisjoint(known), len(cells)

    return max(SEPARATORS, key=worth)  # the first among equals


def quotes_are_regular(file: pa.NativeFile, separator: str) -> bool:
    """Returns whether all quotation marks open a cell, close it, or are doubled within it. In NumPy: few files fail."""
    around = np.zeros(256, bool)
    around[[ord(separator) if ord(separator) < 256 else 0, QUOTE, *NEWLINES]] = True
    is_open, before = False, ord("\n")  # parity of the marks so far, and the byte before the part
    part = file.read(SCAN_BYTES)
    if part.startswith(codecs.BOM_UTF8):
        part = part[len(codecs.BOM_UTF8) :]
    while part:
        following = file.read(SCAN_BYTES)
        if b'"' in part:
            # One byte more on both sides; the file ends like a line.
            text = np.frombuffer(bytes([before]) + part + (following[:1] or b"\n"), np.uint8)
            marks = np.flatnonzero(text[1:-1] == QUOTE) + 1
            opening, closing = marks[is_open::2], marks[1 - is_open :: 2]
            if not (around[text[opening - 1]].all() and around[text[closing + 1]].all()):
                return False
            is_open ^= bool(len(marks) % 2)
        before, part = part[-1], following
    return not is_open


def _problem(path: epath.Path, dialect: Dialect) -> tuple[str, bool]:
    """Returns why a file cannot be read so, empty if it can, and whether a quotation mark is not closed.

    Else a row has another width than the header: `"a \\", b"` may be one cell or two.
    """
    problem, width, start = "", 0, 1
    with opened(path) as file, _any_length():
        reader = _rows(file, dialect, strict=True)
        try:
            for cells in reader:
                width = width or len(cells)  # that of the header
                if cells and len(cells) != width:
                    problem = problem or f"line {start}: has {len(cells)} cells."
                start = reader.line_num + 1
        except csv.Error as error:
            return (
                f"line {start}: a cell that begins with a quotation mark is not closed ({error}), so that the rows "
                'after it would be lost. Close it, and write a quotation mark within a cell as "". Where quotation '
                "marks are a part of the text, as in many files with tabs, set data.quoted=False."
            ), True
    return problem, False


@contextlib.contextmanager
def _any_length() -> Iterator[None]:
    """Lets the csv module read cells of any length."""
    limit = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _rows(file: pa.NativeFile, dialect: Dialect, strict: bool = False) -> "Reader":
    """Returns the rows of a file by the csv module, with bytes that are not UTF-8 replaced."""
    raw = io.BufferedReader(_Unescaped(file) if dialect.escaped else file)
    lines = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
    return csv.reader(
        lines,
        delimiter=dialect.separator,
        quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
        strict=strict,
    )


class _Unescaped(io.RawIOBase):
    """A file with \\" replaced by "" and \\\\" by \\", so that any reader of CSV understands it.

    Other backslashes stay: in cells without quotation marks, such as \\N, they are written as they are.
    """

    def __init__(self, file: pa.NativeFile):
        self._file, self._kept, self._ready = file, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # the type has a name since 3.12
        if not self._ready:
            self._ready = self._next()
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

    def _next(self) -> bytes:
        while part := self._file.read(SCAN_BYTES):
            part = self._kept + part
            end = len(part.rstrip(b"\\"))  # backslashes at the end belong to what follows
            self._kept = part[end:]
            if end:
                return _unescape(part[:end])
        kept, self._kept = self._kept, b""
        return kept


def _unescape(part: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        backslashes = len(match[1])
        return b"\\" * (backslashes // 2) + (b'""' if backslashes % 2 else b'"')

    return re.sub(rb'(\\+)"', one, part)


def read(path: epath.Path, dialect: Dialect, block_bytes: int) -> Iterator[Block]:
    """Yields the rows of a file in blocks, the first of which is empty; all cells are text.

    Raises:
      DataError: for rows of another width than the header, and for bytes that are not UTF-8.
      pa.ArrowException: for other problems.
    """
    line, done = 2, 0
    while True:
        try:
            skipped = 0
            for table in _tables(path, dialect, block_bytes):
                again = min(done - skipped, len(table))  # rows that were yielded before the blocks became larger
                skipped += again
                if again < len(table) or not done:
                    block, line = _block(table.slice(again), line)
                    done, skipped = done + len(table) - again, skipped + len(table) - again
                    yield block
            return
        except pa.ArrowInvalid as error:
            if "straddl" in str(error) and block_bytes < MOST_BLOCK_BYTES:  # a row is longer than a block
                block_bytes = min(8 * block_bytes, MOST_BLOCK_BYTES)
                continue
            _refuse_malformed(path, dialect)
            raise


def _tables(path: epath.Path, dialect: Dialect, block_bytes: int) -> Iterator[pa.Table]:
    with opened(path) as file:
        reader = pyarrow.csv.open_csv(
            # Buffered, as Arrow takes less than a whole block for the end of the file.
            pa.PythonFile(io.BufferedReader(_Unescaped(file)), "r") if dialect.escaped else file,
            read_options=pyarrow.csv.ReadOptions(block_size=block_bytes),
            # Without a handler of invalid rows, which prints a traceback where one is not UTF-8.
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char='"' if dialect.quoted else False,
                newlines_in_values=dialect.quoted,
                ignore_empty_lines=False,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={column: pa.string() for column in dialect.columns}, strings_can_be_null=False
            ),
        )
        yield reader.schema.empty_table()  # a file without rows has columns, too
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _block(table: pa.Table, line: int) -> tuple[Block, int]:
    """Returns the rows that begin at `line`, without blank ones, and the number of the line after them."""
    newlines = np.zeros(table.num_rows, np.int64)
    blank = np.ones(table.num_rows, bool)
    for column in table.columns:
        newlines += pc.count_substring(column, "\n").to_numpy()
        blank &= pc.equal(column, "").to_numpy()
    end = line + table.num_rows + int(newlines.sum())
    if not (newlines.any() or blank.any()):
        return Block(table, None, line), end
    numbers = line + np.arange(table.num_rows) + np.cumsum(newlines) - newlines
    return Block(table.filter(pa.array(~blank)), numbers[~blank], line), end


def _refuse_malformed(path: epath.Path, dialect: Dialect) -> None:
    """Raises DataError for bytes that are not UTF-8, and for lines of another width, of which Arrow names one."""
    refuse_foreign_bytes(path)
    width, count, start = len(dialect.columns), 0, 1
    examples: list[str] = []
    with opened(path) as file, _any_length():
        reader = _rows(file, dialect)
        for cells in reader:
            if cells and len(cells) != width:
                count += 1
                if len(examples) < EXAMPLES:
                    examples.append(f"line {start} has {len(cells)}")
            start = reader.line_num + 1
    if count:
        remedy = f"Put quotation marks around values that contain {shown(dialect.separator)}"
        remedy = remedy if dialect.quoted else f"Write no {shown(dialect.separator)} in a value"
        raise DataError(
            f"{path}: {count:,} rows do not have the {width} cells of the header: {'; '.join(examples)}. {remedy}, or "
            "name another data.separator."
        )


def refuse_foreign_bytes(path: epath.Path) -> None:
    """Raises DataError, with the line and the remedy, if a text file is not UTF-8."""
    with opened(path) as file:
        for number, line in enumerate(io.BufferedReader(file), start=1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                found = line[error.start : error.end]
                encoding = "latin-1" if all(byte >= 0xA0 for byte in found) else "cp1252"
                if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    encoding = "UTF-16"
                raise DataError(
                    f"{path}, line {number}: is not UTF-8 (bytes {found!r} in {cut(repr(line[: error.end][-40:]))}). "
                    f"{_convert(path, encoding)}"
                ) from error

"""Validation of tables against genrec's schema, and their conversion to arrays. All problems are reported at once.

All checks are vectorized over columns, so that millions of rows take seconds.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec import config as configs
from genrec.data import attributes, reading, timestamps
from genrec.data.errors import EXAMPLES, DataError, Problems
from genrec.data.id_codes import IdCodes
from genrec.data.interactions import Interactions
from genrec.data.reading import SourceTable, Tables
from genrec.errors import shown

TEXT_BYTES = 2**31 - 1  # the most text of an array of strings


@dataclasses.dataclass(frozen=True)
class Checked:
    """Validated tables: ids resolved to rows, times to microseconds, vectors to float32 lists of one width."""

    interactions: Interactions
    catalogue: "CheckedCatalogue"
    time: timestamps.Times
    repeated: int  # rows of the log that repeat an earlier one


@dataclasses.dataclass(frozen=True)
class CheckedCatalogue:
    """Validated items and users."""

    items: pa.Table  # item_id string, text columns string, vector list<float>, others of the types that they hold
    users: pa.Table | None
    text_fields: tuple[str, ...]  # the text fields of the config that the items have
    types: Mapping[str, Mapping[str, str]]  # of the attributes, by column: those of "items" and of "users"


def check(tables: Tables, config: configs.Data) -> Checked:
    """Validates all tables by the settings of the stage.

    Raises:
      DataError: with every kind of problem: file, line, column, remedy, the number of rows and a few examples.
    """
    problems = Problems()
    for source in (tables.interactions, tables.items):
        if not len(source):
            problems.add(source.name, "has no rows", "Check how the file was made.")
    problems.raise_if_any()
    fields = reading.text_fields(config, tables.text_fields)
    catalogue = check_catalogue(tables.items, tables.users, fields, config, problems)
    source, column = tables.interactions, check_log_columns(tables.interactions, problems)
    log, repeated = None, np.zeros(0, bool)
    if column and "item_id" in tables.items.table.column_names:
        cells = timestamps.cells(source.table[column], config.time_format)
        time = check_times(source.name, column, cells.extent, config, problems)
        item_codes = IdCodes.of(tables.items.table["item_id"])
        checked = check_log(source, tables.items.name, item_codes, time, cells, problems)
        log = None if checked is None else checked.interactions()
    if log is not None:
        repeated = repeats(log)
        if config.repeated == "refuse":
            rows = np.flatnonzero(repeated)
            examples = [example(source, "item_id", row) for row in rows[:EXAMPLES].tolist()]
            report_repeats(source.name, len(rows), examples, problems)
    problems.raise_if_any()
    assert log is not None  # else there are problems
    if config.repeated == "drop":
        log = log.select(~repeated)
    return Checked(log, catalogue, time, int(repeated.sum()))


def check_catalogue(
    items: SourceTable, users: SourceTable | None, text_fields: Sequence[str], config: configs.Data, problems: Problems
) -> CheckedCatalogue:
    """Returns the validated items, of which `text_fields` hold text, and the users; adds to `problems`."""
    declared = dict(text.rsplit("=", 1) for text in config.types)
    item_table, fields = _check_items(items, text_fields, problems)
    item_table, item_types = attributes.convert(items, item_table, (*fields, "title"), declared, problems)
    user_table = _check_users(users, problems)
    user_types: dict[str, str] = {}
    if users is not None and user_table is not None:
        user_table, user_types = attributes.convert(users, user_table, (), declared, problems)
    for column in sorted(declared.keys() - item_types.keys() - user_types.keys()):
        where = items.name if users is None else f"{items.name}, {users.name}"
        problems.add(where, f"no attribute {column}, which data.types names", "Correct data.types.")
    return CheckedCatalogue(item_table, user_table, fields, {"items": item_types, "users": user_types})


def check_log_columns(source: SourceTable, problems: Problems) -> str | None:
    """Returns the log's column of times, "timestamp" or "order"; None, and adds problems, if columns are missing."""
    complete = _has_columns(source, ["user_id", "item_id"], problems)
    time = next((column for column in ("timestamp", "order") if column in source.table.column_names), None)
    if time is None:
        _has_columns(source, ["timestamp"], problems)
    others = [column for column in (time, "event_type", "rating") if column and column in source.table.column_names]
    readable = [_has_readable_type(source, column, problems) for column in others]
    return time if complete and all(readable) else None


def check_times(
    name: str, column: str, extent: timestamps.Extent, config: configs.Data, problems: Problems
) -> timestamps.Times:
    """Returns how the log `name` writes its times; adds a problem if numbers of the column have several units."""
    if column == "order":
        return timestamps.Times(column, extent.order_unit, config.time_format)
    if not (config.time_unit or config.time_format) and len(extent.units) > 1:
        what = f"times of several units: {extent.described()}"
        remedy = "Write all in one unit, or leave out those that are no times. data.time_unit reads all in that unit."
        problems.add(f"{name}, column {column}", what, remedy)
    recognized = extent.units[0] if extent.units and extent.units[0] in timestamps.UNITS else "s"
    return timestamps.Times(column, config.time_unit or recognized, config.time_format, not extent.others)


def refuse_1970(name: str, times: tuple[int, int], time: timestamps.Times, config: configs.Data) -> None:
    """Raises DataError if a log lies within 1970, as day numbers and counters do when they are read as seconds.

    So it does if it lies before 1990 in a finer unit, or if it is days with hours, such as 2024053118, which as seconds
    would be of 2034. Accepted are seconds that were counted by hand, from 0 to 1,000 as in small examples, and a unit
    that the config names. `times` are the microseconds of the first and the last interaction.
    """
    if time.column == "order" or config.time_unit or config.time_format or times[0] < 0:
        return
    last = times[1] // timestamps.SECOND
    if time.are_numbers and time.unit == "s" and last < timestamps.COUNTED:
        return
    form = timestamps.digits_of(times, time)
    if form or last < (timestamps.YEAR_1971 if time.unit == "s" else timestamps.YEAR_1990):
        first, end = map(timestamps.readable, times)
        when = f"all times are {f'within {first[:4]}' if first[:4] == end[:4] else 'before 1990'}, {first} to {end}"
        form = form or "%Y%m%d"
        remedy = (
            f"as {timestamps.UNITS[time.unit]}. Say how they are written: data.time_format={form} for days such as "
            f"{timestamps.EXAMPLE:{form}}, data.time_unit={time.unit} if these times are right; or name the column "
            "order if it only counts."
        )
        if not time.are_numbers:
            remedy = (
                "UTC. Where numbers became times, their unit was missing: in pandas, pd.to_datetime(column, unit='s'). "
                "Write them again, or set data.time_unit=s, or data.time_format=..., if these times are right."
            )
        raise DataError(f"{name}, column timestamp: {when} {remedy}")


def refuse_unknown_users(known: int, log_name: str, user_id: str, users: SourceTable) -> None:
    """Raises DataError if no user of the log, such as `user_id`, is among the `known` ones, who have attributes."""
    if not known:
        raise DataError(
            f"{users.name}: none of its users is in {log_name}, which has {shown(user_id)} where this file has "
            f"{shown(users.table['user_id'][0].as_py())}. Ids are text: write them alike in both files, with their "
            "leading zeros, or leave data.users out."
        )


@dataclasses.dataclass(frozen=True)
class Rows:
    """Validated rows of a log."""

    users: pa.DictionaryArray  # of user ids, in order of first appearance
    items: np.ndarray  # int64[n], rows of the items table
    timestamps: np.ndarray  # int64[n], as in `Interactions`
    event_types: pa.DictionaryArray | None
    ratings: np.ndarray | None  # float64[n]

    def interactions(self) -> Interactions:
        """Returns the rows with users in order of first appearance and event types as text."""
        event_types = None
        if self.event_types is not None:
            names = self.event_types.dictionary.to_numpy(zero_copy_only=False)
            event_types = names[self.event_types.indices.to_numpy()]
        return Interactions(
            user_ids=self.users.dictionary.to_numpy(zero_copy_only=False),
            users=self.users.indices.to_numpy().astype(np.int64),
            items=self.items,
            timestamps=self.timestamps,
            event_types=event_types,
            ratings=self.ratings,
        )


def check_log(
    source: SourceTable,
    items_name: str,
    item_codes: IdCodes,
    time: timestamps.Times,
    cells: timestamps.Cells,
    problems: Problems,
) -> Rows | None:
    """Returns the rows of a log, or some of them; None if they have problems.

    Args:
      source: A table with all required columns (`check_log_columns`).
      items_name: Name of the items file, for messages.
      item_codes: Of the ids in the order that `Interactions.items` refers to.
      time: How times are written.
      cells: The parsed column of times.
      problems: Gets every kind that is checked, also with a count of 0, so that those of parts are merged in order.
    """
    table = source.table
    before = len(problems.found)
    _check_ids(source, "user_id", problems, unique=False)
    _check_ids(source, "item_id", problems, unique=False)

    items = _encoded(table["item_id"])
    codes = item_codes.find(items.dictionary)
    rows = pa.array(codes, mask=codes < 0).take(items.indices)
    unknown = rows.is_null().to_numpy(zero_copy_only=False) & ~_missing(table["item_id"])
    remedy = f"Add them to {items_name}, or remove their interactions."
    _report(problems, source, "item_id", "unknown items", remedy, unknown)

    microseconds = _check_times(source, time, cells, problems)
    event_types = table["event_type"].cast(pa.string()) if "event_type" in table.column_names else None
    ratings = _check_ratings(source, problems) if "rating" in table.column_names else None
    if len(problems.found) > before:
        return None

    return Rows(
        users=_encoded(table["user_id"]),
        items=rows.to_numpy().astype(np.int64),
        timestamps=microseconds,
        event_types=None if event_types is None else _encoded(event_types.fill_null("")),
        ratings=ratings,
    )


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Returns a column of text as one array with a dictionary."""
    if pa.types.is_string(column.type) and column.nbytes >= TEXT_BYTES:
        column = column.cast(pa.large_string())
    return column.dictionary_encode().combine_chunks()


def repeats(log: Interactions) -> np.ndarray:
    """Returns bool[n], True where an earlier row has the same user, item, time and event type."""
    keys = [log.timestamps, log.items, log.users]
    if log.event_types is not None:
        keys.insert(0, pa.array(log.event_types, pa.string()).dictionary_encode().indices.to_numpy())
    order = np.lexsort(keys)  # stable: among equals the first row of the file comes first
    same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    repeated = np.zeros(len(log), bool)
    repeated[order[1:][same]] = True
    return repeated


def report_repeats(name: str, count: int, examples: Sequence[str], problems: Problems) -> None:
    """Adds the problem of the `count` rows that `repeats` finds in the log `name`."""
    what = "same interaction twice (user, item and time)"
    remedy = "Choose data.repeated: drop them, or keep them all as a log of music may; or remove them."
    problems.add(f"{name}, column item_id", what, remedy, count=count, examples=examples)


def example(source: SourceTable, column: str, row: int) -> str:
    """Returns a row's cell with its line, such as "line 7: 'B12'"."""
    cell = source.table[column][row]
    try:
        found = cell.as_py()
    except (ValueError, OverflowError):  # a year that Python's dates do not have
        found = cell.value
    return f"{source.where(row)}: {shown(found)}"


def _report(
    problems: Problems, source: SourceTable, column: str, what: str, remedy: str, bad: np.ndarray, show: bool = True
) -> None:
    """Adds a problem of the rows where `bad` (bool[rows]) is True, of which there may be none."""
    rows = np.flatnonzero(bad)
    show = show and column in source.table.column_names
    examples = [example(source, column, row) if show else source.where(row) for row in rows[:EXAMPLES].tolist()]
    problems.add(f"{source.name}, column {column}", what, remedy, count=len(rows), examples=examples)


def _missing(column: pa.ChunkedArray) -> np.ndarray:
    """Returns bool[rows], True where a cell is null or blank text."""
    missing = pc.is_null(column)
    if _is_text(column):
        missing = pc.or_kleene(missing, pc.equal(pc.utf8_trim_whitespace(column), ""))
    return missing.to_numpy()


def _is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def _is_list(column: pa.ChunkedArray) -> bool:
    return pa.types.is_list(column.type) or pa.types.is_large_list(column.type)


def _has_columns(source: SourceTable, required: Sequence[str], problems: Problems) -> bool:
    """Returns whether the table has all required columns; adds a problem for each that is missing."""
    found = source.table.column_names
    absent = [column for column in required if column not in found]
    for column in absent:
        what = f"column {column} is missing (found: {', '.join(found)})"
        remedy = f"Add or rename a column, or name it: data.columns={column}=COLUMN."
        if len(found) == 1:
            remedy += " If another character separates the cells, name it: data.separator."
        problems.add(source.name, what, remedy)
    return not absent


def _has_readable_type(source: SourceTable, column: str, problems: Problems) -> bool:
    """Returns whether the cells of a column are text, numbers, times or truth values; adds a problem if not."""
    kind = source.table[column].type
    wrong = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    wrong |= column == "rating" and pa.types.is_temporal(kind)
    if wrong:
        problems.add(f"{source.name}, column {column}", f"has type {kind}", "Write text or numbers.")
    return not wrong


def _check_ids(source: SourceTable, column: str, problems: Problems, *, unique: bool) -> None:
    """Adds problems for empty ids, and for repeated ones if they must be unique."""
    values = source.table[column]
    missing = _missing(values)
    remedy = "Give every row an id, or take what is one, such as None, out of data.missing_values."
    _report(problems, source, column, "empty id", remedy, missing, show=False)
    if unique:
        codes = values.combine_chunks().dictionary_encode().indices.fill_null(0).to_numpy()
        first = np.unique(codes, return_index=True)[1]
        repeated = ~missing
        repeated[first] = False
        _report(problems, source, column, "id appears twice", "Keep one row per id.", repeated)


def _check_items(
    source: SourceTable, text_fields: Sequence[str], problems: Problems
) -> tuple[pa.Table, tuple[str, ...]]:
    """Returns the items table with parsed vectors, and the text fields that it has."""
    table = source.table
    if _has_columns(source, ["item_id"], problems):
        _check_ids(source, "item_id", problems, unique=True)
    fields = tuple(field for field in text_fields if field in table.column_names)
    described = np.zeros(len(source), bool)
    for field in fields:
        if not _is_text(table[field]):
            if not (_is_list(table[field]) or _has_readable_type(source, field, problems)):
                continue
            table = table.set_column(table.column_names.index(field), field, _as_text(table[field]))
        described |= ~_missing(table[field])
    if "vector" in table.column_names:
        vectors, given = _check_vectors(source, problems)
        table = table.set_column(table.column_names.index("vector"), "vector", vectors)
        described |= given
    elif not text_fields:  # semantic IDs come of co-occurrence alone
        return table, fields
    elif not fields:
        problems.add(
            source.name,
            f"none of the text columns {', '.join(text_fields)} is there (found: {', '.join(table.column_names)})",
            "Name the columns that describe an item in data.text_fields, or add a column vector. Without either: "
            "data.text_fields=() and embeddings.source=cooccurrence.",
        )
        return table, fields
    _report(
        problems,
        source,
        fields[0] if fields else "vector",
        f"empty text: neither {', '.join(fields) or 'a text field'} nor a vector describes the item",
        "Fill in at least one text field, or remove the item and its interactions.",
        ~described,
        show=False,
    )
    return table, fields


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns a column as strings; the values of a list are joined with commas."""
    if _is_list(column):
        return pa.chunked_array([[v if v is None else ", ".join(map(str, v)) for v in column.to_pylist()]], pa.string())
    return column.cast(pa.string())


def _check_vectors(source: SourceTable, problems: Problems) -> tuple[pa.Array, np.ndarray]:
    """Returns list<float>[rows], and bool[rows], True where a row has a vector.

    In text files a vector is numbers separated by spaces or commas, with or without square brackets.
    """
    column = source.table["vector"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # older pyarrow
        column = pa.concat_arrays(column.chunks)
    absent = _missing(pa.chunked_array([column]))
    if _is_text(column):
        plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(column, r"[\[\],;\s]+", " "))
        absent = absent | pc.fill_null(pc.equal(plain, ""), True).to_numpy(zero_copy_only=False)  # as an empty list
        column = pc.split_pattern(pc.if_else(pa.array(absent), None, plain), " ")
    elif pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    elif not pa.types.is_list(column.type):
        problems.add(f"{source.name}, column vector", f"has type {column.type}", "Write lists of numbers.")
        return column, ~absent
    widths = pc.list_value_length(column).fill_null(0).to_numpy()
    values = column.flatten()
    owners = np.repeat(np.arange(len(column)), widths)
    if _is_text(values):
        number = pc.match_substring_regex(values, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
        values = pc.if_else(number, values, None)
    elif not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        problems.add(f"{source.name}, column vector", f"holds {values.type}", "Write lists of numbers.")
        return column, ~absent
    numbers = values.cast(pa.float32(), safe=False).fill_null(float("nan")).to_numpy()
    not_finite = np.bincount(owners[~np.isfinite(numbers)], minlength=len(column)) > 0
    remedy = "Write finite numbers only; leave the cell empty where an item has no vector and text describes it."
    _report(
        problems, source, "vector", "not a number (NaN, infinite or no number at all)", remedy, not_finite, show=False
    )
    given = ~absent & (widths > 0)
    if given.any():
        width = np.bincount(widths[given]).argmax()
        what = f"wrong width: most vectors have {width} numbers, this one has"
        rows = np.flatnonzero(given & (widths != width))
        if len(rows):
            examples = [f"{source.where(row)}: {widths[row]}" for row in rows[:EXAMPLES].tolist()]
            remedy = "Make all vectors with one encoder."
            problems.add(f"{source.name}, column vector", what, remedy, count=len(rows), examples=examples)
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers), mask=pa.array(~given)), given


def _check_users(source: SourceTable | None, problems: Problems) -> pa.Table | None:
    """Returns the users table with parsed vectors."""
    if source is None:
        return None
    if _has_columns(source, ["user_id"], problems):
        _check_ids(source, "user_id", problems, unique=True)
    table = source.table
    if "vector" in table.column_names:
        vectors, _ = _check_vectors(source, problems)
        table = table.set_column(table.column_names.index("vector"), "vector", vectors)
    return table


def _check_times(
    source: SourceTable, time: timestamps.Times, cells: timestamps.Cells, problems: Problems
) -> np.ndarray:
    """Returns int64[rows], the column of times in microseconds, or the order."""
    column, missing = time.column, _missing(source.table[time.column])
    microseconds, readable = cells.microseconds(time.unit)
    form = "Unix time or ISO 8601, such as 2024-05-31T18:30:00Z, or say how times are written with data.time_format"
    if time.form:
        form = f"times as data.time_format={time.form} says"
    elif column == "order":
        form = "numbers that 64 bits hold, below 9e12 where they have decimals"
        readable &= np.abs(microseconds) < 2**63 - 2 * timestamps.SECOND
    _report(problems, source, column, f"missing {column}", f"Write {form}.", missing, show=False)
    _report(problems, source, column, f"unparsable {column}", f"Write {form}.", ~readable & ~missing)
    if column == "timestamp":
        late = readable & (microseconds > timestamps.LATEST * timestamps.SECOND)
        remedy = "Correct these times, or say in which unit they are with data.time_unit."
        _report(problems, source, column, "timestamp after the year 2200", remedy, late)
        early = readable & (microseconds < timestamps.EARLIEST * timestamps.SECOND)
        remedy = "Correct these times, or leave out the interactions whose time is unknown."
        _report(problems, source, column, "timestamp before the year 1900", remedy, early)
    return microseconds


def _check_ratings(source: SourceTable, problems: Problems) -> np.ndarray:
    """Returns float64[rows], NaN where a rating is missing."""
    column = source.table["rating"].combine_chunks()
    missing = _missing(pa.chunked_array([column]))
    if _is_text(column):
        text = pc.utf8_trim_whitespace(column)
        number = pc.match_substring_regex(text, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
        wrong = ~missing & ~number.fill_null(False).to_numpy(zero_copy_only=False)
        _report(problems, source, "rating", "not a number", "Write numbers, or leave the cell empty.", wrong)
        column = pc.if_else(number, text, None)
    return column.cast(pa.float64()).fill_null(float("nan")).to_numpy()

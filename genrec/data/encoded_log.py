"""The log of the source `files`, read in blocks: validated, with ids as codes, sorted by user and time.

How its times and columns are written is known once all of it has been read. So the first block tells what to expect,
and where that was wrong, the log is read again.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Generator, Iterator

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import config as configs
from genrec.data import errors, external_sort, logs, reading, timestamps, validation
from genrec.data.errors import Problems
from genrec.data.id_codes import IdCodes
from genrec.data.reading import SourceTable

MOST_BLOCK_ROWS = 1 << 20
ROW_BYTES = 512  # of a block, which is held several times while it is validated


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much is held at a time."""

    block_bytes: int  # of a text file that are read
    rows: int  # of a block
    sort_bytes: int

    @classmethod
    def of(cls, memory: int) -> "Limits":
        """Returns the limits that keep the peak near `memory` bytes, beside items and users."""
        rows = int(np.clip(memory // 8 // ROW_BYTES, 1 << 12, MOST_BLOCK_ROWS))
        return cls(min(reading.BLOCK_BYTES, rows * 64), rows, max(memory // 2, 64 << 20))


@dataclasses.dataclass(frozen=True)
class Form:
    """How the log is written, as far as the encoding of a block depends on all blocks."""

    schema: pa.Schema  # the columns of `reading.LOG_COLUMNS` that it has
    time: timestamps.Times


class EncodedLog:
    """One pass over the log, and what it finds."""

    def __init__(self, config: configs.Data, items: SourceTable | None, limits: Limits, form: Form | None = None):
        """`items` None reads the log without encoding it; `form` None takes the one of the first block."""
        self.users, self.event_types = IdCodes(), IdCodes()
        self.rows = 0
        self.problems = Problems()  # of the rows
        self.form = self._given = form
        self.has_items = items is not None and "item_id" in items.table.column_names
        self.is_encoded = True  # whether all blocks that have been read are in the form
        self._config, self._items, self._limits = config, items, limits
        self._schemas: dict[pa.Schema, None] = {}
        self._marks: dict[str, None] = {}
        self._renamed: dict[str, None] = {}
        self._extents: list[timestamps.Extent] = []
        self._found: list[Problems] = []
        self._has_problems = False

    @functools.cached_property
    def _item_codes(self) -> IdCodes:
        assert self._items is not None
        return IdCodes.of(self._items.table["item_id"])

    @functools.cached_property
    def table(self) -> SourceTable:
        """A table without rows that has the log's name and columns, once it has been read."""
        name = self._config.interactions
        schema = logs.unify(list(self._schemas), name)
        if not self.rows:
            raise reading.no_rows(name)
        return SourceTable(schema.empty_table(), name, marks=tuple(self._marks), renamed=tuple(self._renamed))

    def needed_form(self, problems: Problems) -> Form | None:
        """Returns the form that the log turned out to have; None if it lacks columns. Adds to `problems`."""
        column = validation.check_log_columns(self.table, problems)
        if column is None:
            return None
        extent = timestamps.Extent.merge([timestamps.Extent(), *self._extents])
        time = validation.check_times(self.table.name, column, extent, self._config, problems)
        return Form(_log_schema(self.table.table.schema), time)

    def sorted(self, folder: epath.PathLike) -> Generator[pa.RecordBatch, None, None]:
        """Yields columns user, time, row, item, event if it has event types, and rating if the config filters by it.

        All are ordered by user, time and row of the log, all of which has been read before the first of them.
        """
        batches = self._encoded()
        first = next(batches, None)
        if first is not None:
            yield from external_sort.sort(
                itertools.chain([first], batches),
                first.schema,
                ("user", "time", "row"),
                folder=folder,
                memory=self._limits.sort_bytes,
                rows=self._limits.rows,
            )

    def read(self) -> None:
        """Reads the log, without a result; raises DataError if it cannot be read."""
        for _ in self._encoded():
            pass
        _ = self.table

    def examples(self, rows: list[int]) -> list[str]:
        """Returns `validation.example` of the item of rows of the log, in ascending order; reads it again."""
        found, first = [], 0
        for source in _blocks(self._config, self._limits):
            here = [row for row in rows if first <= row < first + len(source)]
            found += [validation.example(source, "item_id", row - first) for row in here]
            first += len(source)
            if len(found) == len(rows):
                break
        return found

    def _encoded(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows in the order of the log, up to a block that is not in the expected form or has problems."""
        for source in _blocks(self._config, self._limits):
            self._schemas[source.table.schema] = None
            self._marks |= dict.fromkeys(source.marks)
            self._renamed |= dict.fromkeys(source.renamed)
            if self._given is not None:
                source = _completed(source, self._given.schema)
            if len(source):
                first_row, self.rows = self.rows, self.rows + len(source)
                encoded = self._encode(source, first_row)
                if encoded is not None:
                    yield encoded
        self.problems = errors.merge(self._found)

    def _encode(self, source: SourceTable, first_row: int) -> pa.RecordBatch | None:
        form, cells = self._recognize(source)
        if form is None or cells is None or not (self.is_encoded and self.has_items):
            return None
        assert self._items is not None
        problems = Problems()
        rows = validation.check_log(source, self._items.name, self._item_codes, form.time, cells, problems)
        self._found.append(problems)
        self._has_problems |= rows is None
        if rows is None or self._has_problems:
            return None
        columns: dict[str, object] = {
            "user": self.users.add(rows.users),
            "time": rows.timestamps,
            "row": np.arange(first_row, first_row + len(source)),
            "item": rows.items.astype(np.int32),
        }
        if rows.event_types is not None:
            columns["event"] = self.event_types.add(rows.event_types)
        if rows.ratings is not None and self._config.min_rating > -math.inf:
            columns["rating"] = rows.ratings
        return pa.record_batch(columns)

    def _recognize(self, source: SourceTable) -> tuple[Form | None, timestamps.Cells | None]:
        """Returns the form to read a block in, and its times; notes their extent, and whether it has another form."""
        column = validation.check_log_columns(source, Problems())
        if column is None:
            self.is_encoded = False
            return None, None
        cells = timestamps.cells(source.table[column], self._config.time_format)
        self._extents.append(cells.extent)
        schema = _log_schema(source.table.schema)
        if self.form is None:
            name = self._config.interactions
            time = validation.check_times(name, column, cells.extent, self._config, Problems())
            self.form = Form(schema, time)
        self.is_encoded &= schema == self.form.schema
        return self.form, cells


def _completed(source: SourceTable, schema: pa.Schema) -> SourceTable:
    """Returns a block with the columns and types of all files, as one table of them would have these."""
    own = source.table.select([name for name in source.table.column_names if name in reading.LOG_COLUMNS])
    table = pa.concat_tables([schema.empty_table(), own], promote_options="permissive")
    parts = tuple(dataclasses.replace(part, table=table) for part in source.parts)
    return dataclasses.replace(source, table=table, parts=parts)


def _log_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field for field in schema if field.name in reading.LOG_COLUMNS])


def _blocks(config: configs.Data, limits: Limits) -> Iterator[SourceTable]:
    """Yields the blocks of all files, some without rows; where a pattern was given, messages name the file."""
    name, form = config.interactions, reading.TableFormat.of(config)
    for file in logs.files(name):
        for source in logs.blocks(file, limits.block_bytes, form, limits.rows):
            if logs.is_pattern(name):
                yield dataclasses.replace(source, name=name, numbers=None, parts=(source,))
            else:
                yield source

"""One log of the user's own in any layout, in a file, several, or a folder of them: CSV, JSON Lines or Parquet.

Settings say how it is written: data.columns, data.separator, data.missing_values, data.time_unit, data.time_format.
Where there is no file of items, they are those of the log, each with the first text that its rows have in a text field.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec import config as configs
from genrec.data import logs, reading
from genrec.data.errors import DataError
from genrec.data.sources import parsing


def log_files(path: epath.PathLike) -> list[epath.Path]:
    """Returns the files of a log: those of a folder, of a pattern, or the file itself.

    Of a folder in which there are only partitions, such as date=2024-05-31, those of all; their names are not read.
    Raises `DataError` if a folder has none that can be read, or several formats.
    """
    folder = epath.Path(path)
    if not folder.is_dir():
        return logs.files(path)
    files = sorted(file for file in folder.iterdir() if not file.name.startswith((".", "_")))
    if files and all("=" in file.name and file.is_dir() for file in files):
        return [file for partition in files for file in log_files(partition)]
    endings = [next((end for end in reading.FORMATS if file.name.lower().endswith(end)), None) for file in files]
    kinds = sorted({ending.removesuffix(".gz") for ending in endings if ending})
    if len(kinds) != 1:
        found = f"files of {len(kinds)} formats, {', '.join(kinds)}" if kinds else "no file of a log"
        raise DataError(
            f"{folder}: has {found}. Put the files of one log, which end in one of {', '.join(reading.FORMATS)}, into "
            "a folder of their own, or give a pattern such as folder/*.parquet (data.interactions)."
        )
    return [file for file, ending in zip(files, endings, strict=True) if ending]


def read(config: configs.Data) -> reading.Tables:
    """Returns the log, the items, from their file or from the log, and the users where they have a file."""
    form, fields = reading.TableFormat.of(config), reading.text_fields(config)
    parts = []
    for file in log_files(config.interactions):
        source = reading.concatenate(list(reading.read_blocks(file, None, form)))
        kept = [name for name in source.table.column_names if name in (*reading.LOG_COLUMNS, *fields)]
        parts.append(dataclasses.replace(source, table=source.table.select(kept)))
    whole = parts[0] if len(parts) == 1 else logs.join(parts, config.interactions)
    reading.refuse_empty(whole, config.interactions)
    names = whole.table.column_names
    log = dataclasses.replace(whole, table=whole.table.select([name for name in names if name in reading.LOG_COLUMNS]))
    users = reading.read_table(config.users, form) if config.users else None
    if config.items:
        return reading.Tables(log, reading.read_table(config.items, form), users)
    found = tuple(name for name in fields if name in names)
    items = _items(whole, found) if "item_id" in names else reading.SourceTable(whole.table.slice(0, 1), whole.name)
    return reading.Tables(log, items, users, text_fields=found)


def _items(log: reading.SourceTable, fields: tuple[str, ...]) -> reading.SourceTable:
    """Returns the distinct items of a log, each with the first value of its rows in `fields` that is not blank."""
    ids = log.table["item_id"].combine_chunks().dictionary_encode()
    items = ids.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    columns: dict[str, object] = {"item_id": ids.dictionary}
    for name in fields:
        values = log.table[name].cast(pa.string())
        given = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(values), ""), False).to_numpy() & (items >= 0)
        rows = np.flatnonzero(given)
        found, first = np.unique(items[rows], return_index=True)
        place = np.full(len(ids.dictionary), -1)
        place[found] = rows[first]
        columns[name] = values.take(pa.array(place, mask=place < 0))
    return parsing.with_columns(dataclasses.replace(log, numbers=None, parts=(), marks=()), columns)

"""Generated logs of any size, in Parquet of many files, to measure how preparation and later stages scale.

Users and items follow power laws; a file is written in blocks, so that memory does not depend on its rows.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec import files, settings_check
from genrec.data.errors import DataError
from genrec.progress import progress
from genrec.settings import setting

BLOCK_ROWS = 1 << 20
FIRST_TIME = 1_577_836_800_000  # milliseconds: 2020-01-01
SPAN = 4 * 365 * 24 * 3600 * 1000  # milliseconds that the log covers


@dataclasses.dataclass(frozen=True)
class LogSize:
    """Size and shape of a generated log."""

    rows: int = setting(1_000_000, "interactions", at_least=1, at_most=10**11)
    users: int = setting(10_000, "users, of whom some may have no interaction", at_least=1, at_most=2**31 - 1)
    items: int = setting(5_000, "items of the catalogue", at_least=1, at_most=2**31 - 1)
    item_skew: float = setting(0.8, "exponent of the power law of items; 0 is uniform", at_least=0, at_most=10)
    user_skew: float = setting(0.4, "exponent of the power law of users; 0 is uniform", at_least=0, at_most=10)
    repeats: float = setting(
        0.1, "share of the interactions in which a user chooses an item of theirs again", at_least=0, at_most=1
    )
    duplicates: float = setting(
        0.0, "share of the rows that equal an earlier one (data.repeated=drop removes them)", at_least=0, at_most=1
    )
    id_characters: int = setting(12, "characters of an id", at_least=11, at_most=1000)
    files: int = setting(8, "Parquet files of the log", at_least=1, at_most=100_000)
    seed: int = setting(0, "random seed", at_least=0)


def generate(size: LogSize, folder: epath.PathLike) -> None:
    """Writes `log-NNNNN.parquet` (user_id, item_id, timestamp) and `items.parquet` (item_id, title) to `folder`.

    Raises:
      ConfigError: if a size is out of its range.
      DataError: if the folder has files already.
    """
    settings_check.check(size, "log")
    folder = epath.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is not an empty folder. Give another --output, or remove its files.")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "items.parquet", _item_blocks(size))
    borders = [size.rows * file // size.files for file in range(size.files + 1)]
    for file in progress(range(size.files), "writing files"):
        _write(folder / f"log-{file:05d}.parquet", log_blocks(size, borders[file], borders[file + 1]))


def log_blocks(size: LogSize, start: int, stop: int) -> Iterator[pa.Table]:
    """Yields the rows [start, stop) of the log in at least one block of at most `BLOCK_ROWS` rows."""
    for first in range(start, max(stop, start + 1), BLOCK_ROWS):
        yield _block(size, first, min(first + BLOCK_ROWS, stop))


def _block(size: LogSize, first: int, end: int) -> pa.Table:
    """Returns the rows [first, end) of the log. Rows that repeat another repeat one of the same block."""
    rows = end - first
    rng = np.random.default_rng([size.seed, first])
    users = _power_law(rng.random(rows), size.users, size.user_skew)
    # A stride without a common divisor spreads the popular items over the catalogue.
    items = _power_law(rng.random(rows), size.items, size.item_skew) * _stride(size.items) % size.items
    # Later blocks are later; within a block rows are in no order of time. No two rows have the same time by chance
    # where there are fewer of them than milliseconds.
    whole, rest = divmod(first * SPAN, size.rows)  # of integers without a limit
    times = FIRST_TIME + whole + (rest + rng.permutation(rows) * SPAN) // size.rows
    kinds = rng.random(rows)
    duplicate = (kinds >= 1 - size.duplicates) & (np.arange(rows) > 0)
    again = (kinds < size.repeats) & ~duplicate & (np.arange(rows) > 0)
    # For each row one before it that repeats none itself.
    fresh = np.maximum.accumulate(np.where(duplicate | again, 0, np.arange(rows)))
    source = fresh[(rng.random(rows) * np.arange(rows)).astype(np.int64)]
    users, items = (np.where(duplicate | again, column[source], column) for column in (users, items))
    times = np.where(duplicate, times[source], times)
    return pa.table(
        {
            "user_id": _ids("u", users, size.id_characters),
            "item_id": _ids("i", items, size.id_characters),
            "timestamp": times,
        }
    )


def _power_law(uniform: np.ndarray, count: int, exponent: float) -> np.ndarray:
    """Returns int64[n] in [0, count) for uniform float64[n]: r has a probability near (r + 1) ** -exponent."""
    if abs(exponent - 1) < 1e-9:
        drawn = (count + 1.0) ** uniform
    else:
        drawn = (1 + uniform * ((count + 1.0) ** (1 - exponent) - 1)) ** (1 / (1 - exponent))
    return np.clip(drawn.astype(np.int64) - 1, 0, count - 1)


def _stride(items: int) -> int:
    """Returns a number near the golden section of `items` that has no common divisor with it."""
    stride = max(1, round(items * 0.618))
    while np.gcd(stride, items) != 1:
        stride += 1
    return stride


def _ids(letter: str, numbers: np.ndarray, characters: int) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), characters - 1, "0")
    return pc.binary_join_element_wise(letter, digits, "")


def _item_blocks(size: LogSize) -> Iterator[pa.Table]:
    for first in range(0, size.items, BLOCK_ROWS):
        ids = _ids("i", np.arange(first, min(first + BLOCK_ROWS, size.items)), size.id_characters)
        yield pa.table({"item_id": ids, "title": pc.binary_join_element_wise("Item", ids, " ")})


def _write(path: epath.Path, blocks: Iterator[pa.Table]) -> None:
    """Writes a table in blocks, under a temporary name until it is whole."""
    first = next(blocks)
    with (
        files.replacing(path) as temporary,
        temporary.open("wb") as file,
        pyarrow.parquet.ParquetWriter(file, first.schema) as writer,
    ):
        writer.write_table(first)
        for block in blocks:
            writer.write_table(block)

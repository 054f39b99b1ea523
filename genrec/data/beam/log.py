"""Steps of the Beam pipeline on the log: reads and validates its blocks, groups them by user, sorts each user's."""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import config as configs
from genrec.data import filtering, logs, reading, splits, timestamps, validation
from genrec.data.beam import runner
from genrec.data.errors import EXAMPLES, Problems
from genrec.data.id_codes import IdCodes
from genrec.data.interactions import Interactions
from genrec.files import read_parquet, write_parquet


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of the log, on disk."""

    path: str  # of a pickled `reading.SourceTable`; once validated, its interactions are in `checked`
    schema: pa.Schema
    rows: int
    extents: Mapping[str, timestamps.Extent]  # by column of times
    marks: tuple[str, ...] = ()  # as in `reading.SourceTable`
    renamed: tuple[str, ...] = ()

    @property
    def checked(self) -> epath.Path:
        """Path of the validated interactions."""
        return epath.Path(f"{self.path}.parquet")


@dataclasses.dataclass(frozen=True)
class Partition:
    """All interactions of a part of the users, on disk."""

    path: str  # of `Users`
    repeats: int  # number of interactions that repeat an earlier one
    repeated: tuple[int, ...]  # rows of the log that hold the first of them
    passed: filtering.Passed


def read_file(piece: tuple[int, str], folder: str, pattern: str, block_bytes: int, config: configs.Data) -> list[Block]:
    """Reads one file of the log, writes it in blocks, and returns these.

    Args:
      piece: Number and path of the file.
      folder: Folder for the blocks.
      pattern: The pattern that the path matches; empty if the log is one file.
      block_bytes: As in `logs.blocks`.
      config: How the file is written.
    """
    number, path = piece
    blocks: list[Block] = []
    for source in logs.blocks(path, block_bytes, reading.TableFormat.of(config)):
        if pattern:
            source = dataclasses.replace(source, name=pattern, numbers=None, parts=(source,))
        blocks.append(_write_block(source, f"{folder}/block-{number:06d}-{len(blocks):06d}", config))
    return blocks


def write_blocks(source: reading.SourceTable, path: str, rows: int, config: configs.Data) -> list[Block]:
    """Writes a table of interactions in blocks of `rows` rows, to files whose paths begin with `path`."""
    blocks: list[Block] = []
    for part in source.parts or (source,):
        for start in range(0, len(part), rows):
            own = slice(start, start + rows)
            block = dataclasses.replace(
                part,
                table=part.table.take(pa.array(np.arange(len(part))[own])),  # a slice would be pickled with all rows
                numbers=None if part.numbers is None else part.numbers[own],
                first=part.first + start,
            )
            if source.parts:
                block = dataclasses.replace(source, table=block.table, numbers=None, parts=(block,))
            blocks.append(_write_block(block, f"{path}-{len(blocks):06d}", config))
    return blocks


def _write_block(source: reading.SourceTable, path: str, config: configs.Data) -> Block:
    runner.save(path, source)
    extents = {
        column: timestamps.cells(source.table[column], config.time_format).extent
        for column in reading.TIME_COLUMNS
        if column in source.table.column_names
    }
    return Block(path, source.table.schema, len(source), extents, source.marks, source.renamed)


def check_block(
    block: Block, columns: tuple[str, ...], items_name: str, item_ids: str, time: timestamps.Times
) -> Problems:
    """Validates a block, writes its interactions, and returns the problems found.

    Args:
      block: A block that `read_file` wrote.
      columns: All columns of the log, some of which the block may lack.
      items_name: Name of the items file, for messages.
      item_ids: Path of a table with the column item_id.
      time: How times are written.
    """
    problems = Problems()
    source = logs.complete(runner.load(block.path), columns)
    item_codes = IdCodes.of(read_parquet(epath.Path(item_ids))["item_id"])
    cells = timestamps.cells(source.table[time.column], time.form)
    log = validation.check_log(source, items_name, item_codes, time, cells, problems)
    if log is not None:
        values: dict[str, object] = {"user_id": source.table["user_id"], "item": log.items}
        values["timestamp"] = log.timestamps
        if log.event_types is not None:
            values["event_type"] = log.event_types.cast(pa.string())
        if log.ratings is not None:
            values["rating"] = log.ratings
        write_parquet(pa.table(values), block.checked)
    return problems


def pieces_of_block(piece: tuple[Block, int], partitions: int) -> Iterator[tuple[int, pa.Table]]:
    """Yields (partition, interactions of its users) for a validated block and the row of the log where it begins."""
    block, first_row = piece
    table = read_parquet(block.checked)
    if not len(table):
        return
    table = table.append_column("row", pa.array(first_row + np.arange(len(table))))
    users = table["user_id"].combine_chunks().dictionary_encode()
    of_user = np.array([zlib.crc32(user.encode()) % partitions for user in users.dictionary.to_pylist()])
    of_row = of_user[users.indices.to_numpy()]
    order = np.argsort(of_row, kind="stable")
    numbers, starts = np.unique(of_row[order], return_index=True)
    for partition, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        yield partition, table.take(pa.array(rows))


def gather_partition(number: int, pieces: Iterable[pa.Table], folder: str, config: configs.Data) -> Partition:
    """Finds repetitions, filters by event type and rating, sorts by user and time, and writes the partition."""
    table = pa.concat_tables(pieces).sort_by("row").combine_chunks()
    users = table["user_id"].combine_chunks().dictionary_encode()
    rows = table["row"].to_numpy()
    log = Interactions(
        user_ids=users.dictionary.to_numpy(zero_copy_only=False),
        users=users.indices.to_numpy().astype(np.int64),
        items=table["item"].to_numpy(),
        timestamps=table["timestamp"].to_numpy(),
        event_types=table["event_type"].to_numpy() if "event_type" in table.column_names else None,
        ratings=table["rating"].to_numpy() if "rating" in table.column_names else None,
    )
    first_rows = rows[np.unique(log.users, return_index=True)[1]]
    repeats = validation.repeats(log)
    repeated = rows[repeats]
    if config.repeated == "drop":
        log = log.select(~repeats)
    log, passed = filtering.by_event(log, config)
    path = f"{folder}/users-{number:06d}.parquet"
    Users(log.user_ids, first_rows, splits.by_user(log)).write(path)
    return Partition(path, len(repeated), tuple(repeated[:EXAMPLES].tolist()), passed)


@dataclasses.dataclass(frozen=True)
class Users:
    """Users and their sequences."""

    user_ids: np.ndarray  # object[users], strings
    first_rows: np.ndarray  # int64[users], the row of the log in which a user appears first, which orders all users
    sequences: splits.UserSequences

    def write(self, path: str) -> None:
        """Writes the users to a Parquet file."""
        offsets = pa.array(self.sequences.offsets)
        columns = {
            "user_id": pa.array(self.user_ids, pa.string()),
            "first_row": self.first_rows,
            "items": pa.LargeListArray.from_arrays(offsets, pa.array(self.sequences.items)),
            "timestamps": pa.LargeListArray.from_arrays(offsets, pa.array(self.sequences.timestamps)),
        }
        write_parquet(pa.table(columns), epath.Path(path))

    @classmethod
    def read(cls, path: str) -> "Users":
        """Returns the users that `write` wrote."""
        table = read_parquet(epath.Path(path)).combine_chunks()
        items, timestamps = (table[name].combine_chunks() for name in ("items", "timestamps"))
        lengths = np.diff(items.offsets.to_numpy())
        return cls(
            table["user_id"].to_numpy(),
            table["first_row"].to_numpy(),
            splits.UserSequences(
                np.concatenate([[0], np.cumsum(lengths)]), items.flatten().to_numpy(), timestamps.flatten().to_numpy()
            ),
        )

    def select(self, kept: np.ndarray) -> "Users":
        """Returns the interactions where `kept` (bool[n]) is True, and the users who have any."""
        sequences = self.sequences.select(kept)
        some = sequences.lengths > 0
        offsets = np.concatenate([[0], np.cumsum(sequences.lengths[some])])
        sequences = dataclasses.replace(sequences, offsets=offsets)
        return Users(self.user_ids[some], self.first_rows[some], sequences)

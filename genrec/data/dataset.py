"""The prepared dataset on disk: user sequences in three splits (TFDS, ArrayRecord) and the catalogue (Parquet).

    dataset/
      sequences/               a TFDS dataset: user_id, items int32[n] (rows of the catalogue), timestamps int64[n]
      lengths/<split>.npy      int32[sequences], items of each sequence: batches are planned without a pass
      user_index/<split>.npy   uint64[2, sequences], finds sequences by user id (genrec.data.user_index)
      catalogue.parquet        one row per item; `items` are row numbers
      users.parquet            one row per user, where the source has users
      statistics.json
      artifact.json

All paths within the folder are relative, so that it can be moved and copied.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec import artifacts, files
from genrec.data import cells, splits, statistics, user_index
from genrec.data.errors import DataError
from genrec.errors import cut, shown
from genrec.progress import progress

if TYPE_CHECKING:
    from genrec.data.sequence_files import Examples

KIND = "dataset"
BLOCK_USERS, BLOCK_ITEMS = 1 << 13, 1 << 20  # that are read together, at most
FORMAT = 2  # version of the dataset; raise it when the same source no longer gives the same dataset


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A user's sequence in a split. In validation and test the last item is the target, all before it the history."""

    user_id: str
    items: np.ndarray  # int32[n], rows of the catalogue, oldest first
    timestamps: np.ndarray  # int64[n], microseconds since 1970 (or the order, where the source had no times)


class Sequences:
    """The sequences of one split, by random access."""

    def __init__(self, path: epath.PathLike, name: str):
        self._path = epath.Path(path)
        self._name = name
        self.lengths: np.ndarray = files.load_array(self._path / "lengths" / f"{name}.npy")  # int32[sequences]

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, indices: Iterable[int]) -> list[Sequence]:
        """Returns the sequences at `indices`, in that order; raises DamagedError if they cannot be read."""
        places = np.array([int(index) for index in indices], np.int64)
        if not len(places):
            return []
        # TFDS and ArrayRecord raise any type for wrong content.
        with files.reading(self._path / "sequences", "sequences of users", (Exception,)):
            return [Sequence(*parsed) for parsed in sequence_files().parse(self._examples.read(places))]

    def blocks(self) -> Iterator[splits.SequenceBlock]:
        """Yields the ids and items of all users, some at a time, in a fifth of the time of `read`.

        Raises DamagedError if they cannot be read.
        """
        starts, first = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]), 0
        with files.reading(self._path / "sequences", "sequences of users", (Exception,)):
            for reader in sequence_files().readers(self._path / "sequences", self._name):
                start, last = first, first + reader.num_records()
                while start < last:
                    within = int(np.searchsorted(starts, starts[start] + BLOCK_ITEMS, side="right")) - 1
                    stop = min(max(within, start + 1), start + BLOCK_USERS, last)
                    yield sequence_files().parse_items(reader.read(start - first, stop - first))
                    start = stop
                first = last
            if first != len(self):
                raise ValueError(f"{first:,} sequences in place of {len(self):,}")

    def of_users(self, user_ids: Seq[str]) -> dict[str, Sequence]:
        """Returns the sequences of these users by user id, reading no others; users who have none are left out."""
        wanted = set(user_ids)
        found = self.read(user_index.positions(self._user_index, wanted))
        return {sequence.user_id: sequence for sequence in found if sequence.user_id in wanted}

    @functools.cached_property
    def _examples(self) -> "Examples":
        return sequence_files().Examples(self._path / "sequences", self._name)

    @functools.cached_property
    def _user_index(self) -> np.ndarray:
        return files.map_array(user_index.path_of(self._path, self._name))


def sequence_files() -> ModuleType:
    """Returns `genrec.data.sequence_files`, imported on first use: a catalogue alone needs no TFDS."""
    from genrec.data import sequence_files

    return sequence_files


class Catalogue:
    """The items that can be recommended; item i of every other file is row i here."""

    def __init__(self, table: pa.Table, text_fields: tuple[str, ...], source_items: int | None = None):
        self.table = table  # item_id, source_row (row in the source's items file), text columns, attributes, vector
        self.source_items = source_items  # rows of that file; None where they were not recorded
        self.text_fields = text_fields

    def __len__(self) -> int:
        return self.table.num_rows

    def take(self, rows: np.ndarray) -> "Catalogue":
        """Returns the catalogue of these rows, renumbered from 0."""
        return Catalogue(self.table.take(pa.array(rows)), self.text_fields, self.source_items)

    def blocks(self, items: int) -> Iterator["Catalogue"]:
        """Yields the catalogue in parts of `items` rows, each renumbered from 0."""
        for start in range(0, len(self), items):
            yield Catalogue(self.table.slice(start, items), self.text_fields, self.source_items)

    @functools.cached_property
    def item_ids(self) -> list[str]:
        """The item id of each row."""
        return self.table["item_id"].to_pylist()

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """The row of each item id."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @functools.cached_property
    def titles(self) -> list[str]:
        """The display name of each item: its title, else its first text field that is not blank, else its id."""
        fields = [field for field in ("title", *self.text_fields) if field in self.table.column_names]
        names = self.table["item_id"]
        for field in reversed(fields):
            texts = self.table[field].cast(pa.string())
            blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)
            names = pc.if_else(blank, names, texts)
        return names.to_pylist()

    def column(self, name: str) -> pa.Array:
        """Returns a column of the items file; raises DataError if it has none of that name."""
        if name not in self.table.column_names:
            raise DataError(
                f"the catalogue has no column {shown(name)} (it has {cut(', '.join(self.table.column_names))})."
            )
        return self.table[name].combine_chunks()

    def labels(self, name: str) -> list[str | None]:
        """Returns `cells.labels` of a column, None where a cell is empty."""
        return cells.labels(self.column(name)).to_pylist()

    def groups(self, name: str) -> np.ndarray:
        """Returns int32[items], a number for each value of a column; each item whose cell is empty is its own group.

        A list is the set of its values: two items with the same values in any order are in one group.
        """
        values = cells.labels(self.column(name)).dictionary_encode().indices
        own = pa.array(np.arange(len(values), 2 * len(values), dtype=np.int32))
        return pc.if_else(values.is_valid(), values, own).to_numpy()

    @functools.cached_property
    def texts(self) -> list[str]:
        """The text fields of each item, joined with ". "; empty where the item is described by a vector alone."""
        if not self.text_fields:
            return [""] * len(self)
        columns = [pc.utf8_trim_whitespace(self.table[field].fill_null("")) for field in self.text_fields]
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return [". ".join(text.rstrip(".") for text in row if text) for row in rows]


class Dataset:
    """A prepared dataset, opened for reading."""

    def __init__(self, path: epath.PathLike):
        """Opens the dataset in the folder `path`; raises ArtifactError if there is none, or if it is damaged."""
        self.path = epath.Path(path)
        artifact = artifacts.read(self.path, KIND)
        self.fingerprint = artifact.fingerprint
        self.statistics: dict[str, Any] = files.read_json(self.path / "statistics.json")
        if self.statistics.get("format") != FORMAT:
            raise artifacts.ArtifactError(
                f"{self.path} was prepared by another version of genrec. Prepare it again, in a new --workdir."
            )

    @property
    def has_times(self) -> bool:
        """True if `timestamps` of sequences are times, False if they are an order, or seconds counted by hand."""
        last = self.statistics.get("last_interaction", "")
        return bool(last) and not statistics.is_counted(last)

    def split(self, name: str) -> Sequences:
        """Returns the sequences of the split "train", "validation" or "test"."""
        return Sequences(self.path, name)

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The catalogue, read on first use."""
        file, figures = self.path / "catalogue.parquet", self.statistics
        with files.reading(file, "the catalogue"):
            return Catalogue(files.read_parquet(file), tuple(figures["text_fields"]), figures.get("source_items"))

    @functools.cached_property
    def users(self) -> pa.Table | None:
        """Attributes of users, with the column `user_id`, where the source has them; users may lack a row."""
        path = self.path / "users.parquet"
        return files.read_parquet(path) if path.exists() else None


@dataclasses.dataclass(frozen=True)
class Contents:
    """A dataset to be written."""

    parts: Iterable[tuple[Seq[str] | np.ndarray, splits.UserSequences]]  # ids and sequences of all users, in order
    ends: Mapping[str, np.ndarray]  # for each split int[users], as `splits.leave_one_out` returns it
    catalogue: pa.Table  # one row per item
    users: pa.Table | None  # their attributes
    statistics: Mapping[str, object]  # of `statistics.summarize`


def write(path: epath.Path, contents: Contents) -> None:
    """Writes a dataset into `path`, an existing folder (as `artifacts.writing` yields it).

    Raises DataError as `splits.check_prefixes`.
    """
    ends, hashes = contents.ends, []

    def prefixes() -> Iterator[tuple[str, np.ndarray, np.ndarray, list[int]]]:
        first = 0
        for user_ids, sequences in contents.parts:
            own = {name: lengths[first : first + len(user_ids)] for name, lengths in ends.items()}
            first += len(user_ids)
            splits.check_prefixes(user_ids, own)
            hashes.append(user_index.hashes_of(user_ids))
            counts = np.stack([own[name] for name in splits.NAMES], axis=1).tolist()
            starts = sequences.offsets[:-1].tolist()
            for user_id, start, lengths in zip(user_ids, starts, counts, strict=True):
                whole = slice(start, start + max(lengths))
                yield user_id, sequences.items[whole], sequences.timestamps[whole], lengths

    sequence_files().write(path, progress(prefixes(), "writing sequences", len(ends["train"])))
    of_users = np.concatenate(hashes)
    some = {name: lengths > 0 for name, lengths in ends.items()}
    write_tables(
        path,
        {name: lengths[some[name]] for name, lengths in ends.items()},
        {name: of_users[some[name]] for name in ends},
        contents.catalogue,
        contents.users,
        contents.statistics,
    )


def write_tables(
    path: epath.Path,
    lengths: Mapping[str, np.ndarray],
    hashes: Mapping[str, np.ndarray],
    catalogue: pa.Table,
    users: pa.Table | None,
    statistics: Mapping[str, object],
) -> None:
    """Writes all but the sequences. For each split, `lengths`: int[sequences], `hashes`: `user_index.hashes_of`."""
    (path / "lengths").mkdir()
    (path / "user_index").mkdir()
    for name in lengths:
        files.save_array(path / "lengths" / f"{name}.npy", np.asarray(lengths[name], np.int32))
        files.save_array(user_index.path_of(path, name), user_index.of_hashes(hashes[name]))
    files.write_parquet(catalogue, path / "catalogue.parquet")
    if users is not None:
        files.write_parquet(users, path / "users.parquet")
    files.write_json(path / "statistics.json", {**statistics, "format": FORMAT})

"""The prepared dataset on disk: user sequences in three splits (TFDS, ArrayRecord) and the catalogue (Parquet).

    dataset/
      sequences/               a TFDS dataset: user_id, items int32[n] (rows of the catalogue), timestamps int64[n]
      lengths/<split>.npy      int32[records], items of each record: batches are planned without a pass
      catalogue.parquet        one row per item, in the order that `items` count
      users.parquet            where the source has users
      statistics.json
      artifact.json

The folder moves and copies as a whole.
"""

import contextlib
import dataclasses
import functools
import io
import json
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from genrec import artifacts
from genrec.data import splits as split_rules
from genrec.data.errors import DataError
from genrec.files import read_parquet, write_parquet
from genrec.progress import progress

KIND = "dataset"


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One record. In validation and test records the last item is the target, all before it the history."""

    user_id: str
    items: np.ndarray  # int32[n], rows of the catalogue, oldest first
    timestamps: np.ndarray  # int64[n], seconds since 1970 (or the order, where the source had no times)


class Sequences:
    """The records of one split, by random access."""

    def __init__(self, path: epath.PathLike, name: str):
        self._path = epath.Path(path)
        self._name = name
        with (self._path / "lengths" / f"{name}.npy").open("rb") as file:
            self.lengths: np.ndarray = np.load(io.BytesIO(file.read()))  # int32[records]

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, indices: list[int] | np.ndarray) -> list[Sequence]:
        """The records at `indices`, in that order."""
        indices = [int(index) for index in indices]
        if not indices:
            return []
        return [_parse(record) for record in self._records.__getitems__(indices)]

    @functools.cached_property
    def _records(self) -> Any:
        return tfds.builder_from_directory(str(self._path / "sequences")).as_data_source(
            split=self._name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )


def _parse(record: bytes) -> Sequence:
    """Reads a serialized record. TFDS can, too, for any kind of feature, but takes three times as long."""
    features = tf_example_pb2.Example.FromString(record).features.feature
    return Sequence(
        features["user_id"].bytes_list.value[0].decode(),
        np.array(features["items"].int64_list.value, np.int32),
        np.array(features["timestamps"].int64_list.value, np.int64),
    )


class Catalogue:
    """The items that can be recommended; item i of every other file is row i here."""

    def __init__(self, table: pa.Table, text_fields: tuple[str, ...]):
        self.table = table  # item_id, source_row (row in the source's items file), text columns, attributes, vector
        self._text_fields = text_fields

    def __len__(self) -> int:
        return self.table.num_rows

    def take(self, rows: np.ndarray) -> "Catalogue":
        """A part of it, which counts from 0 again."""
        return Catalogue(self.table.take(pa.array(rows)), self._text_fields)

    @functools.cached_property
    def item_ids(self) -> list[str]:
        return self.table["item_id"].to_pylist()

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Row of each item id."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @functools.cached_property
    def titles(self) -> list[str]:
        """What to call an item: its title, else its first text field, else its id."""
        fields = [field for field in ("title", *self._text_fields) if field in self.table.column_names]
        if not fields:
            return self.item_ids
        names = self.table[fields[0]].cast(pa.string()).to_pylist()
        return [name if name and name.strip() else item_id for name, item_id in zip(names, self.item_ids, strict=True)]

    def column(self, name: str) -> pa.Array:
        """A column of the items file; raises DataError where it has none of that name."""
        if name not in self.table.column_names:
            raise DataError(f"the catalogue has no column {name!r} (it has {', '.join(self.table.column_names)}).")
        return self.table[name].combine_chunks()

    def groups(self, name: str) -> np.ndarray:
        """int32[items]: a number for each value of a column; items whose cell is empty are groups of their own."""
        values = self.column(name).cast(pa.string()).dictionary_encode().indices
        own = pa.array(np.arange(len(values), 2 * len(values), dtype=np.int32))
        return pc.if_else(values.is_valid(), values, own).to_numpy()

    @functools.cached_property
    def texts(self) -> list[str]:
        """Everything that describes an item in words: its text fields, joined. Empty where only a vector does."""
        if not self._text_fields:
            return [""] * len(self)
        columns = [pc.utf8_trim_whitespace(self.table[field].fill_null("")) for field in self._text_fields]
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return [". ".join(text.rstrip(".") for text in row if text) for row in rows]


class Dataset:
    """A prepared dataset, opened for reading."""

    def __init__(self, path: epath.PathLike):
        """Raises `artifacts.ArtifactError` when `path` holds no dataset."""
        self.path = epath.Path(path)
        artifact = artifacts.read(self.path, KIND)
        self.fingerprint = artifact.fingerprint
        self.statistics: dict = json.loads((self.path / "statistics.json").read_text())

    def split(self, name: str) -> Sequences:
        """`name`: "train", "validation" or "test"."""
        return Sequences(self.path, name)

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(read_parquet(self.path / "catalogue.parquet"), tuple(self.statistics["text_fields"]))

    @functools.cached_property
    def users(self) -> pa.Table | None:
        """Users' attributes by `user_id`, where the source has them; not every user need have a row."""
        path = self.path / "users.parquet"
        return read_parquet(path) if path.exists() else None


@dataclasses.dataclass(frozen=True)
class Records:
    """A split to be written."""

    lengths: np.ndarray  # int[records]
    read: Callable[[], Iterator[Sequence]]


def records(user_ids: Seq[str] | np.ndarray, sequences: split_rules.UserSequences, lengths: np.ndarray) -> Records:
    """A split's records: the first `lengths[u]` (int[users]) items of each user who has any."""
    users = np.flatnonzero(lengths)

    def read() -> Iterator[Sequence]:
        for user in users:
            start = sequences.offsets[user]
            part = slice(start, start + lengths[user])
            yield Sequence(user_ids[user], sequences.items[part], sequences.timestamps[part])

    return Records(lengths[users], read)


def check_no_leak(splits: Mapping[str, Records]) -> None:
    """`splits.check_no_leak` of records that are about to be written."""
    split_rules.check_no_leak(*(((r.user_id, r.items) for r in splits[name].read()) for name in split_rules.NAMES))


def write(
    path: epath.Path,
    splits: Mapping[str, Records],
    catalogue: pa.Table,
    users: pa.Table | None,
    statistics: Mapping[str, object],
) -> None:
    """Fills `path` (an existing folder, as `artifacts.writing` gives it)."""
    write_sequences(path, {name: _examples(name, split) for name, split in splits.items()})
    write_tables(path, {name: split.lengths for name, split in splits.items()}, catalogue, users, statistics)


def write_sequences(path: epath.Path, splits: Mapping[str, Any], **downloading: Any) -> None:
    """Writes `path/sequences`.

    Args:
      path: An existing folder.
      splits: For each (key, `example`) in the order of the keys, which are ints from 0: as an iterator, or as an Apache
        Beam transform that gives them in any order.
      downloading: For `tfds.download.DownloadConfig`.
    """
    tfds.disable_progress_bar()  # ours also suits a log
    scratch = path / "tfds"
    builder = GenrecSequences(splits=splits, data_dir=str(scratch), file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloads, which there are none of
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**downloading))
    epath.Path(builder.data_dir).rename(path / "sequences")
    scratch.rmtree()


def write_tables(
    path: epath.Path,
    lengths: Mapping[str, np.ndarray],
    catalogue: pa.Table,
    users: pa.Table | None,
    statistics: Mapping[str, object],
) -> None:
    """Writes all but the sequences. `lengths`: int[records] of each split."""
    (path / "lengths").mkdir()
    for name, of_records in lengths.items():
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(of_records, np.int32))
        (path / "lengths" / f"{name}.npy").write_bytes(buffer.getvalue())
    write_parquet(catalogue, path / "catalogue.parquet")
    if users is not None:
        write_parquet(users, path / "users.parquet")
    (path / "statistics.json").write_text(json.dumps(statistics, indent=2))


def example(record: Sequence) -> dict:
    """A record as TFDS encodes it."""
    return {
        "user_id": record.user_id,
        "items": np.asarray(record.items, np.int32),
        "timestamps": np.asarray(record.timestamps, np.int64),
    }


def _examples(name: str, split: Records) -> Iterator[tuple[int, dict]]:
    for index, record in enumerate(progress(split.read(), f"writing {name}", len(split.lengths))):
        yield index, example(record)


class GenrecSequences(tfds.core.GeneratorBasedBuilder):
    """Writes splits as a TFDS dataset, each record in its turn: `lengths` counts on that order."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, splits: Mapping[str, Any], **kwargs):
        self._splits = splits
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "user_id": tfds.features.Text(),
            "items": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "timestamps": tfds.features.Tensor(shape=(None,), dtype=np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="User sequences prepared by genrec.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        return {name: self._generate_examples(name) for name in self._splits}

    def _generate_examples(self, name: str) -> Any:
        return self._splits[name]

"""Sequences of users as a TFDS dataset of ArrayRecord files; `genrec.data.dataset` opens and describes them."""

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from genrec import artifacts, files
from genrec.data.splits import NAMES, SequenceBlock
from genrec.errors import shown

DESCRIPTION = "User sequences prepared by genrec."
FILE = "genrec_sequences-{}.array_record-00000-of-00001"  # of a split
# Each sequence can be read alone. Compressed files are a quarter smaller, and take five times as long to write.
OPTIONS = "group_size:1,uncompressed"
READING = "readahead_buffer_size:0"  # readahead is for reading from the beginning to the end
FIELDS = 3
LENGTH_DELIMITED = 2  # wire type of fields with a size, of Protocol Buffers
CONTINUED = 128  # bit of a byte that is not the last of a number
FEATURES = (tfds.features.FeaturesDict, tfds.features.Text, tfds.features.Tensor)  # that sequences are made of

# Of a user: id, items int[n], timestamps int[n], and for each of `splits.NAMES` how many of the first it gets: 0
# where it has no sequence, else no fewer than the splits before it.
UserPrefixes = tuple[str, np.ndarray, np.ndarray, Seq[int]]


class Examples:
    """The serialized sequences of a split, by random access.

    ArrayRecord (0.8) reads a list of records in a time, and with memory, that grow with the records of the file, not
    with those that are read; a range takes neither. So places are read as ranges.
    """

    def __init__(self, folder: epath.Path, split: str):
        self._readers = [ArrayRecordReader(path, READING) for path in _paths(folder, split)]
        self._ends = np.cumsum([reader.num_records() for reader in self._readers])

    def read(self, places: np.ndarray) -> list[bytes]:
        """Returns the sequences at `places`, int64[n], in that order."""
        file = np.searchsorted(self._ends, places, side="right")
        begins = np.ones(len(places), bool)  # a range
        begins[1:] = (np.diff(places) != 1) | (np.diff(file) != 0)
        first = np.flatnonzero(begins)
        within = (places - np.append(0, self._ends)[file])[first]
        found: list[bytes] = []
        for number, start, count in zip(
            file[first].tolist(), within.tolist(), np.diff(np.append(first, len(places))).tolist(), strict=True
        ):
            found += self._readers[number].read(start, start + count)
        return found


def _paths(folder: epath.Path, split: str) -> list[str]:
    """Returns the files of a split, in order, whose features have been checked."""
    _check_features(folder)
    return list(map(str, tfds.builder_from_directory(str(folder)).info.splits[split].filepaths))


def _check_features(folder: epath.Path) -> None:
    """Raises ArtifactError if features.json names a class that genrec does not write: TFDS imports what is named."""
    known = {f"{feature.__module__}.{feature.__qualname__}" for feature in FEATURES}

    def names(value: Any) -> Iterator[str]:  # JSON; modules have a dot, and no other value has one
        if isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                yield from names(part)
        elif isinstance(value, str) and "." in value:
            yield value

    path = folder / "features.json"
    with files.reading(path, "the features of sequences"):
        foreign = sorted(set(names(files.read_json(path))) - known)
    if foreign:
        raise artifacts.ArtifactError(
            f"{path} names {shown(foreign[0])}, which genrec does not write, and importing it would run its code. "
            f"Delete {folder.parent} and prepare the dataset again."
        )


def parse(examples: Seq[bytes]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields user id, items and timestamps of serialized `tf.train.Example`s, in a third of the time of TFDS."""
    for example in examples:
        features = tf_example_pb2.Example.FromString(example).features.feature
        yield (
            features["user_id"].bytes_list.value[0].decode(),
            np.array(features["items"].int64_list.value, np.int32),
            np.array(features["timestamps"].int64_list.value, np.int64),
        )


def readers(folder: epath.Path, split: str) -> Iterator[ArrayRecordReader]:
    """Yields a reader of serialized sequences for each file of a split, in order."""
    for path in _paths(folder, split):
        with contextlib.closing(ArrayRecordReader(path, READING)) as reader:
            yield reader


def parse_items(examples: Seq[bytes]) -> SequenceBlock:
    """Returns ids and items of serialized `tf.train.Example`s, in a fifth of the time of `parse`.

    All messages are walked together. Their fields are those of tensorflow/core/example/example.proto and feature.proto
    in the encoding of Protocol Buffers: a key, a size, and so many bytes. Raises ValueError for other messages.
    """
    sizes = np.fromiter(map(len, examples), np.int64, len(examples))
    # The byte at the end is one that is looked at, where the last message ends with an empty text.
    walk = _Walk(np.frombuffer(b"".join([*examples, b"\0"]), np.uint8), np.cumsum(sizes) - sizes)
    names = {"items": 0, "user_id": 1}
    start, size = np.zeros((2, len(names), len(examples)), np.int64)
    walk.enter(1)
    for _ in range(FIELDS):  # entries of a map, in any order
        end = walk.enter(1) + walk.at
        name_size = walk.enter(1)
        walk.at += name_size
        walk.enter(2)
        walk.enter(1, 3)  # bytes or integers
        value_size = walk.enter(1)
        for name, row in names.items():  # names differ in their lengths
            own = name_size == len(name)
            start[row, own], size[row, own] = walk.at[own], value_size[own]
        walk.at = end
    ids = pa.py_buffer(np.concatenate([[0], np.cumsum(size[1])]).astype(np.int32))
    user_ids = pa.StringArray.from_buffers(len(examples), ids, pa.py_buffer(walk.bytes_of(start[1], size[1])))
    encoded = walk.bytes_of(start[0], size[0])
    last = encoded < CONTINUED  # of a number
    first = np.flatnonzero(np.append(True, last[:-1]))
    place = np.arange(len(encoded)) - np.repeat(first, np.diff(np.append(first, len(encoded))))
    items = np.add.reduceat((encoded & (CONTINUED - 1)).astype(np.int64) << 7 * place, first)
    ends = np.concatenate([[0], np.cumsum(last)])[np.cumsum(size[0])]
    return SequenceBlock(user_ids, np.concatenate([[0], ends]), items.astype(np.int32))


class _Walk:
    """A place in each of some messages."""

    def __init__(self, data: np.ndarray, at: np.ndarray):
        """`data` uint8[n] are the messages, which start `at` int64[messages]."""
        self._data, self.at = data, at

    def enter(self, *numbers: int) -> np.ndarray:
        """Goes on to the content of a field, and returns its sizes int64[messages].

        Raises ValueError for fields that have none of these `numbers`.
        """
        if not np.isin(self._data[self.at], [number << 3 | LENGTH_DELIMITED for number in numbers]).all():
            raise ValueError("a message that genrec does not write")
        self.at = self.at + 1
        size, shift, more = np.zeros(len(self.at), np.int64), 0, np.ones(len(self.at), bool)
        while more.any():
            byte = self._data[self.at]
            size |= np.where(more, (byte & (CONTINUED - 1)).astype(np.int64) << shift, 0)
            self.at, shift, more = self.at + more, shift + 7, more & (byte >= CONTINUED)
        return size

    def bytes_of(self, start: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Returns uint8[n], the bytes from `start` on of each message, one after the other."""
        return self._data[np.repeat(start - (np.cumsum(size) - size), size) + np.arange(size.sum())]


@dataclasses.dataclass
class _Writer:
    """The file of a split, in the format of TFDS."""

    file: ArrayRecordWriter
    records: int = 0
    size: int = 0  # bytes

    def write(self, record: bytes) -> None:
        self.file.write(record)
        self.records += 1
        self.size += len(record)


def write(path: epath.Path, users: Iterable[UserPrefixes]) -> None:
    """Writes `path/sequences`; `path` is an existing folder.

    Examples are encoded here, which takes an eighth of the time that TFDS takes for them.
    """
    folder = path / "sequences"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        writers = {}
        for name in NAMES:
            file = ArrayRecordWriter(str(folder / FILE.format(name)), OPTIONS)
            writers[name] = _Writer(stack.enter_context(contextlib.closing(file)))
        for user_id, items, timestamps, ends in users:
            example = tf_example_pb2.Example()
            features = example.features.feature
            features["user_id"].bytes_list.value.append(user_id.encode())
            written = 0
            for writer, end in zip(writers.values(), ends, strict=True):
                if end:  # the example of a split continues that of the split before it
                    features["items"].int64_list.value.extend(items[written:end].tolist())
                    features["timestamps"].int64_list.value.extend(timestamps[written:end].tolist())
                    writer.write(example.SerializeToString(deterministic=True))
                    written = end
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(_features()),
        split_infos=[tfds.core.SplitInfo(name, [writer.records], writer.size) for name, writer in writers.items()],
        check_data=False,
        description=DESCRIPTION,
        disable_shuffling=True,
    )


def write_on_beam(path: epath.Path, splits: Mapping[str, Any], **downloading: Any) -> None:
    """Writes `path/sequences` on Apache Beam.

    Args:
      path: An existing folder.
      splits: For each split a Beam transform that yields pairs (key, `example`) in any order, keys counting from 0.
      downloading: Arguments of `tfds.download.DownloadConfig`.
    """
    tfds.disable_progress_bar()  # ours also suits a log
    scratch = path / "tfds"
    builder = GenrecSequences(splits=splits, data_dir=str(scratch), file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints about downloads, of which there are none
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**downloading))
    epath.Path(builder.data_dir).rename(path / "sequences")
    scratch.rmtree()


def example(user_id: str, items: np.ndarray, timestamps: np.ndarray) -> dict[str, Any]:
    """Returns a sequence in the form that TFDS encodes."""
    return {"user_id": user_id, "items": items.astype(np.int32), "timestamps": timestamps.astype(np.int64)}


def _features() -> dict[str, Any]:
    return {
        "user_id": tfds.features.Text(),
        "items": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "timestamps": tfds.features.Tensor(shape=(None,), dtype=np.int64),
    }


class GenrecSequences(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of splits on Apache Beam; examples keep their order, on which `lengths` and the user index rely."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, splits: Mapping[str, Any], **kwargs: Any):
        self._splits = splits
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            features=tfds.features.FeaturesDict(_features()),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(name) for name in self._splits}

    def _generate_examples(self, name: str) -> Any:
        return self._splits[name]

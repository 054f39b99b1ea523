"""Sequences of users as a TFDS dataset of ArrayRecord files; `genrec.data.dataset` opens and describes them."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from genrec import artifacts, files
from genrec.errors import shown

FEATURES = (tfds.features.FeaturesDict, tfds.features.Text, tfds.features.Tensor)  # that sequences are made of


def source(folder: epath.Path, split: str) -> Any:
    """Returns the data source of TFDS, which has no types, that reads the serialized sequences of a split."""
    _check_features(folder)
    return tfds.builder_from_directory(str(folder)).as_data_source(
        split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )


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


def write(path: epath.Path, splits: Mapping[str, Any], **downloading: Any) -> None:
    """Writes `path/sequences`.

    Args:
      path: An existing folder.
      splits: For each split its pairs (key, `dataset.example`), keys counting from 0: an iterator in the order of the
        keys, or an Apache Beam transform that yields them in any order.
      downloading: Arguments of `tfds.download.DownloadConfig`.
    """
    tfds.disable_progress_bar()  # ours also suits a log
    scratch = path / "tfds"
    builder = GenrecSequences(splits=splits, data_dir=str(scratch), file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints about downloads, of which there are none
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**downloading))
    epath.Path(builder.data_dir).rename(path / "sequences")
    scratch.rmtree()


class GenrecSequences(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the splits; examples keep their order, on which `lengths` and the user index rely."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, splits: Mapping[str, Any], **kwargs: Any):
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

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(name) for name in self._splits}

    def _generate_examples(self, name: str) -> Any:
        return self._splits[name]

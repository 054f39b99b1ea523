"""A dataset is read as it was written, by random access."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from google.protobuf.internal import encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2
from written_datasets import contents_of

from genrec import artifacts
from genrec.data import dataset, sequence_files

TEXT = ("title", "description")


def write(path, parts, **columns):
    table = pa.table({"item_id": ["007", "x"], "source_row": [0, 1]} | columns)
    with artifacts.writing(path, dataset.KIND, "recipe", config={}) as draft:
        fields = [field for field in TEXT if field in columns]
        dataset.write(draft.path, contents_of(parts, table, {"text_fields": fields}))
    return dataset.Dataset(path)


def random_sequences(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        dataset.Sequence(f"ü{i:03d}", rng.integers(0, 100, k), rng.integers(0, 2**40, k))
        for i, k in enumerate(rng.integers(2, 20, n))
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    splits = {"train": random_sequences(200), "validation": random_sequences(20, 1), "test": random_sequences(30, 2)}
    return splits, write(
        tmp_path_factory.mktemp("data") / "dataset", splits, title=["One", ""], description=["a.", "b"]
    )


def test_sequences_are_read_in_order(written):
    splits, data = written
    for name, sequences in splits.items():
        split = data.split(name)
        assert len(split) == len(sequences)
        assert split.lengths.dtype == np.int32
        assert split.lengths.tolist() == [len(sequence.items) for sequence in sequences]
        for found, expected in zip(split.read(range(len(split))), sequences, strict=True):
            assert found.user_id == expected.user_id
            assert found.items.dtype == np.int32 and found.timestamps.dtype == np.int64
            np.testing.assert_array_equal(found.items, expected.items)
            np.testing.assert_array_equal(found.timestamps, expected.timestamps)


def test_sequences_are_read_by_random_access(written):
    splits, data = written
    indices = np.array([17, 3, 17, 199])
    found = [sequence.user_id for sequence in data.split("train").read(indices)]
    assert found == [splits["train"][i].user_id for i in indices]
    assert data.split("train").read([]) == []


@given(st.lists(st.integers(0, 99), max_size=30))
@settings(deadline=None, max_examples=50)
def test_places_in_several_files_are_read_in_any_order(three_files, places):
    """As Beam writes a split, with one file that is empty."""
    assert three_files.read(np.array(places, np.int64)) == [b"%d" % place for place in places]


def test_places_beyond_the_end_are_refused(three_files):
    for place in (100, -1):
        with pytest.raises((IndexError, ValueError)):
            three_files.read(np.array([5, place]))


@pytest.fixture(scope="module")
def three_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    for number, (first, last) in enumerate([(0, 40), (40, 40), (40, 100)]):
        file = ArrayRecordWriter(str(folder / f"one-train.array_record-{number:05d}-of-00003"), sequence_files.OPTIONS)
        for place in range(first, last):
            file.write(b"%d" % place)
        file.close()
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(sequence_files._features()),
        split_infos=[tfds.core.SplitInfo("train", [40, 0, 60], 1)],
        check_data=False,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name="one", split="train", filetype_suffix="array_record"
        ),
    )
    return sequence_files.Examples(epath.Path(folder), "train")


@pytest.mark.parametrize(("users", "items"), [(7, 10_000), (10_000, 50)])
def test_blocks_have_what_a_scan_reads(written, monkeypatch, users, items):
    monkeypatch.setattr(dataset, "BLOCK_USERS", users)
    monkeypatch.setattr(dataset, "BLOCK_ITEMS", items)
    for name, sequences in written[0].items():
        found = list(written[1].split(name).blocks())
        assert [user for block in found for user in block.user_ids.to_pylist()] == [one.user_id for one in sequences]
        assert all(len(block.user_ids) == 1 or len(block.items) <= items for block in found)
        own = [part.tolist() for block in found for part in np.split(block.items, block.offsets[1:-1])]
        assert own == [one.items.tolist() for one in sequences]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=3), st.integers(120, 20_000).map("ü".__mul__)),
            st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=200),
            st.integers(-(2**62), 2**62),
        ),
        min_size=1,
        max_size=5,
    ),
    st.permutations(["items", "timestamps", "user_id"]),
)
def test_ids_and_items_of_messages_are_those_that_protocol_buffers_find(users, order):
    """In any order of the map's entries, which Protocol Buffers leave open."""
    examples = []
    for user_id, items, time in users:
        parts = []
        for name in order:
            features = tf_example_pb2.Example().features
            if name == "user_id":
                features.feature[name].bytes_list.value.append(user_id.encode())
            else:
                features.feature[name].int64_list.value.extend(items if name == "items" else [time] * len(items))
            parts.append(features.SerializeToString())
        inner = b"".join(parts)
        examples.append(b"\n" + encoder._VarintBytes(len(inner)) + inner)
    found = sequence_files.parse_items(examples)
    expected = list(sequence_files.parse(examples))
    assert found.user_ids.to_pylist() == [user_id for user_id, _, _ in expected]
    assert found.offsets.tolist() == [0, *np.cumsum([len(items) for _, items, _ in expected])]
    np.testing.assert_array_equal(found.items, np.concatenate([items for _, items, _ in expected]))


def test_other_messages_are_refused():
    with pytest.raises(ValueError):
        sequence_files.parse_items([b"no message of genrec"])


def test_the_catalogue_has_titles_and_texts(written):
    catalogue = written[1].catalogue
    assert len(catalogue) == 2
    assert catalogue.item_ids == ["007", "x"]
    assert catalogue.index == {"007": 0, "x": 1}
    assert catalogue.titles == ["One", "b"]  # its title, else the first text that is not blank
    assert catalogue.texts == ["One. a", "b"]


def test_the_folder_can_be_moved(tmp_path):
    write(tmp_path / "here", {"train": random_sequences(3)}).path.rename(tmp_path / "there")
    assert len(dataset.Dataset(tmp_path / "there").split("train").read([0, 2])) == 2


def test_items_without_text(tmp_path):
    data = write(tmp_path / "dataset", {"train": random_sequences(3)}, vector=[[1.0], [2.0]])
    assert data.catalogue.texts == ["", ""] and data.catalogue.titles == ["007", "x"]
    assert data.users is None


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="no dataset"):
        dataset.Dataset(tmp_path / "absent")


def test_only_known_classes_of_features_are_imported(tmp_path):
    data = write(tmp_path / "dataset", {"train": random_sequences(3)})
    file = tmp_path / "dataset" / "sequences" / "features.json"
    written = file.read_text()
    sys.modules.pop("antigravity", None)
    text = "tensorflow_datasets.core.features.text_feature.Text"
    for content in (
        written.replace(text, "antigravity.Text"),
        json.dumps({"type": "antigravity.Text", "content": {}}),
        json.dumps({"python_class_name": text, "jsonFeature": {"json": '{"a": {"type": "antigravity.Text"}}'}}),
        written.replace(text, "tensorflow_datasets.core.features.audio_feature.Audio"),
        written[:50],
        "[" * 100_000,
    ):
        assert content != written
        file.write_text(content)
        with pytest.raises(artifacts.ArtifactError, match="features.json"):
            data.split("train").read([0])
    assert "antigravity" not in sys.modules
    file.write_text(written)
    assert len(data.split("train").read([0])) == 1

"""Items are held out of a dataset, and its original targets are never trained on."""

import numpy as np
import pytest

from genrec import artifacts, config
from genrec.data import hold_out, splits
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.prepare import prepare

DATA = config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=80))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "dataset"
    prepare(DATA, path)
    return path


def sequences(dataset: Dataset, split: str) -> dict[str, list[str]]:
    """Returns item ids by user, since rows differ between datasets."""
    found = dataset.split(split)
    ids = np.array(dataset.catalogue.item_ids)
    return {sequence.user_id: ids[sequence.items].tolist() for sequence in found.read(range(len(found)))}


def test_held_out_items_are_gone_and_the_rest_keeps_its_order(whole, tmp_path):
    hold_out.hold_out(whole, tmp_path / "dataset", 0.25, seed=1)
    before, after = Dataset(tmp_path / "dataset"), Dataset(whole)
    chosen = hold_out.choose(after.catalogue.item_ids, 0.25, 1)
    gone = {item for item, held in zip(after.catalogue.item_ids, chosen, strict=True) if held}
    assert len(gone) == round(len(chosen) / 4)
    assert before.catalogue.item_ids == [item for item in after.catalogue.item_ids if item not in gone]
    kept = after.catalogue.table["source_row"].to_numpy()[~chosen]
    assert before.catalogue.table["source_row"].to_numpy().tolist() == kept.tolist()
    everything = {name: sequences(after, name) for name in ("train", "validation", "test")}
    for user, items in sequences(before, "test").items():
        assert items == [item for item in everything["test"][user] if item not in gone]
    for user, items in sequences(before, "train").items():
        history = everything["validation"].get(user, everything["train"].get(user))
        assert items == [item for item in history if item not in gone][: len(items)]


def test_original_targets_are_never_trained_on():
    random = np.random.default_rng(0)
    for _ in range(200):
        lengths = random.integers(1, 7, 5)
        items = random.permutation(lengths.sum())  # all different
        whole = splits.UserSequences(np.concatenate([[0], np.cumsum(lengths)]), items, np.arange(len(items)))
        held_out = random.random(len(items)) < 0.5
        left, ends = hold_out.without(whole, held_out)
        old = np.flatnonzero(~held_out)  # by the new numbers
        for user in range(5):
            sequence = items[whole.offsets[user] : whole.offsets[user + 1]]
            rest = old[left.items[left.offsets[user] : left.offsets[user + 1]]]
            assert rest.tolist() == [item for item in sequence if not held_out[item]]
            targets = sequence[-2:] if len(sequence) >= 3 else []
            assert not set(rest[: ends["train"][user]]) & set(targets)
            assert ends["test"][user] == (len(rest) if len(rest) >= 3 else 0)


def test_the_choice_depends_on_ids_and_seed_alone():
    ids = [f"i{number}" for number in range(200)]
    chosen = {item for item, held in zip(ids, hold_out.choose(ids, 0.1, 3), strict=True) if held}
    assert len(chosen) == 20
    backwards = {item for item, held in zip(ids[::-1], hold_out.choose(ids[::-1], 0.1, 3), strict=True) if held}
    assert chosen == backwards
    assert chosen != {item for item, held in zip(ids, hold_out.choose(ids, 0.1, 4), strict=True) if held}


def test_the_same_folder_as_input_and_output_is_refused_and_stays(whole, tmp_path):
    (tmp_path / "link").symlink_to(whole.parent)
    for output in (whole, tmp_path / "link" / "dataset"):
        with pytest.raises(artifacts.ArtifactError, match="would replace the input"):
            hold_out.hold_out(whole, output, 0.5)
    assert len(Dataset(whole).split("test").read([0])) == 1


def test_invalid_shares_and_datasets_are_refused(whole, tmp_path):
    with pytest.raises(DataError, match="share.*1.5"):
        hold_out.hold_out(whole, tmp_path / "a", 1.5)
    with pytest.raises(artifacts.ArtifactError, match="no dataset"):
        hold_out.hold_out(tmp_path / "nothing", tmp_path / "a", 0.5)
    prepare(config.Data(**{**vars(DATA), "split": "temporal"}), tmp_path / "temporal")
    with pytest.raises(DataError, match="data.split=leave_one_out"):
        hold_out.hold_out(tmp_path / "temporal", tmp_path / "a", 0.5)

"""Histories are imported whole and once, also where the import was stopped."""

import pytest
from forked_scripts import Script

from genrec.data.dataset import Dataset
from genrec.serving.store import import_events
from genrec.serving.store.errors import StoreError, StoreUnavailable
from genrec.serving.store.import_events import import_histories
from genrec.serving.store.store import Event, Store


@pytest.fixture
def dataset(tiny_inputs) -> Dataset:
    return Dataset(tiny_inputs / "dataset")


@pytest.fixture
def store(tmp_path):
    opened = Store.open(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


def is_imported(store: Store, dataset: Dataset, split: str, kept_back: int) -> bool:
    sequences, item_ids = dataset.split(split), dataset.catalogue.item_ids
    for sequence in sequences.read(range(len(sequences))):
        count = len(sequence.items) - kept_back
        pairs = zip(sequence.items[:count].tolist(), sequence.timestamps[:count].tolist(), strict=True)
        if store.events(sequence.user_id, 1_000_000) != [Event(item_ids[item], time) for item, time in pairs]:
            return False
    return len(store.users(1_000_000)) == len(sequences)


@pytest.mark.parametrize(
    ("split", "targets", "kept_back"), [("train", False, 0), ("test", False, 1), ("test", True, 0)]
)
def test_histories_are_those_of_the_split(dataset, store, split, targets, kept_back):
    users, events = import_histories(dataset, split, store, targets)
    lengths = dataset.split(split).lengths
    assert (users, events) == (len(lengths), lengths.sum() - kept_back * len(lengths))
    assert is_imported(store, dataset, split, kept_back)


def test_an_import_that_was_stopped_goes_on(dataset, store, monkeypatch):
    monkeypatch.setattr(import_events, "USERS", 7)
    append, calls = store.append_histories, []

    def fails_once(*args) -> int:
        calls.append(args)
        if len(calls) == 3:
            raise StoreUnavailable("gone")
        return append(*args)

    monkeypatch.setattr(store, "append_histories", fails_once)
    with pytest.raises(StoreUnavailable):
        import_histories(dataset, "test", store)
    first = sum(count for _, count in store.users(1000))
    _, rest = import_histories(dataset, "test", store)
    assert first > 0
    assert first + rest == (dataset.split("test").lengths - 1).sum()
    assert is_imported(store, dataset, "test", 1)
    assert import_histories(dataset, "test", store)[1] == 0


def test_a_second_history_of_a_user_is_refused(dataset, store):
    import_histories(dataset, "test", store)
    for other in (("train",), ("test", True)):
        with pytest.raises(StoreError, match="new store"):
            import_histories(dataset, other[0], store, *other[1:])
    assert is_imported(store, dataset, "test", 1)


def test_the_tool_imports(tiny_inputs, tmp_path, dataset):
    url = f"--store=sqlite:///{tmp_path}/store.db"
    script = Script(tmp_path / "logs", "tools/import_events.py", f"--workdir={tiny_inputs}", url)
    assert script.wait() == 0, script.errors
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    assert is_imported(store, dataset, "test", 1)
    assert f"{len(dataset.split('test')):,} users" in script.output
    store.close()
    refused = Script(tmp_path / "logs", "tools/import_events.py", f"--workdir={tiny_inputs}", "--store=store.db")
    assert (refused.wait(), "sqlite:///PATH" in refused.errors) == (1, True)

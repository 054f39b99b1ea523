import numpy as np
import pytest

from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Filter
from genrec.data.timestamps import SECOND
from genrec.serving import requests


@pytest.fixture(scope="module")
def dataset(listener):
    return Dataset(listener / "dataset")


def test_users_are_found_in_the_order_given(dataset):
    sequences = dataset.split("test")
    names = [request.name for request in requests.sample_users(sequences, 2)][::-1]
    assert [request.name for request in requests.find_users(sequences, names)] == names


def test_requests_are_of_sampled_users_then_of_named_ones_then_of_items(dataset):
    sampled = requests.sample_users(dataset.split("test"), 3)
    name, item_ids = sampled[2].name, dataset.catalogue.item_ids[5:8]
    found = requests.build_requests(dataset, "test", 2, [name], item_ids)
    assert [request.name for request in found[:3]] == [sampled[0].name, sampled[1].name, name]
    assert found[3].history.tolist() == [5, 6, 7] and found[3].target is None
    assert not len(requests.build_requests(dataset, "test", 0, [], [])[0].history)


def test_unknown_users_and_items_are_named(dataset):
    catalogue = dataset.catalogue
    with pytest.raises(DataError, match="'nobody'"):
        requests.find_users(dataset.split("test"), ["nobody"])
    with pytest.raises(DataError, match="'nothing'"):
        requests.from_items(catalogue, ["nothing"])
    with pytest.raises(DataError, match="--users"):
        requests.build_requests(dataset, "test", 0, [], None)
    with pytest.raises(DataError, match="'nothing'"):
        requests.with_allow_deny(EVERYTHING, catalogue, ["nothing"], [])
    with pytest.raises(DataError, match="'nothing'"):
        requests.with_allow_deny(EVERYTHING, catalogue, None, ["nothing"])


def test_allow_and_deny_lists_keep_the_conditions_of_a_filter(dataset):
    catalogue = dataset.catalogue
    conditions = Filter.parse(["media_type=music"])
    both = requests.with_allow_deny(conditions, catalogue, catalogue.item_ids[3:5], catalogue.item_ids[4:7])
    assert both == Filter(conditions.conditions, frozenset([3, 4]), frozenset([4, 5, 6]))
    assert requests.with_allow_deny(conditions, catalogue, None, []) == conditions


def test_ages_of_events_are_seconds_before_the_target(dataset):
    sequences = dataset.split("test")
    for request in requests.sample_users(sequences, 3):
        times = sequences.of_users([request.name])[request.name].timestamps / SECOND
        np.testing.assert_allclose(request.ages, times[-1] - times[:-1], atol=1)
        assert 60 < request.ages.max() < 10 * 365 * 24 * 3600

"""Descriptions of TPU slices."""

import pytest

from genrec.planning import topologies


@pytest.mark.parametrize(
    ("name", "count", "devices"),
    [("v5e:1x1", 1, 1), ("v5e:4x4", 2, 32), ("v6e:2x4", 1, 8), ("v4:2x2x1", 1, 4), ("v5p:2x2x2", 1, 8)],
)
def test_slices_have_a_device_for_each_chip(name, count, devices):
    found = topologies.slices(name, count)
    assert len(found.devices) == devices and found.count == count


def test_the_newest_generation_has_two_devices_on_a_chip():
    assert len(topologies.slices("tpu7x:2x2x1").devices) == 8


@pytest.mark.parametrize(
    "name", ["v5e", "v5e:4", "v5e:2x2x2", "v5p:2x2", "v9:2x2", "v5e:3x3", "", "v5e:0x4", "v5e:2x-2"]
)
def test_topologies_that_do_not_exist_are_refused(name):
    with pytest.raises(topologies.PlanError, match="--topology"):
        topologies.slices(name)


def test_a_number_of_slices_below_one_is_refused():
    with pytest.raises(topologies.PlanError, match="--slices=0"):
        topologies.slices("v5e:2x2", 0)

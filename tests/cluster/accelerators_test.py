import pytest

from genrec.cluster import accelerators
from genrec.cluster.job import ClusterError


@pytest.mark.parametrize(
    ("accelerator", "topology", "hosts", "chips_per_host", "vm_type"),
    [
        ("v4", "2x2x2", 2, 4, "v4-16"),
        ("v5e", "1x1", 1, 1, "v5litepod-1"),
        ("v5e", "2x4", 1, 8, "v5litepod-8"),
        ("v5e", "4x4", 4, 4, "v5litepod-16"),
        ("v5p", "2x2x1", 1, 4, "v5p-8"),
        ("v5p", "4x4x4", 16, 4, "v5p-128"),
        ("v6e", "16x16", 64, 4, "v6e-256"),
    ],
)
def test_a_slice_is_found_by_generation_and_topology(accelerator, topology, hosts, chips_per_host, vm_type):
    found = accelerators.tpu_slice(accelerator, topology)
    assert (found.hosts, found.chips_per_host, found.vm_type) == (hosts, chips_per_host, vm_type)


@pytest.mark.parametrize("accelerator", accelerators.TPUS)
def test_hosts_share_the_chips_of_every_topology_evenly(accelerator):
    for topology, counts in accelerators.TPUS[accelerator].topologies.items():
        for hosts in counts:
            found = accelerators.tpu_slice(accelerator, topology, hosts)
            assert found.chips_per_host * hosts == found.chips
            assert found.chips_per_host in (1, 4, 8)


def test_a_topology_can_have_another_number_of_hosts():
    assert accelerators.tpu_slice("v6e", "2x4", 2).chips_per_host == 4


@pytest.mark.parametrize(
    ("accelerator", "topology", "hosts", "message"),
    [
        ("v99", "4x4", None, "--accelerator=v99.* v4, v5e, v5p, v6e"),
        ("v5e", "3x3", None, r"--topology=3x3.*v5e.* 1x1 \(1 host\), 2x2 \(1 host\), 2x4 \(1 or 2 hosts\)"),
        ("v5p", "4x4", None, r"2x2x4 \(4 hosts\)"),
        ("v5e", "4x4", 8, "--nodes=8.* v5e .* 4x4 .*4 hosts"),
    ],
)
def test_unknown_slices_are_refused_with_the_choices(accelerator, topology, hosts, message):
    with pytest.raises(ClusterError, match=message):
        accelerators.tpu_slice(accelerator, topology, hosts)

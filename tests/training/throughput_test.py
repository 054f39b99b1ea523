"""Rates, compilations and the peaks of known devices. Traces and metrics of a run: train_test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec import config, sharding
from genrec.training.throughput import ThroughputMeter, peak_flops


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
    ],
)
def test_peaks_of_known_devices(kind, peak):
    assert peak_flops(kind) == peak


def window(steps: int) -> list[dict[str, np.ndarray]]:
    return [{"targets": np.array(30), "encoder_tokens": np.array(100)} for _ in range(steps)]


def test_rates_belong_together():
    experiment = config.Experiment(training=config.Training(peak_flops=1e12))
    speed = ThroughputMeter(experiment, (8, 8), 50, sharding.make_mesh(config.Mesh(2, 1, 1)))
    figures = speed.measure(window(4))
    speed.close()
    seconds = 4 * figures["step_seconds"]
    assert figures["targets_per_second"] == pytest.approx(4 * 30 / seconds)
    assert figures["tokens_per_second"] == pytest.approx(4 * (100 + 2 * 30) / seconds)
    assert 0 < figures["model_flops_utilization"]


def test_without_a_peak_there_is_no_utilization():
    speed = ThroughputMeter(config.Experiment(), (8, 8), 50, sharding.one_device())
    assert "model_flops_utilization" not in speed.measure(window(1))
    speed.close()


def test_compilations_are_counted_until_the_counter_is_closed():
    speed = ThroughputMeter(config.Experiment(), (8, 8), 50, sharding.one_device())
    steps = window(1)
    speed.restart()
    assert speed.measure(steps)["compilations"] == 0
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    assert speed.measure(steps)["compilations"] > 0
    assert speed.measure(steps)["compilations"] == 0
    speed.close()

"""Training throughput: rates, MFU and compilations for the logs, and profiler traces."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh

from genrec.config import Experiment
from genrec.models import flops

COMPILATION = "/jax/core/compile/backend_compile_duration"  # JAX's monitoring event
STEPS_BEFORE_TRACE = 3  # the first steps compile, and fill the queues

# Peak dense bfloat16 FLOP/s of one JAX device (a chip, or half of one on TPU v2 and v3), from the vendors' data sheets,
# by prefix of the device kind in lower case; the first match counts.
PEAK_FLOPS = {
    "nvidia h100 pcie": 756e12,
    "nvidia h100 nvl": 835e12,
    "nvidia h100": 989e12,
    "nvidia h200": 989e12,
    "nvidia gh200": 989e12,
    "nvidia b200": 2250e12,
    "nvidia a100": 312e12,
    "nvidia a10g": 70e12,
    "nvidia l40s": 362e12,
    "nvidia l4": 121e12,
    "tesla v100": 125e12,
    "tesla t4": 65e12,
    "tpu v2": 23e12,
    "tpu v3": 61.5e12,
    "tpu v4 lite": 138e12,
    "tpu v4": 275e12,
    "tpu v5 lite": 197e12,
    "tpu v5e": 197e12,
    "tpu v5": 459e12,
    "tpu v6 lite": 918e12,
    "tpu v6e": 918e12,
    "tpu7x": 1153e12,
}


def peak_flops(device_kind: str) -> float | None:
    """Returns the peak FLOP/s of a device kind; None where it is not known."""
    kind = device_kind.lower()
    return next((peak for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), None)


class ThroughputMeter:
    """Measures rates between calls of `measure` and `restart`."""

    def __init__(self, experiment: Experiment, sizes: Sequence[int], row_tokens: int, mesh: Mesh):
        """Starts measuring; `sizes` are the codes per level, `row_tokens` the encoder tokens of a row."""
        self._model, self._sizes, self._row_tokens = experiment.model, sizes, row_tokens
        peak = experiment.training.peak_flops or peak_flops(mesh.devices.flat[0].device_kind)
        self._peak = None if peak is None else peak * mesh.size
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        self.restart()

    def restart(self) -> None:
        """Excludes the time since the last call: validation, and waiting for checkpoints."""
        self._start, self._compilations = time.monotonic(), 0

    def measure(self, steps: Sequence[dict[str, np.ndarray]]) -> dict[str, float]:
        """Returns the rates since the last call, from the metrics of its steps, fetched from the devices."""
        seconds = time.monotonic() - self._start
        targets, encoder_tokens = (sum(float(step[name]) for step in steps) for name in ("targets", "encoder_tokens"))
        figures = {
            "step_seconds": seconds / len(steps),
            "targets_per_second": targets / seconds,
            "tokens_per_second": (encoder_tokens + len(self._sizes) * targets) / seconds,
            "compilations": self._compilations,  # or loads from the compilation cache
        }
        if self._peak is not None:
            needed = flops.training_step(self._model, self._sizes, encoder_tokens, targets, self._row_tokens)
            figures["model_flops_utilization"] = needed / seconds / self._peak
        self.restart()
        return figures

    def _listen(self, event: str, duration_secs: float, **details: str | int) -> None:
        self._compilations += event == COMPILATION

    def close(self) -> None:
        """Stops counting compilations."""
        jax.monitoring.unregister_event_duration_listener(self._listen)


class Trace:
    """Records a profiler trace of some steps of a run, for `tensorboard --logdir` or Perfetto."""

    def __init__(self, path: epath.PathLike, first_step: int, steps: int):
        """Plans a trace of `steps` steps, soon after `first_step`, into the folder `path`; 0 records none."""
        self._path, self._running = epath.Path(path), False
        self._first = first_step + STEPS_BEFORE_TRACE + 1
        self._last = self._first + steps - 1

    @contextlib.contextmanager
    def of(self, step: int) -> Iterator[None]:
        """Returns the context in which a step runs."""
        if step == self._first <= self._last:
            jax.profiler.start_trace(str(self._path))
            self._running = True
        elif step == self._last + 1:
            self.close()
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def close(self) -> None:
        """Ends a trace that is being recorded."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            logging.info("the trace is in %s: view it with tensorboard --logdir (needs xprof)", self._path)

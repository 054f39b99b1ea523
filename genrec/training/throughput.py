"""How fast training runs: rates and utilization for the logs, compilations, and traces for the profiler."""

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

COMPILATION = "/jax/core/compile/backend_compile_duration"  # the event that JAX reports for each
STEPS_BEFORE_TRACE = 3  # which compile, and fill the queues

# Dense bfloat16 operations per second of one device as JAX counts them (a chip, or half of one on TPU v2 and v3), from
# the vendors' data sheets. The first name that begins a device's kind, in lower case, counts.
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
    """Operations per second of a device at best; None where that is not known."""
    kind = device_kind.lower()
    return next((peak for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), None)


class Speedometer:
    """Rates since it was last asked or restarted."""

    def __init__(self, experiment: Experiment, sizes: Sequence[int], row_tokens: int, mesh: Mesh):
        """`sizes` are the codes per level; `row_tokens` the encoder tokens of a row."""
        self._model, self._sizes, self._row_tokens = experiment.model, sizes, row_tokens
        peak = experiment.training.peak_flops or peak_flops(mesh.devices.flat[0].device_kind)
        self._peak = None if peak is None else peak * mesh.size
        self._compilations = _Compilations()
        self.restart()

    def restart(self) -> None:
        """Leaves out what was done since the last call: validation, and waiting for checkpoints."""
        self._start, self._compiled = time.monotonic(), self._compilations.count

    def measure(self, steps: Sequence[dict[str, np.ndarray]]) -> dict[str, float]:
        """For the metrics of the steps since the last call, which have ended: they were fetched from the device."""
        seconds = time.monotonic() - self._start
        targets, encoder_tokens = (sum(float(step[name]) for step in steps) for name in ("targets", "encoder_tokens"))
        figures = {
            "step_seconds": seconds / len(steps),
            "targets_per_second": targets / seconds,
            "tokens_per_second": (encoder_tokens + len(self._sizes) * targets) / seconds,
            "compilations": self._compilations.count - self._compiled,
        }
        if self._peak is not None:
            needed = flops.training_step(self._model, self._sizes, encoder_tokens, targets, self._row_tokens)
            figures["model_flops_utilization"] = needed / seconds / self._peak
        self.restart()
        return figures

    def close(self) -> None:
        self._compilations.close()


class _Compilations:
    """Counts what XLA compiles, or fetches from the cache of compiled functions, from now on."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration: float, **details: object) -> None:
        self.count += event == COMPILATION

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)


class Trace:
    """Records what devices and threads do in some steps of a run, for `tensorboard --logdir` or Perfetto."""

    def __init__(self, path: epath.PathLike, first_step: int, steps: int):
        """Records `steps` steps, soon after `first_step`, into the folder `path`; 0 records none."""
        self._path, self._running = epath.Path(path), False
        self._first = first_step + STEPS_BEFORE_TRACE + 1
        self._last = self._first + steps - 1

    @contextlib.contextmanager
    def of(self, step: int) -> Iterator[None]:
        """To be put around a step."""
        if step == self._first <= self._last:
            jax.profiler.start_trace(str(self._path))
            self._running = True
        elif step == self._last + 1:
            self.close()
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def close(self) -> None:
        """Ends a trace that is still being recorded."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            logging.info(
                "the trace is in %s: tensorboard --logdir shows it (pip install tensorboard xprof)", self._path
            )

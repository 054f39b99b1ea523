"""What a run writes about itself: `metrics.jsonl`, TensorBoard events, and lines in the log. One process writes."""

import json
from collections.abc import Mapping

from absl import logging
from etils import epath
from tensorboardX import SummaryWriter

from genrec import artifacts, distributed


class Logs:
    """Metrics of one run. A resumed run forgets what the interrupted one wrote after its last checkpoint."""

    def __init__(self, workdir: epath.PathLike, first_step: int):
        self._writes = distributed.is_first()
        if not self._writes:
            return
        self._path = epath.Path(workdir) / "metrics.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        # A line that was cut off by a kill does not parse.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= first_step]
        artifacts.write_text(self._path, "".join(line + "\n" for line in kept))
        self._file = self._path.open("a")
        self._events = SummaryWriter(str(epath.Path(workdir) / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, group: str, metrics: Mapping[str, float]) -> None:
        """Records numbers of a `group` ("train", "validation") at a step."""
        if not self._writes:
            return
        numbers = {f"{group}/{name}": float(value) for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        logging.info("step %d %s: %s", step, group, ", ".join(f"{name} {value:.5g}" for name, value in metrics.items()))

    def close(self) -> None:
        if not self._writes:
            return
        self._file.close()
        self._events.close()

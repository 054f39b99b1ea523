"""What a run writes about itself: `metrics.jsonl`, TensorBoard events, and lines in the log. One process writes."""

import json
import sys
from collections.abc import Mapping

from absl import logging
from etils import epath

from genrec import distributed, files

# tensorboardX imports torch where that is installed: seconds of every start, for types that are not used here.
_TORCH = sys.modules.setdefault("torch", None)
from tensorboardX import SummaryWriter  # noqa: E402

if _TORCH is None:
    del sys.modules["torch"]


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
        self._text = "".join(line + "\n" for line in kept)
        files.write_text(self._path, self._text)
        self._events = SummaryWriter(str(epath.Path(workdir) / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, group: str, metrics: Mapping[str, float]) -> None:
        """Records numbers of a `group` ("train", "validation") at a step."""
        if not self._writes:
            return
        numbers = {f"{group}/{name}": float(value) for name, value in metrics.items()}
        self._append(json.dumps({"step": step, **numbers}) + "\n")
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        logging.info("step %d %s: %s", step, group, ", ".join(f"{name} {value:.5g}" for name, value in metrics.items()))

    def close(self) -> None:
        if not self._writes:
            return
        self._events.close()

    def _append(self, line: str) -> None:
        """The file is closed after every line: through a mounted bucket others see it only then."""
        self._text += line
        if "://" in str(self._path):  # objects of a bucket cannot grow
            files.write_text(self._path, self._text)
            return
        with self._path.open("a") as file:
            file.write(line)

"""Requests of a load test: histories of a dataset's users, with filters, prompts and options in given shares."""

import collections
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from genrec import settings_check
from genrec.data.cells import SEPARATOR
from genrec.data.dataset import Catalogue, Dataset, Sequence
from genrec.serving.load.client import LoadTestError
from genrec.settings import setting

USERS = 20_000  # most users whose histories are read
ITEMS = 50  # most items of a history that is sent, the latest
MOST_VALUES = 50  # of a column that filters and prompts name
FEWEST_ITEMS = 0.02  # share of the catalogue that has a value which they name
PROMPTS = ("{}", "something {}", "no {}", "only {}")


@dataclasses.dataclass(frozen=True)
class Mix:
    """Settings of the requests."""

    top: int = setting(10, "Items to ask for.", at_least=1)
    filters: float = setting(0.25, "Share of the requests with a filter.", at_least=0, at_most=1)
    prompts: float = setting(0.0, "Share with a prompt, for models that take prompts.", at_least=0, at_most=1)
    exclude_history: float = setting(0.5, "Share that exclude the items of the history.", at_least=0, at_most=1)
    returning: float = setting(
        0.0, "Share of users who come back after one more event since their last list.", at_least=0, at_most=1
    )
    deadline_ms: int = setting(1000, "Deadline of each request, in milliseconds.", at_least=1)
    seed: int = setting(0, "Seed of requests and arrivals.", at_least=0)

    def __post_init__(self) -> None:
        settings_check.check(self)


@dataclasses.dataclass(frozen=True)
class Draw:
    """A request, and where it comes from."""

    request: dict[str, Any]  # of /v1/recommend
    sequence: Sequence
    events: int  # of the sequence that are the history
    returning: bool = False


class RequestSource:
    """Draws requests without end, the same ones for the same seed; raises LoadTestError if no user has two items."""

    def __init__(self, dataset: Dataset, split: str, mix: Mix):
        self.mix, self.random = mix, np.random.default_rng(mix.seed)
        sequences = dataset.split(split)
        candidates = self.random.permutation(np.flatnonzero(sequences.lengths >= 2))[:USERS]
        if not len(candidates):
            raise LoadTestError(f"no user of the split {split!r} has two items. Give another --split or --workdir.")
        self._sequences = sequences.read(candidates)
        self._ids = np.array(dataset.catalogue.item_ids)
        self._values = column_values(dataset.catalogue)
        if mix.filters and not self._values:
            raise LoadTestError("no column of this catalogue has values for filters: set --filters=0.")
        if mix.prompts and not self._values:
            raise LoadTestError("no column of this catalogue has values for prompts: set --prompts=0.")
        self._answered: collections.deque[Draw] = collections.deque(maxlen=1000)

    def draw(self) -> Draw:
        """Returns the next request."""
        mix, random = self.mix, self.random
        if self._answered and random.random() < mix.returning:
            before = self._answered.popleft()
            events = before.events + 1
            longer = {"history": self._history(before.sequence, events)}
            return Draw(before.request | longer, before.sequence, events, returning=True)
        sequence = self._sequences[random.integers(len(self._sequences))]
        events = int(random.integers(1, len(sequence.items)))
        request: dict[str, Any] = {
            "user": sequence.user_id,
            "history": self._history(sequence, events),
            "top": mix.top,
            "exclude_history": bool(random.random() < mix.exclude_history),
            "deadline_ms": mix.deadline_ms,
        }
        if random.random() < mix.filters:
            column, operator, value = self._values[random.integers(len(self._values))]
            request["filters"] = [f"{column}{operator}{value}"]
        if random.random() < mix.prompts:
            _, _, value = self._values[random.integers(len(self._values))]
            request["prompt"] = PROMPTS[random.integers(len(PROMPTS))].format(value)
        return Draw(request, sequence, events)

    def answered(self, draw: Draw) -> None:
        """Records that a request was answered: its user may come back, if they have a further event."""
        if draw.events + 1 < len(draw.sequence.items):
            self._answered.append(draw)

    def _history(self, sequence: Sequence, events: int) -> list[str]:
        found: list[str] = self._ids[sequence.items[max(events - ITEMS, 0) : events]].tolist()
        return found


def column_values(catalogue: Catalogue) -> list[tuple[str, str, str]]:
    """Returns columns with operators of filters, "=" or for lists "~", and their frequent values."""
    found = []
    for name in catalogue.table.column_names:
        column = catalogue.column(name)
        is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        cells = column.flatten() if is_list else column
        if not (pa.types.is_string(cells.type) or pa.types.is_boolean(cells.type)):
            continue
        counts = collections.Counter(value for value in cells.to_pylist() if value is not None)
        if not 2 <= len(counts) <= min(MOST_VALUES, len(catalogue) // 4):  # not ids or titles of a small catalogue
            continue
        texts = {str(value): count for value, count in counts.items()}
        if any(SEPARATOR in text for text in texts):
            continue
        found += [
            (name, "~" if is_list else "=", text)
            for text, count in texts.items()
            if count >= FEWEST_ITEMS * len(catalogue) and text == text.strip() and "," not in text
        ]
    return sorted(found)

"""Training tasks beside the log: which segments they have, and what stands in them.

The plan of a run says how many segments there are of each task, with the history of each; what is asked in them, and of
which item, depends on seed, epoch and segment alone, so that any batch can be built without those before it.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from genrec import config
from genrec.input_pipeline.prompts import Wishes

# LOG: every position of a window. The others have one target. MOMENT: with the features of its moment. NEXT_ITEM,
# ANY_ITEM: with a wish. ATTRIBUTES, TITLE: with a wish, and no history.
LOG, MOMENT, NEXT_ITEM, ANY_ITEM, ATTRIBUTES, TITLE = range(6)
WITH_WISH = (NEXT_ITEM, ANY_ITEM, ATTRIBUTES, TITLE)
WITHOUT_HISTORY = (ATTRIBUTES, TITLE)
# The texts that the model writes.
ITEM_TITLE, ITEM_ATTRIBUTES, TASTE = range(3)
TEXT_KINDS = 3


@dataclasses.dataclass(frozen=True)
class Segments:
    """Parts of the training sequences, as parallel arrays int32[segments]."""

    record: np.ndarray
    start: np.ndarray  # items[start:stop] of the record take part
    stop: np.ndarray
    first_target: np.ndarray  # counted from `start`
    task: np.ndarray

    def __len__(self) -> int:
        return len(self.record)

    def take(self, places: np.ndarray) -> "Segments":
        return Segments(*(getattr(self, field.name)[places] for field in dataclasses.fields(self)))


class Mixture(NamedTuple):
    """What is trained beside the log."""

    context: config.Context = config.Context()
    wishes: config.Wishes = config.Wishes()
    maker: Wishes | None = None  # of wishes and texts, where there are any
    item_codes: np.ndarray | None = None  # int32[items, features]: what a target says of its moment


LOG_ALONE = Mixture()


def plan(lengths: np.ndarray, log: Segments, mixture: Mixture, max_history: int, seed: int) -> Segments:
    """The segments of the log with those of the other tasks: their targets are drawn from all positions alike.

    `lengths` int[records]: items of each.
    """
    context, wishes = mixture.context, mixture.wishes
    random = np.random.default_rng((seed, len(lengths)))
    counts = {}
    if context.item_columns or context.time_of_day:
        counts[MOMENT] = round(context.moments * len(log))
    if wishes.columns:
        weights = np.array([wishes.next_item, wishes.any_item, wishes.attributes, wishes.title])
        for task, weight in zip(WITH_WISH, weights / weights.sum(), strict=True):
            counts[task] = round(wishes.examples * weight * len(log))
    if not counts:
        return log
    task = np.repeat(list(counts), list(counts.values())).astype(np.int64)
    end = np.cumsum(lengths, dtype=np.int64)
    chosen = random.integers(0, end[-1], len(task))
    record = np.searchsorted(end, chosen, side="right")
    stop = chosen - (end[record] - lengths[record]) + 1
    longest = np.where(task == MOMENT, max_history, min(wishes.history, max_history))
    longest[np.isin(task, WITHOUT_HISTORY)] = 0
    start = np.maximum(0, stop - 1 - longest)
    extra = (record, start, stop, stop - 1 - start, task)
    return Segments(
        *(
            np.concatenate([getattr(log, field.name), more]).astype(np.int32)
            for field, more in zip(dataclasses.fields(Segments), extra, strict=True)
        )
    )


def ask(task: int, wishes: Wishes, history: np.ndarray, target: int, random: np.random.Generator) -> tuple[int, str]:
    """The target of a segment with a wish, and the wish; `history` and `target`, catalogue rows, are the log's."""
    if task == NEXT_ITEM:
        return target, wishes.for_item(target, history, random)
    if task == ANY_ITEM:
        return wishes.any_item(history, random)
    # What an item is called does not depend on who chose it: every item as often as any other.
    target = int(random.integers(len(wishes.titles)))
    return target, wishes.titles[target] if task == TITLE else wishes.attributes(target, random)


def write(kind: int, wishes: Wishes, history: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, str]:
    """What the model reads, catalogue rows, and the text that it shall write; `history` is one of the log."""
    if kind == TASTE:
        return history, wishes.taste(history)
    item = int(random.integers(len(wishes.titles)))
    return np.array([item], np.int32), wishes.titles[item] if kind == ITEM_TITLE else wishes.description(item)

"""Training tasks beside the log: which segments they have, and what stands in them.

The plan of a run says how many segments there are of each task, with the history of each; what is asked in them, and of
which item, depends on seed, epoch and segment alone, so that any batch can be built without those before it.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from genrec import config
from genrec.input_pipeline.prompts import PromptSampler

# LOG: every position of a window. The others have one target. MOMENT: with the features of its moment. NEXT_ITEM,
# ANY_ITEM: with a prompt. ATTRIBUTES, TITLE: with a prompt, and no history.
LOG, REQUEST_TIME, NEXT_ITEM, ANY_ITEM, ATTRIBUTES, TITLE = range(6)
WITH_PROMPT = (NEXT_ITEM, ANY_ITEM, ATTRIBUTES, TITLE)
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
    prompts: config.Prompts = config.Prompts()
    maker: PromptSampler | None = None  # of prompts and texts, where there are any
    item_codes: np.ndarray | None = None  # int32[items, features]: what a target says of its moment


LOG_ALONE = Mixture()


def plan(lengths: np.ndarray, log: Segments, mixture: Mixture, max_history: int, seed: int) -> Segments:
    """The segments of the log with those of the other tasks: their targets are drawn from all positions alike.

    `lengths` int[records]: items of each.
    """
    context, prompts = mixture.context, mixture.prompts
    random = np.random.default_rng((seed, len(lengths)))
    counts = {}
    if context.item_columns or context.time_of_day:
        counts[REQUEST_TIME] = round(context.request_time_examples * len(log))
    if prompts.columns:
        weights = np.array([prompts.next_item, prompts.any_item, prompts.attributes, prompts.title])
        for task, weight in zip(WITH_PROMPT, weights / weights.sum(), strict=True):
            counts[task] = round(prompts.examples * weight * len(log))
    if not counts:
        return log
    task = np.repeat(list(counts), list(counts.values())).astype(np.int64)
    end = np.cumsum(lengths, dtype=np.int64)
    chosen = random.integers(0, end[-1], len(task))
    record = np.searchsorted(end, chosen, side="right")
    stop = chosen - (end[record] - lengths[record]) + 1
    longest = np.where(task == REQUEST_TIME, max_history, min(prompts.history, max_history))
    longest[np.isin(task, WITHOUT_HISTORY)] = 0
    start = np.maximum(0, stop - 1 - longest)
    extra = (record, start, stop, stop - 1 - start, task)
    return Segments(
        *(
            np.concatenate([getattr(log, field.name), more]).astype(np.int32)
            for field, more in zip(dataclasses.fields(Segments), extra, strict=True)
        )
    )


def ask(
    task: int, prompts: PromptSampler, history: np.ndarray, target: int, random: np.random.Generator
) -> tuple[int, str]:
    """The target of a segment with a prompt, and the prompt; `history` and `target`, catalogue rows, are the log's."""
    if task == NEXT_ITEM:
        return target, prompts.for_item(target, history, random)
    if task == ANY_ITEM:
        return prompts.any_item(history, random)
    # What an item is called does not depend on who chose it: every item as often as any other.
    target = int(random.integers(len(prompts.titles)))
    return target, prompts.titles[target] if task == TITLE else prompts.attributes(target, random)


def write(
    kind: int, prompts: PromptSampler, history: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, str]:
    """What the model reads, catalogue rows, and the text that it shall write; `history` is one of the log."""
    if kind == TASTE:
        return history, prompts.taste(history)
    item = int(random.integers(len(prompts.titles)))
    return np.array([item], np.int32), prompts.titles[item] if kind == ITEM_TITLE else prompts.description(item)

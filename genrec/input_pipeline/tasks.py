"""The mixture of training tasks: next items of the interaction log, and the tasks with request context and prompts.

The plan of a run fixes how many segments each task has, and the history of each segment; a segment's prompt, and the
item that it is about, depend on seed, epoch and segment alone, so that any batch can be built without those before it.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from genrec import config
from genrec.input_pipeline.prompts import PromptSampler

# Tasks that predict items
LOG = 0  # the next item at every position of a window of the log; all other tasks have one target
REQUEST_TIME = 1  # the next item, from request-time context too: features of its time and of itself
NEXT_ITEM = 2  # the next item, from a prompt that it fulfills too
ANY_ITEM = 3  # an item that is independent of the history, from a prompt
ATTRIBUTES, TITLE = 4, 5  # an item, from its attributes or its title alone
WITH_PROMPT = (NEXT_ITEM, ANY_ITEM, ATTRIBUTES, TITLE)
WITHOUT_HISTORY = (ATTRIBUTES, TITLE)
# Tasks that generate texts
ITEM_TITLE, ITEM_ATTRIBUTES, TASTE = range(3)  # from an item its title or attributes, from a history its taste
TEXT_KINDS = 3


@dataclasses.dataclass(frozen=True)
class Segments:
    """Contiguous parts of users' training sequences, each with its task, as parallel arrays int32[segments]."""

    sequence: np.ndarray  # index into the training split
    start: np.ndarray  # the segment is items[start:stop] of the sequence
    stop: np.ndarray
    first_target: np.ndarray  # relative to `start`; the items from here on are targets
    task: np.ndarray

    def __len__(self) -> int:
        return len(self.sequence)

    @staticmethod
    def of(**arrays: np.ndarray) -> "Segments":
        """Returns segments from arrays of any type of integers."""
        return Segments(**{name: array.astype(np.int32) for name, array in arrays.items()})

    def take(self, indices: np.ndarray) -> "Segments":
        """Returns the segments at `indices`."""
        return Segments(**{name: array[indices] for name, array in vars(self).items()})


class Mixture(NamedTuple):
    """The tasks of a training mixture beside the log."""

    context: config.Context = config.Context()
    prompts: PromptSampler | None = None  # None: no prompts and texts
    item_feature_codes: np.ndarray = np.zeros((0, 0), np.int32)  # int32[items, features], for REQUEST_TIME


LOG_ONLY = Mixture()


def plan(lengths: np.ndarray, log: Segments, mixture: Mixture, max_history: int, seed: int) -> Segments:
    """Returns the segments of the log, and then those of the other tasks, with targets at uniformly drawn positions.

    `lengths` int[sequences] are the numbers of items.
    """
    context = mixture.context
    random = np.random.default_rng((seed, len(lengths)))
    counts, prompted_history = {}, max_history
    if context.item_columns or context.time_of_day:
        counts[REQUEST_TIME] = round(context.request_time_examples * len(log))
    if mixture.prompts is not None:
        cfg = mixture.prompts.cfg
        prompted_history = min(cfg.history, max_history)
        weights = np.array([cfg.next_item, cfg.any_item, cfg.attributes, cfg.title])
        for prompt_task, weight in zip(WITH_PROMPT, weights / weights.sum(), strict=True):
            counts[prompt_task] = round(cfg.examples * weight * len(log))
    if not counts:
        return log
    task = np.repeat(list(counts), list(counts.values())).astype(np.int64)
    end = np.cumsum(lengths, dtype=np.int64)
    target = random.integers(0, end[-1], len(task))  # among the items of all sequences
    sequence = np.searchsorted(end, target, side="right")
    stop = target - (end[sequence] - lengths[sequence]) + 1
    longest = np.where(task == REQUEST_TIME, max_history, prompted_history)
    longest[np.isin(task, WITHOUT_HISTORY)] = 0
    start = np.maximum(0, stop - 1 - longest)
    more = {"sequence": sequence, "start": start, "stop": stop, "first_target": stop - 1 - start, "task": task}
    return Segments.of(**{name: np.append(array, more[name]) for name, array in vars(log).items()})


def sample_prompt(
    task: int, prompts: PromptSampler, history: np.ndarray, target: int, random: np.random.Generator
) -> tuple[int, str]:
    """Returns the target and the prompt of a segment, whose `history` and `target` in the log are catalogue rows."""
    if task == NEXT_ITEM:
        return target, prompts.for_item(target, history, random)
    if task == ANY_ITEM:
        return prompts.any_item(history, random)
    # Titles and attributes do not depend on who chose an item: every item is as likely as any other.
    target = int(random.integers(len(prompts.titles)))
    return target, prompts.titles[target] if task == TITLE else prompts.attributes(target, random)


def sample_text(
    kind: int, prompts: PromptSampler, history: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Returns the input, catalogue rows int32[n], and the target text of a text task; `history` is one of the log."""
    if kind == TASTE:
        return history, prompts.taste(history)
    item = int(random.integers(len(prompts.titles)))
    return np.array([item], np.int32), prompts.titles[item] if kind == ITEM_TITLE else prompts.description(item)

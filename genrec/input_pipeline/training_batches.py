"""Training batches: packed rows of segments, a pure function of (seed, step), prefetched by Grain.

The plan is made once, from the lengths of the training sequences: sequences longer than the window are cut into
segments, and segments are packed into rows by their *shape* (tokens, targets). An epoch then only permutes: which of
the equally shaped segments takes which place, and the order of the rows. So every epoch has the same number of steps,
step n can be built without its predecessors, and a restart needs only n.
"""

import functools
import math
import threading
from collections.abc import Iterator

import grain
import numpy as np

from genrec import config
from genrec.data.dataset import Sequences
from genrec.data.errors import DataError
from genrec.input_pipeline import flat_sequences, tasks
from genrec.input_pipeline.context import ABSENT, ALL_WITHHELD
from genrec.input_pipeline.examples import (
    ANONYMOUS,
    NO_PIECES,
    Examples,
    PlacedSegments,
    RowShape,
    Segment,
    TextExamples,
    Tokenizer,
    assemble_rows,
    pack,
    prefix_tokens,
    ranges,
)
from genrec.input_pipeline.flat_sequences import FlatSequences
from genrec.input_pipeline.packing import choose_row_targets, pack_shapes, sort_by_shape
from genrec.input_pipeline.prompts import PromptSampler
from genrec.input_pipeline.tasks import LOG_ONLY, Mixture, Segments

MEMORY = 2**30  # bytes, 215 million items
PREFETCH = 8  # batches


def cut(lengths: np.ndarray, max_history: int, every: bool) -> Segments:
    """Cuts sequences into segments of the log, so that every item is a target exactly once.

    With `every`, a segment is a window of `max_history` items and the item after them; a later window begins with the
    last target of the one before. Otherwise each item has a segment, with up to `max_history` items before it.
    """
    lengths = np.asarray(lengths, np.int64)
    if every:
        # n items make one window, plus one for each started max_history items beyond max_history + 1.
        counts = np.where(lengths > 0, 1 + np.maximum(0, -(-(lengths - 1 - max_history) // max_history)), 0)
    else:
        counts = lengths
    sequence = np.repeat(np.arange(len(lengths)), counts)
    number = ranges(0, counts)
    if every:
        start = number * max_history
        stop = np.minimum(start + max_history + 1, lengths[sequence])
        first_target = np.where(number == 0, 0, 1)
    else:
        start = np.maximum(0, number - max_history)
        stop = number + 1
        first_target = stop - 1 - start
    task = np.full(len(sequence), tasks.LOG)
    return Segments.of(sequence=sequence, start=start, stop=stop, first_target=first_target, task=task)


class TrainingBatches:
    """Batches of the training split; `batch(step)` depends on the data, the settings, the seed and the step alone.

    A batch has `rows` rows with segments, then empty ones up to `padded_rows`, a multiple of `rows_multiple`: the
    examples of a step do not depend on the number of devices that share it.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokenizer: Tokenizer,
        cfg: config.Training,
        seed: int,
        rows_multiple: int = 1,
        memory: int = MEMORY,
        mixture: Mixture = LOG_ONLY,
    ):
        """Plans the epochs. Items that take more than `memory` bytes in all are read from disk for each batch.

        Raises DataError when there are no items, ConfigError for `targets` that do not exist.
        """
        self.sequences, self.tokenizer, self.seed, self.mixture = sequences, tokenizer, seed, mixture
        if cfg.targets not in ("every", "last"):
            raise config.ConfigError(f"training.targets={cfg.targets!r}: choose every or last")
        self.causal = cfg.targets == "every"
        segments = cut(sequences.lengths, cfg.max_history, every=self.causal)
        if len(segments) == 0:
            raise DataError("the training split has no items; loosen the filters of stage `prepare`")
        segments = tasks.plan(sequences.lengths, segments, mixture, cfg.max_history, seed)
        room = np.where(np.isin(segments.task, tasks.WITH_PROMPT), tokenizer.longest_prompt, 0)
        length = tokenizer.length(segments.stop - segments.start - 1) + room
        targets = segments.stop - segments.start - segments.first_target
        order = sort_by_shape(length, targets)
        self.segments = segments.take(order)
        self.length, self.targets = length[order], targets[order]
        row_targets = choose_row_targets(self.length, self.targets, tokenizer.levels, cfg.row_targets)
        self.packing = pack_shapes(self.length, self.targets, row_targets)
        # Independent of the mesh and of training.accumulate: a resumed run may change both.
        self.rows = max(1, min(cfg.batch_targets // self.packing.row_targets, self.packing.rows))
        self.padded_rows = math.ceil(self.rows / rows_multiple) * rows_multiple
        self.steps_per_epoch = self.packing.rows // self.rows
        self._log = np.flatnonzero(self.segments.task == tasks.LOG)
        self._max_history = cfg.max_history
        self._row_segments = int(np.diff(self.packing.row_start).max())
        item_bytes = flat_sequences.BYTES * int(sequences.lengths.sum(dtype=np.int64))
        self._lock = threading.Lock()
        self._loaded = None if item_bytes > memory else flat_sequences.load(sequences, tokenizer)

    @property
    def targets_per_step(self) -> float:
        """Returns the mean number of targets of a step, without padding."""
        return float(self.targets.sum()) / self.packing.rows * self.rows

    @property
    def padding(self) -> float:
        """Returns the share of padding among the encoder and target tokens of a batch."""
        within_rows = self.packing.padding(self.length.sum(), self.targets.sum(), self.tokenizer.levels)
        return 1 - (1 - within_rows) * self.rows / self.padded_rows

    def batch(self, step: int, rows: slice | np.ndarray | None = None) -> Examples:
        """Returns the batch of a step: all of its `padded_rows` rows, or only those with the given numbers.

        `rows`, a slice or int[n], selects as it does from an array: `batch(step, rows)` equals `batch(step)` with every
        array indexed by `rows`, but only the sequences of these rows are read.
        """
        epoch, within = divmod(int(step), self.steps_per_epoch)
        order, segment_at, kept = self._epoch(epoch)
        numbers = np.arange(self.padded_rows)[slice(None) if rows is None else rows]
        filled = np.flatnonzero(numbers < self.rows)
        planned = order[within * self.rows + numbers[filled]]
        first = self.packing.row_start[planned]
        count = self.packing.row_start[planned + 1] - first
        chosen = segment_at[ranges(first, count)]
        segments = self.segments.take(chosen)
        sequences = self._read(segments.sequence)
        items, prompts = self._items_and_prompts(chosen, segments, sequences, epoch)
        length = segments.stop - segments.start
        end = np.cumsum(length)
        prefix, vectors = self._prefixes(segments, sequences, prompts, kept[chosen])
        sampler, with_prompt = self.mixture.prompts, np.isin(segments.task, tasks.WITH_PROMPT)
        shares = self.tokenizer.code_shares
        placed = PlacedSegments(
            row=np.repeat(filled, count),
            prefix=prefix,
            vectors=vectors,
            first_item=end - length,
            length=length,
            first_target=segments.first_target,
            causal=np.full(len(segments), self.causal),
            weight=None if sampler is None else np.where(with_prompt, sampler.cfg.weight, 1).astype(np.float32),
            part=None if shares is None else segments.sequence % shares.transitions.parts,
        )
        shape = RowShape(self.packing.row_tokens, self.packing.row_targets, self._row_segments)
        examples = assemble_rows(placed, items, self.tokenizer, len(numbers), shape)
        if sampler is None or not sampler.cfg.texts:
            return examples
        return examples._replace(texts=self._texts(step, numbers, sampler))

    def _items_and_prompts(
        self, chosen: np.ndarray, segments: Segments, sequences: FlatSequences, epoch: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns the concatenated items of the `chosen` segments of the plan, int32[n], and the pieces of prompts."""
        length = segments.stop - segments.start
        items = sequences.items[ranges(sequences.start + segments.start, length)]
        end, prompts, sampler = np.cumsum(length), [NO_PIECES] * len(segments), self.mixture.prompts
        if sampler is None:
            return items, prompts
        for number in np.flatnonzero(np.isin(segments.task, tasks.WITH_PROMPT)):
            random = np.random.default_rng((self.seed, epoch, int(chosen[number])))
            last = end[number] - 1
            history, task = items[end[number] - length[number] : last], segments.task[number]
            items[last], text = tasks.sample_prompt(task, sampler, history, int(items[last]), random)
            prompts[number] = self.tokenizer.prompt(text, serving=False)
        return items, prompts

    def _prefixes(
        self, segments: Segments, sequences: FlatSequences, prompts: list[np.ndarray], kept: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Returns the prefix tokens and the vectors of segments.

        `kept` bool[segments, features and vectors] tells which parts of the context are not dropped.
        """
        context, user_features = self.tokenizer.context, self.tokenizer.user_features
        codes, features = user_features.codes[sequences.rows], len(context.features)
        chosen = np.flatnonzero(segments.task == tasks.REQUEST_TIME)
        target = (sequences.start + segments.stop - 1)[chosen]
        for number, feature in enumerate(context.features):
            if feature.of == "item":
                codes[chosen, number] = self.mixture.item_feature_codes[sequences.items[target], number]
            elif feature.of == "time":
                codes[chosen, number] = [feature.code(float(hour)) for hour in sequences.hours[target]]
        codes[~kept[:, :features]] = ABSENT
        before = zip(sequences.start, segments.start, strict=True)
        earlier = [sequences.items[first : first + count] for first, count in before] if context.vectors else []
        vectors, has_vector = [], np.zeros((len(segments), len(context.vectors)), bool)
        for number, vector in enumerate(context.vectors):
            wanted = kept[:, features + number]
            found, has_vector[:, number] = user_features.vectors_of(vector, sequences.rows, earlier, wanted)
            vectors.append(found)
        return prefix_tokens(self.tokenizer, sequences.users, codes, has_vector, prompts), tuple(vectors)

    def _texts(self, step: int, numbers: np.ndarray, sampler: PromptSampler) -> TextExamples:
        """Returns a text task for each row that has segments, from the history of a random segment of the log."""
        cfg, vocabulary = sampler.cfg, self.tokenizer.vocabulary
        weights = np.cumsum([cfg.item_title, cfg.item_attributes, cfg.taste])
        kinds = np.zeros(len(numbers), np.int32)
        pieces = np.full((len(numbers), cfg.longest_text), -1, np.int32)
        rows: list[list[Segment]] = [[] for _ in numbers]
        filled = np.flatnonzero(numbers < self.rows)
        randoms = [np.random.default_rng((self.seed, int(step), int(numbers[row]), 1)) for row in filled]
        chosen = np.array([self._log[int(random.integers(len(self._log)))] for random in randoms], np.int64)
        sequences = self._read(self.segments.sequence[chosen])
        for row, random, segment, begin in zip(filled, randoms, chosen, sequences.start, strict=True):
            history = sequences.items[begin + self.segments.start[segment] : begin + self.segments.stop[segment]]
            kind = int(np.searchsorted(weights, random.random() * weights[-1], side="right"))
            items, text = tasks.sample_text(kind, sampler, history, random)
            target = np.append(vocabulary.encode(text), vocabulary.end)[: cfg.longest_text]
            kinds[row], pieces[row, : len(target)] = kind, target
            # Texts do not depend on the user. The last item, a target, is not encoded: any will do.
            rows[row] = [Segment(ANONYMOUS, np.append(items, np.int32(0)), len(items), self.causal, ALL_WITHHELD)]
        longest = self.tokenizer.length(self._max_history + 1)
        tokenizer = self.tokenizer._replace(code_shares=None, mention_finder=None)
        return TextExamples(pack(rows, tokenizer, longest, 1).histories, pieces, kinds)

    def iterate(self, first_step: int, steps: int, rows: slice | np.ndarray | None = None) -> Iterator[Examples]:
        """Yields the batches first_step .. steps - 1, or the given rows of them, prefetched by Grain in threads."""
        source = grain.MapDataset.range(first_step, steps).map(functools.partial(self.batch, rows=rows))
        # Several threads overlap their waits for a disk or a bucket; from memory they would only wait for each other.
        threads = PREFETCH if self._loaded is None else 1
        return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCH)))

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the order of the rows, the segment at each place, and what of its context each segment keeps."""
        with self._lock:  # at the first step of an epoch, one of the threads permutes
            return self._permute(epoch)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (one object per run)
    def _permute(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng((self.seed, epoch))
        rows = random.permutation(self.packing.rows)
        shuffled = random.permutation(len(self.segments))
        by_shape = shuffled[sort_by_shape(self.length[shuffled], self.targets[shuffled])]
        kept = random.random((len(self.segments), len(self.tokenizer.context.names))) >= self.mixture.context.dropout
        kept &= random.random((len(self.segments), 1)) >= self.mixture.context.drop_all
        return rows, by_shape[self.packing.place], kept

    def _read(self, indices: np.ndarray) -> FlatSequences:
        """Returns sequences whose `users`, `rows` and `start` are those at `indices`, int[n]."""
        if self._loaded is not None:
            return self._loaded.take(indices)
        distinct, place = np.unique(indices, return_inverse=True)
        return flat_sequences.read(self.sequences, distinct, self.tokenizer).take(place)

"""The training input: packed batches that are a pure function of (seed, step), served through Grain.

The plan is made once, from the lengths of the training sequences: users longer than the window are cut into segments,
and segments are packed into rows by their *shape* (tokens, targets). An epoch then only permutes: which of the equally
shaped segments takes which place, and the order of the rows. So every epoch has the same number of steps, step n can
be built without its predecessors, and a restart needs to know nothing but n.
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
    NOBODY,
    Examples,
    PlacedSegments,
    Segment,
    Texts,
    Tokenizer,
    lay_out,
    pack,
    prefix_tokens,
    ranges,
)
from genrec.input_pipeline.packing import choose_row_targets, pack_shapes, sort_by_shape
from genrec.input_pipeline.tasks import LOG_ALONE, Mixture, Segments

MEMORY = 2**30  # bytes, 215 million items
PREFETCH = 8  # batches
NO_PROMPT = np.zeros(0, np.int32)


def cut(lengths: np.ndarray, max_history: int, every: bool) -> Segments:
    """Cuts records so that every item is a target exactly once.

    `every`: windows of `max_history` items and the one after them; a later window begins with the last target of the
    one before. Otherwise one segment per item, with the up to `max_history` items before it.
    """
    lengths = np.asarray(lengths, np.int64)
    if every:
        # n items make one window, plus one for each started max_history items beyond max_history + 1.
        per_record = np.where(lengths > 0, 1 + np.maximum(0, -(-(lengths - 1 - max_history) // max_history)), 0)
    else:
        per_record = lengths
    record = np.repeat(np.arange(len(lengths)), per_record)
    number = ranges(0, per_record)
    if every:
        start = number * max_history
        stop = np.minimum(start + max_history + 1, lengths[record])
        first_target = np.where(number == 0, 0, 1)
    else:
        start = np.maximum(0, number - max_history)
        stop = number + 1
        first_target = stop - 1 - start
    task = np.full(len(record), tasks.LOG)
    return Segments(*(array.astype(np.int32) for array in (record, start, stop, first_target, task)))


class TrainingBatches:
    """Batches of the training split; `batch(step)` depends on the data, the settings, the seed and the step alone.

    A batch has `rows` rows with segments, then empty ones up to `padded_rows`, a multiple of `rows_multiple`: what a
    step trains on does not depend on the number of devices that share it.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokenizer: Tokenizer,
        cfg: config.Training,
        seed: int,
        rows_multiple: int = 1,
        memory: int = MEMORY,
        mixture: Mixture = LOG_ALONE,
    ):
        """`memory`: bytes that the items of all sequences may take; where they take more, batches are read from disk.
        `mixture`: the tasks beside the log.

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
        # The same for every mesh, and however many parts the gradients are added up in: a run may change both.
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
        """Targets of an average step, without padding."""
        return float(self.targets.sum()) / self.packing.rows * self.rows

    @property
    def padding(self) -> float:
        """Share of the encoder tokens and targets of a batch that are padding."""
        within_rows = self.packing.padding(self.length.sum(), self.targets.sum(), self.tokenizer.levels)
        return 1 - (1 - within_rows) * self.rows / self.padded_rows

    def batch(self, step: int, rows: slice | np.ndarray | None = None) -> Examples:
        """The batch of a step: all of its `padded_rows` rows, or those with the given numbers and no others.

        `rows`, a slice or int[n], selects as it does from an array: `batch(step, rows)` equals `batch(step)` with every
        array indexed by `rows`, but only the records of these rows are read.
        """
        epoch, within = divmod(int(step), self.steps_per_epoch)
        order, segment_at, kept = self._epoch(epoch)
        numbers = np.arange(self.padded_rows)[slice(None) if rows is None else rows]
        filled = np.flatnonzero(numbers < self.rows)
        planned = order[within * self.rows + numbers[filled]]
        first = self.packing.row_start[planned]
        count = self.packing.row_start[planned + 1] - first
        chosen = segment_at[ranges(first, count)]
        sequences, place = self._read(self.segments.record[chosen])
        items, prompts = self._contents(chosen, sequences, place, epoch)
        length = self.segments.stop[chosen] - self.segments.start[chosen]
        first_item = np.cumsum(length) - length
        prefix, vectors = self._prefixes(
            chosen, sequences, place, items[first_item + length - 1], prompts, None if kept is None else kept[chosen]
        )
        placed = PlacedSegments(
            row=np.repeat(filled, count),
            prefix=prefix,
            vectors=vectors,
            first_item=first_item,
            length=length,
            first_target=self.segments.first_target[chosen],
            causal=np.full(len(chosen), self.causal),
            weight=self._weights(chosen),
        )
        packing, total = self.packing, len(numbers)
        examples = lay_out(
            placed, items, self.tokenizer, total, packing.row_tokens, packing.row_targets, self._row_segments
        )
        return examples._replace(texts=self._texts(step, numbers)) if self.mixture.prompts.texts else examples

    def _weights(self, chosen: np.ndarray) -> np.ndarray | None:
        """float32[segments], of the chosen segments' targets; None where all have 1."""
        if self.mixture.maker is None:
            return None
        with_prompt = np.isin(self.segments.task[chosen], tasks.WITH_PROMPT)
        return np.where(with_prompt, self.mixture.prompts.weight, 1).astype(np.float32)

    def _contents(
        self, chosen: np.ndarray, sequences: flat_sequences.FlatSequences, place: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The items of the chosen segments, end to end, and the prompt of each, in pieces."""
        start, stop = self.segments.start[chosen], self.segments.stop[chosen]
        items = sequences.items[ranges(sequences.start[place] + start, stop - start)]
        end = np.cumsum(stop - start)
        prompts = [NO_PROMPT] * len(chosen)
        task = self.segments.task[chosen]
        for segment in np.flatnonzero(np.isin(task, tasks.WITH_PROMPT)):
            random = np.random.default_rng((self.seed, epoch, int(chosen[segment])))
            last = end[segment] - 1
            history = items[end[segment] - (stop - start)[segment] : last]
            items[last], text = tasks.ask(task[segment], self.mixture.maker, history, int(items[last]), random)
            prompts[segment] = self.tokenizer.prompt(text, serving=False)
        return items, prompts

    def _prefixes(
        self,
        chosen: np.ndarray,
        sequences: flat_sequences.FlatSequences,
        place: np.ndarray,
        targets: np.ndarray,
        prompts: list[np.ndarray],
        kept: np.ndarray | None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Prefix tokens and vectors of the chosen segments.

        `targets` int32[segments] are their last items, `kept` bool[segments, features and vectors] what is not left
        out.
        """
        context, known = self.tokenizer.context, self.tokenizer.known
        rows, features = sequences.rows[place], len(context.features)
        codes = known.codes[rows]
        there = np.zeros((len(chosen), len(context.soft)), bool)
        vectors: list[np.ndarray] = []
        if kept is not None:
            is_request_time = self.segments.task[chosen] == tasks.REQUEST_TIME
            for number, feature in enumerate(context.features):
                if feature.of == "item":
                    codes[is_request_time, number] = self.mixture.item_codes[targets[is_request_time], number]
                elif feature.of == "time":
                    at = sequences.start[place] + self.segments.stop[chosen] - 1
                    codes[is_request_time, number] = [
                        feature.code(float(hour)) for hour in sequences.hours[at[is_request_time]]
                    ]
            codes[~kept[:, :features]] = ABSENT
            before = zip(sequences.start[place], self.segments.start[chosen], strict=True)
            earlier = [sequences.items[first : first + count] for first, count in before] if context.soft else []
            for number, soft in enumerate(context.soft):
                found, there[:, number] = known.vectors_of(soft, rows, earlier, kept[:, features + number])
                vectors.append(found)
        return prefix_tokens(self.tokenizer, sequences.users[place], codes, there, prompts), tuple(vectors)

    def _texts(self, step: int, numbers: np.ndarray) -> Texts:
        """A text beside each row: what is read, and what shall be written."""
        cfg, maker = self.mixture.prompts, self.mixture.maker
        weights = np.cumsum([cfg.item_title, cfg.item_attributes, cfg.taste])
        kinds = np.zeros(len(numbers), np.int32)
        pieces = np.full((len(numbers), cfg.longest_text), -1, np.int32)
        rows: list[list[Segment]] = [[] for _ in numbers]
        filled = np.flatnonzero(numbers < self.rows)
        randoms = [np.random.default_rng((self.seed, int(step), int(numbers[row]), 1)) for row in filled]
        chosen = np.array([self._log[int(random.integers(len(self._log)))] for random in randoms], np.int64)
        sequences, place = self._read(self.segments.record[chosen])
        for row, random, segment, at in zip(filled, randoms, chosen, place, strict=True):
            begin = sequences.start[at]
            history = sequences.items[begin + self.segments.start[segment] : begin + self.segments.stop[segment]]
            kind = int(np.searchsorted(weights, random.random() * weights[-1], side="right"))
            items, text = tasks.write(kind, maker, history, random)
            said = np.append(self.tokenizer.vocabulary.encode(text), self.tokenizer.vocabulary.end)[: cfg.longest_text]
            kinds[row], pieces[row, : len(said)] = kind, said
            # About items, whoever chose them. The last one is only a target, and there is none.
            rows[row] = [Segment(NOBODY, np.append(items, np.int32(0)), len(items), self.causal, ALL_WITHHELD)]
        longest = self.tokenizer.length(self._max_history + 1)
        return Texts(pack(rows, self.tokenizer, longest, 1).histories, pieces, kinds)

    def iterate(self, first_step: int, steps: int, rows: slice | np.ndarray | None = None) -> Iterator[Examples]:
        """Batches first_step .. steps - 1, or the given rows of them, prepared ahead by Grain in threads."""
        source = grain.MapDataset.range(first_step, steps).map(functools.partial(self.batch, rows=rows))
        # Several threads wait for a disk or a bucket at the same time; from memory they would only wait for each other.
        threads = PREFETCH if self._loaded is None else 1
        return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCH)))

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The order of the rows, the segment at each place, and which features and vectors each segment keeps."""
        with self._lock:  # of several threads at the first step of an epoch, one permutes
            return self._permute(epoch)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (one object per run)
    def _permute(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        random = np.random.default_rng((self.seed, epoch))
        rows = random.permutation(self.packing.rows)
        shuffled = random.permutation(len(self.segments))
        by_shape = shuffled[sort_by_shape(self.length[shuffled], self.targets[shuffled])]
        kept = None
        if parts := len(self.tokenizer.context.names):
            cfg = self.mixture.context
            kept = random.random((len(self.segments), parts)) >= cfg.dropout
            kept &= random.random((len(self.segments), 1)) >= cfg.drop_all
        return rows, by_shape[self.packing.place], kept

    def _read(self, records: np.ndarray) -> tuple[flat_sequences.FlatSequences, np.ndarray]:
        """Sequences among which are those of `records`, int[n], and the place of each there."""
        if self._loaded is not None:
            return self._loaded, records
        distinct, place = np.unique(records, return_inverse=True)
        return flat_sequences.read(self.sequences, distinct, self.tokenizer), place

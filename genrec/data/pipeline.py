"""The training input: packed batches that are a pure function of (seed, step), served through Grain.

The plan is made once, from the lengths of the training sequences: users longer than the window are cut into segments,
and segments are packed into rows by their *shape* (tokens, targets). An epoch then only permutes: which of the equally
shaped segments takes which place, and the order of the rows. So every epoch has the same number of steps, step n can
be built without its predecessors, and a restart needs to know nothing but n.
"""

import dataclasses
import functools
import math
import threading
from collections.abc import Iterator

import grain
import numpy as np

from genrec import config
from genrec.data import flat
from genrec.data.dataset import Sequences
from genrec.data.errors import DataError
from genrec.data.examples import Examples, PlacedSegments, Tokens, lay_out, ranges

MEMORY = 2**30  # bytes, 268 million items
PREFETCH = 8  # batches
ENOUGH_PADDING = 0.06  # share of a batch; below it, a smaller row is worth more than less padding


@dataclasses.dataclass(frozen=True)
class Segments:
    """Parts of the training sequences, as parallel arrays int32[segments]."""

    record: np.ndarray
    start: np.ndarray  # items[start:stop] of the record take part
    stop: np.ndarray
    first_target: np.ndarray  # counted from `start`

    def __len__(self) -> int:
        return len(self.record)


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
    return Segments(*(array.astype(np.int32) for array in (record, start, stop, first_target)))


@dataclasses.dataclass(frozen=True)
class Packing:
    """Places for segments: row r has the places row_start[r] to row_start[r + 1]."""

    row_start: np.ndarray  # int64[rows + 1]
    place: np.ndarray  # int64[segments]: the segment of each place, as an index into segments sorted by shape
    row_tokens: int
    row_targets: int

    @property
    def rows(self) -> int:
        return len(self.row_start) - 1

    def padding(self, tokens: int, targets: int, levels: int) -> float:
        """Share of encoder tokens and of target tokens that stay empty when so many of both are placed."""
        return 1 - (tokens + levels * targets) / (self.rows * (self.row_tokens + levels * self.row_targets))


def pack_shapes(tokens: np.ndarray, targets: np.ndarray, row_targets: int) -> Packing:
    """Packs segments, sorted by shape, into rows of `row_targets` targets and about as many tokens as these bring
    along.

    Rows are filled one after another: a first segment of the shape with the most tokens that are left, then again and
    again the shape that comes nearest to using up the row's tokens and targets in equal measure.
    """
    total_tokens, total_targets = int(tokens.sum()), int(targets.sum())
    row_targets = max(row_targets, int(targets.max()))
    row_tokens = max(int(tokens.max()), math.ceil(row_targets * total_tokens / total_targets))
    first = _first_of_shapes(tokens, targets)
    shapes = np.stack([tokens[first], targets[first]], axis=1)
    left = np.diff(first, append=len(tokens))
    taken = np.zeros_like(left)
    places, segments_per_row = [], []
    while left.any():
        row, number = _fill_row(shapes, left, np.array([row_tokens, row_targets]))
        used = np.bincount(row, minlength=len(shapes))
        some = used > 0
        # As long as more of each shape is left than a row uses, the next row comes out the same: make these at once.
        repeats = max(1, int(((left[some] - 1) // used[some]).min()))
        place = (first + taken)[row] + number
        places.append((place + used[row] * np.arange(repeats)[:, None]).reshape(-1))
        segments_per_row.append(np.full(repeats, len(row)))
        taken += used * repeats
        left -= used * repeats
    row_start = np.concatenate([[0], np.cumsum(np.concatenate(segments_per_row))])
    return Packing(row_start, np.concatenate(places), row_tokens, row_targets)


def _sort_by_shape(tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """int64[segments]: the order by (tokens, targets), equal ones as they come."""
    shape = tokens.astype(np.int64) * (int(targets.max()) + 1) + targets
    # NumPy sorts integers of up to 16 bits by radix, ten times as fast.
    return np.argsort(shape.astype(np.min_scalar_type(shape.max())), kind="stable")


def _first_of_shapes(tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """int64[shapes]: the first segment of each shape, of segments that are sorted by shape."""
    changes = (np.diff(tokens) != 0) | (np.diff(targets) != 0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _fill_row(shapes: np.ndarray, left: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapes of the segments of one row, and for each how many of the same shape come before it in the row."""
    before, left, room = left, left.copy(), whole
    row, number = [], []
    while True:
        fits = (left > 0) & (shapes <= room).all(axis=1)
        if not fits.any():
            return np.array(row), np.array(number)
        if not row:
            choice = np.flatnonzero(fits)[-1]
        else:
            rest = ((room - shapes) / whole).max(axis=1)
            choice = np.argmin(np.where(fits, rest, np.inf))
        row.append(choice)
        number.append(before[choice] - left[choice])
        left[choice] -= 1
        room = room - shapes[choice]


def choose_row_targets(tokens: np.ndarray, targets: np.ndarray, levels: int, least: int) -> int:
    """The first row size from `least` to twice that with little enough padding, judged by a sample of the segments.

    Small rows are preferred: attention over a row costs the square of its length.
    """
    every = max(1, len(tokens) // 4096)
    tokens, targets = tokens[::every], targets[::every]
    padding = {}
    for row_targets in range(least, 2 * least + 1, max(1, least // 6)):
        packing = pack_shapes(tokens, targets, row_targets)
        padding[row_targets] = packing.padding(tokens.sum(), targets.sum(), levels)
        if padding[row_targets] <= ENOUGH_PADDING:
            break
    return min(padding, key=padding.get)


class TrainingBatches:
    """Batches of the training split; `batch(step)` depends on the data, the settings, the seed and the step alone.

    A batch has `rows` rows with segments, then empty ones up to `padded_rows`, a multiple of `rows_multiple`: what a
    step trains on does not depend on the number of devices that share it.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokens: Tokens,
        cfg: config.Training,
        seed: int,
        rows_multiple: int = 1,
        memory: int = MEMORY,
    ):
        """`memory`: bytes that the items of all sequences may take; where they take more, batches are read from disk.

        Raises DataError when there are no items, ConfigError for `targets` that do not exist.
        """
        self.sequences, self.tokens, self.seed = sequences, tokens, seed
        if cfg.targets not in ("every", "last"):
            raise config.ConfigError(f"training.targets={cfg.targets!r}: choose every or last")
        self.causal = cfg.targets == "every"
        segments = cut(sequences.lengths, cfg.max_history, every=self.causal)
        if len(segments) == 0:
            raise DataError("the training split has no items; loosen the filters of stage `prepare`")
        length = tokens.length(segments.stop - segments.start - 1)
        targets = segments.stop - segments.start - segments.first_target
        order = _sort_by_shape(length, targets)
        self.segments = Segments(*(getattr(segments, f.name)[order] for f in dataclasses.fields(Segments)))
        self.length, self.targets = length[order], targets[order]
        row_targets = choose_row_targets(self.length, self.targets, tokens.levels, cfg.row_targets)
        self.packing = pack_shapes(self.length, self.targets, row_targets)
        # The same for every mesh, and however many parts the gradients are added up in: a run may change both.
        self.rows = max(1, min(cfg.batch_targets // self.packing.row_targets, self.packing.rows))
        self.padded_rows = math.ceil(self.rows / rows_multiple) * rows_multiple
        self.steps_per_epoch = self.packing.rows // self.rows
        item_bytes = 4 * int(sequences.lengths.sum(dtype=np.int64))
        self._lock = threading.Lock()
        self._loaded = None if item_bytes > memory else flat.load(sequences, tokens.user)

    @property
    def targets_per_step(self) -> float:
        """Targets of an average step, without padding."""
        return float(self.targets.sum()) / self.packing.rows * self.rows

    @property
    def padding(self) -> float:
        """Share of the encoder tokens and targets of a batch that are padding."""
        within_rows = self.packing.padding(self.length.sum(), self.targets.sum(), self.tokens.levels)
        return 1 - (1 - within_rows) * self.rows / self.padded_rows

    def batch(self, step: int, rows: slice | np.ndarray | None = None) -> Examples:
        """The batch of a step: all of its `padded_rows` rows, or those with the given numbers and no others.

        `rows`, a slice or int[n], selects as it does from an array: `batch(step, rows)` equals `batch(step)` with every
        array indexed by `rows`, but only the records of these rows are read.
        """
        epoch, within = divmod(int(step), self.steps_per_epoch)
        order, segment_at = self._epoch(epoch)
        numbers = np.arange(self.padded_rows)[slice(None) if rows is None else rows]
        filled = np.flatnonzero(numbers < self.rows)
        planned = order[within * self.rows + numbers[filled]]
        first = self.packing.row_start[planned]
        count = self.packing.row_start[planned + 1] - first
        chosen = segment_at[ranges(first, count)]
        sequences, place = self._read(self.segments.record[chosen])
        start = self.segments.start[chosen]
        placed = PlacedSegments(
            row=np.repeat(filled, count),
            user=sequences.users[place],
            first_item=sequences.start[place] + start,
            length=self.segments.stop[chosen] - start,
            first_target=self.segments.first_target[chosen],
            causal=np.full(len(chosen), self.causal),
        )
        packing = self.packing
        return lay_out(placed, sequences.items, self.tokens, len(numbers), packing.row_tokens, packing.row_targets)

    def iterate(self, first_step: int, steps: int, rows: slice | np.ndarray | None = None) -> Iterator[Examples]:
        """Batches first_step .. steps - 1, or the given rows of them, prepared ahead by Grain in threads."""
        source = grain.MapDataset.range(first_step, steps).map(functools.partial(self.batch, rows=rows))
        # Several threads wait for a disk or a bucket at the same time; from memory they would only wait for each other.
        threads = PREFETCH if self._loaded is None else 1
        return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCH)))

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the rows, and the segment at each place."""
        with self._lock:  # of several threads at the first step of an epoch, one permutes
            return self._permute(epoch)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (one object per run)
    def _permute(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng((self.seed, epoch))
        rows = random.permutation(self.packing.rows)
        shuffled = random.permutation(len(self.segments))
        by_shape = shuffled[_sort_by_shape(self.length[shuffled], self.targets[shuffled])]
        return rows, by_shape[self.packing.place]

    def _read(self, records: np.ndarray) -> tuple[flat.FlatSequences, np.ndarray]:
        """Sequences among which are those of `records`, int[n], and the place of each there."""
        if self._loaded is not None:
            return self._loaded, records
        distinct, place = np.unique(records, return_inverse=True)
        return flat.read(self.sequences, distinct, self.tokens.user), place

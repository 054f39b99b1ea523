"""The training input: packed batches that are a pure function of (seed, step), served through Grain.

The plan is made once, from the lengths of the training sequences: users longer than the window are cut into segments,
and segments are packed into rows by their *shape* (tokens, targets). An epoch then only permutes: which of the equally
shaped segments takes which place, and the order of the rows. So every epoch has the same number of steps, step n can
be built without its predecessors, and a restart needs to know nothing but n.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import grain
import numpy as np

from genrec import config
from genrec.data.dataset import Sequences
from genrec.data.errors import DataError
from genrec.data.examples import Examples, Segment, Tokens, pack

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
    number = np.arange(len(record)) - np.repeat(np.cumsum(per_record) - per_record, per_record)
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
    shapes, first, left = np.unique(np.stack([tokens, targets], axis=1), axis=0, return_index=True, return_counts=True)
    left = left.copy()
    taken = np.zeros(len(shapes), np.int64)
    place, row_start = [], [0]
    while left.sum():
        room = np.array([row_tokens, row_targets])
        while True:
            fits = (left > 0) & (shapes <= room).all(axis=1)
            if not fits.any():
                break
            if room[1] == row_targets:
                choice = np.flatnonzero(fits)[-1]
            else:
                rest = (room - shapes) / (row_tokens, row_targets)
                choice = np.argmin(np.where(fits, rest.max(axis=1), np.inf))
            place.append(first[choice] + taken[choice])
            taken[choice] += 1
            left[choice] -= 1
            room = room - shapes[choice]
        row_start.append(len(place))
    return Packing(np.array(row_start), np.array(place), row_tokens, row_targets)


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
    """Batches of the training split; `batch(step)` depends on the arguments and the step alone."""

    def __init__(self, sequences: Sequences, tokens: Tokens, cfg: config.Training, seed: int, rows_multiple: int = 1):
        self.sequences, self.tokens, self.seed = sequences, tokens, seed
        if cfg.targets not in ("every", "last"):
            raise config.ConfigError(f"training.targets={cfg.targets!r}: choose every or last")
        self.causal = cfg.targets == "every"
        segments = cut(sequences.lengths, cfg.max_history, every=self.causal)
        if len(segments) == 0:
            raise DataError("the training split has no items; loosen the filters of stage `prepare`")
        length = tokens.length(segments.stop - segments.start - 1)
        targets = segments.stop - segments.start - segments.first_target
        order = np.lexsort((targets, length))  # as np.unique sorts (tokens, targets)
        self.segments = Segments(*(getattr(segments, f.name)[order] for f in dataclasses.fields(Segments)))
        self.length, self.targets = length[order], targets[order]
        row_targets = choose_row_targets(self.length, self.targets, tokens.levels, cfg.row_targets)
        self.packing = pack_shapes(self.length, self.targets, row_targets)
        self.rows_with_targets = max(1, min(cfg.batch_targets // self.packing.row_targets, self.packing.rows))
        self.rows = -(-self.rows_with_targets // rows_multiple) * rows_multiple
        self.steps_per_epoch = self.packing.rows // self.rows_with_targets

    @property
    def targets_per_step(self) -> float:
        """Targets of an average step, without padding."""
        return float(self.targets.sum()) / self.packing.rows * self.rows_with_targets

    @property
    def padding(self) -> float:
        """Share of the encoder tokens and targets of a batch that are padding."""
        return self.packing.padding(self.length.sum(), self.targets.sum(), self.tokens.levels)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (one object per run)
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the rows, and the segment at each place."""
        random = np.random.default_rng((self.seed, epoch))
        rows = random.permutation(self.packing.rows)
        shuffled = random.permutation(len(self.segments))
        by_shape = shuffled[np.lexsort((self.targets[shuffled], self.length[shuffled]))]
        return rows, by_shape[self.packing.place]

    def batch(self, step: int) -> Examples:
        epoch, within = divmod(int(step), self.steps_per_epoch)
        rows, segment_at = self._epoch(epoch)
        chosen = rows[within * self.rows_with_targets : (within + 1) * self.rows_with_targets]
        starts = self.packing.row_start
        places = [segment_at[starts[row] : starts[row + 1]] for row in chosen]
        segments = np.concatenate(places)
        records = iter(self.sequences.read(self.segments.record[segments]))
        parts = iter(
            Segment(record.user_id, record.items[start:stop], int(first_target), self.causal)
            for record, start, stop, first_target in zip(
                records,
                self.segments.start[segments],
                self.segments.stop[segments],
                self.segments.first_target[segments],
                strict=True,
            )
        )
        packed_rows = [[next(parts) for _ in row] for row in places]
        packed_rows += [[]] * (self.rows - len(packed_rows))
        return pack(packed_rows, self.tokens, self.packing.row_tokens, self.packing.row_targets)

    def iterate(self, first_step: int, steps: int, own=None) -> Iterator[Examples]:
        """Batches first_step .. steps - 1, prepared ahead by Grain in a thread."""
        source = grain.MapDataset.range(first_step, steps).map(lambda step: jax_tree(self.batch(step), own))
        return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))


def jax_tree(e, own):
    import jax

    return e if own is None else jax.tree.map(lambda x: x[own], e)

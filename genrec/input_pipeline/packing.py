"""Packing of segments into rows by shape: the number of encoder tokens and the number of targets of each."""

import dataclasses
import math

import numpy as np

ENOUGH_PADDING = 0.06  # share of a batch; below this, smaller rows are worth more than less padding


@dataclasses.dataclass(frozen=True)
class Packing:
    """An assignment of segments to rows: row r has the places row_start[r] to row_start[r + 1]."""

    row_start: np.ndarray  # int64[rows + 1]
    place: np.ndarray  # int64[segments]: the segment at each place, as an index into the segments sorted by shape
    row_tokens: int
    row_targets: int

    @property
    def rows(self) -> int:
        return len(self.row_start) - 1

    def padding(self, tokens: int, targets: int, levels: int) -> float:
        """Returns the share of padding among encoder and target tokens, when `tokens` and `targets` are placed."""
        return 1 - (tokens + levels * targets) / (self.rows * (self.row_tokens + levels * self.row_targets))


def pack_shapes(tokens: np.ndarray, targets: np.ndarray, row_targets: int) -> Packing:
    """Packs segments, sorted by shape, into rows of `row_targets` targets and proportionally many tokens.

    Rows are filled greedily, one after another: first with a segment of the largest shape that is left, then repeatedly
    with the shape that minimizes the larger of the row's two unused shares, of tokens and of targets.
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
        # While more of each shape is left than a row uses, the next row will be the same: these are made at once.
        repeats = max(1, int(((left[some] - 1) // used[some]).min()))
        place = (first + taken)[row] + number
        places.append((place + used[row] * np.arange(repeats)[:, None]).reshape(-1))
        segments_per_row.append(np.full(repeats, len(row)))
        taken += used * repeats
        left -= used * repeats
    row_start = np.concatenate([[0], np.cumsum(np.concatenate(segments_per_row))])
    return Packing(row_start, np.concatenate(places), row_tokens, row_targets)


def sort_by_shape(tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns int64[segments], the stable order by (tokens, targets)."""
    shape = tokens.astype(np.int64) * (int(targets.max()) + 1) + targets
    # NumPy sorts integers of up to 16 bits by radix, ten times as fast.
    return np.argsort(shape.astype(np.min_scalar_type(shape.max())), kind="stable")


def _first_of_shapes(tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns int64[shapes]: the first of each shape among segments that are sorted by shape."""
    changes = (np.diff(tokens) != 0) | (np.diff(targets) != 0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _fill_row(shapes: np.ndarray, left: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shapes of the segments of one row, and for each how many of the same shape precede it there."""
    before, left, room = left, left.copy(), whole
    row: list[int] = []
    number: list[int] = []
    while True:
        fits = (left > 0) & (shapes <= room).all(axis=1)
        if not fits.any():
            return np.array(row), np.array(number)
        if not row:
            choice = int(np.flatnonzero(fits)[-1])
        else:
            rest = ((room - shapes) / whole).max(axis=1)
            choice = int(np.argmin(np.where(fits, rest, np.inf)))
        row.append(choice)
        number.append(int(before[choice] - left[choice]))
        left[choice] -= 1
        room = room - shapes[choice]


def choose_row_targets(tokens: np.ndarray, targets: np.ndarray, levels: int, least: int) -> int:
    """Returns the smallest number of targets per row, from `least` to twice that, with little padding, else with least.

    The padding is estimated on a sample of the segments. Small rows are preferred: attention is quadratic in them.
    """
    every = max(1, len(tokens) // 4096)
    tokens, targets = tokens[::every], targets[::every]
    padding = {}
    for row_targets in range(least, 2 * least + 1, max(1, least // 6)):
        packing = pack_shapes(tokens, targets, row_targets)
        padding[row_targets] = packing.padding(tokens.sum(), targets.sum(), levels)
        if padding[row_targets] <= ENOUGH_PADDING:
            break
    return min(padding, key=lambda row_targets: padding[row_targets])

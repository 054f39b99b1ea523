"""Figures of the interactions that remain after filtering, which parts of the users add up to, and the cut times."""

import dataclasses
from collections.abc import Callable

import numpy as np

from genrec import config as configs
from genrec.data import splits

BINS = 1 << 16  # bins of a histogram of times

Ranges = tuple[tuple[int, int], ...]  # of times: start of the first bin, and width of a bin


@dataclasses.dataclass(frozen=True)
class Survey:
    """Statistics of the interactions that remain after filtering, of all users or of some."""

    popularity: np.ndarray  # int64[items], interactions
    first: int  # time of the oldest interaction
    last: int  # time of the newest
    pairs: int  # different pairs of user and item
    ties: int  # interactions at the same time as another of their user

    @classmethod
    def of(cls, sequences: splits.UserSequences, items: int) -> "Survey":
        """Returns the statistics of sequences over a catalogue of so many items."""
        limits = np.iinfo(np.int64)
        return cls(
            np.bincount(sequences.items, minlength=items),
            int(sequences.timestamps.min(initial=limits.max)),
            int(sequences.timestamps.max(initial=limits.min)),
            sequences.pairs,
            sequences.ties,
        )

    def merge(self, other: "Survey") -> "Survey":
        """Returns the statistics of the interactions of both."""
        return Survey(
            self.popularity + other.popularity,
            min(self.first, other.first),
            max(self.last, other.last),
            self.pairs + other.pairs,
            self.ties + other.ties,
        )


def histograms(times: np.ndarray, ranges: Ranges, number: int = BINS) -> np.ndarray:
    """Returns int64[ranges, number of bins], how many of the times int64[n] are in each bin."""
    counts = []
    for start, width in ranges:
        bins = (times - start) // width
        counts.append(np.bincount(bins[(bins >= 0) & (bins < number)], minlength=number))
    return np.array(counts)


def cut_times(
    survey: Survey, config: configs.Data, count: Callable[[Ranges], np.ndarray], number: int = BINS
) -> tuple[int, int]:
    """Returns the times at the ranks of `splits.cut_ranks`, by histograms refined until a bin is a microsecond.

    `count` returns the sum of `histograms`, of so many bins, over all times. Raises DataError as `splits.temporal`.
    """
    ranks = splits.cut_ranks(int(survey.popularity.sum()), config.validation_fraction, config.test_fraction)
    width = survey.last - survey.first + 1
    cuts = [(survey.first, rank) for rank in ranks]  # start of the bin with the cut, and the rank within the bin
    while width > 1:
        width = -(-width // number)
        counts = count(tuple((start, width) for start, _ in cuts))
        for place, (start, rank) in enumerate(cuts):
            until = np.cumsum(counts[place])
            chosen = int(np.searchsorted(until, rank, side="right"))
            cuts[place] = (start + chosen * width, rank - int(until[chosen] - counts[place][chosen]))
    splits.refuse_equal_cuts(survey.first, cuts[0][0], cuts[1][0])
    return cuts[0][0], cuts[1][0]

"""Mixture of transitions: the distribution of the next item from counts and content, without a network.

    q(i | history) = r(i) ((1 - c) sum_a v_a M[j_a, i] + c P(i)) / Z

j_a is the item at age a of the history (1 is the last), M is a sparse matrix whose rows sum to 1, and P the popularity
of the items. M is itself a mixture of kinds of transitions: to items that came next, in two steps, nearby, in the same
sequence, and to items of similar content. r(i) is 1 for items that are not in the history, and equal for all that are:
near 0 where nobody returns to an item, above 1 where most do. All weights are mixture weights, fitted on the validation
split by expectation maximization, and r by maximum likelihood: none is set by hand. The weights of ages are those of
the mixture transition distribution (Raftery, "A model for high-order Markov chains", 1985).

It is a baseline by itself (`ranking.transitions`), and what a generator with a transition bias learns on top of
(`models.transition_bias`). `learn_transitions` fits it. A training sequence is then scored by counts that leave out its
own part of the sequences: otherwise the model would learn to trust counts of the very transition that it predicts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from etils import epath

from genrec import artifacts, files
from genrec.data import dataset as datasets

KIND = "transitions"
FOLDER = "transitions"  # of a work directory
RECENT = 10  # last items of a history that are read
CELLS = 1 << 24  # users x items of mixtures that are held together
FLOOR = 1e-6  # share of a code without items, relative to all codes after the same prefix


@dataclasses.dataclass(frozen=True, eq=False)
class Transitions:
    """The learned mixture. `matrix` stacks the matrices of all parts: that of part p has the rows p * items onwards.

    Part p leaves out the sequences whose number in the training split is p modulo `parts`; the last matrix, that of
    part `parts`, leaves out none.
    """

    matrix: scipy.sparse.csr_matrix  # float32[(parts + 1) * items, items], rows sum to 1 or are empty
    ages: np.ndarray  # float32[RECENT], weights of the ages, the last item first
    popular: np.ndarray  # float32[items], sums to 1
    popular_weight: float  # c
    repeat: float  # r of items in the history

    @property
    def items(self) -> int:
        return self.matrix.shape[1]

    @property
    def parts(self) -> int:
        return self.matrix.shape[0] // self.items - 1

    @property
    def at_once(self) -> int:
        """The number of histories whose mixtures, of all items each, are held together."""
        return int(np.clip(CELLS // self.items, 1, 256))

    def sparse(
        self, items: np.ndarray, start: np.ndarray, stop: np.ndarray, part: np.ndarray | None = None
    ) -> scipy.sparse.csr_matrix:
        """Returns float32[n, items]: q Z - c P after each of the histories items[start[i] : stop[i]].

        `part` int[n] is the part of the sequences that is left out for each, by default none.
        """
        found = self._without_repeat(items, start, stop, part)
        own = membership(items, start, stop, self.items)
        popular = own.copy()
        popular.data = self.popular_weight * self.popular[own.indices]
        return (found + np.float32(self.repeat - 1) * (found.multiply(own) + popular)).astype(np.float32).tocsr()

    def _without_repeat(
        self, items: np.ndarray, start: np.ndarray, stop: np.ndarray, part: np.ndarray | None = None
    ) -> scipy.sparse.csr_matrix:
        """Returns what `sparse` is for r = 1: the first term of the mixture."""
        ages = np.minimum(stop - start, RECENT)
        row = np.repeat(np.arange(len(ages)), ages)
        age = np.arange(len(row)) - np.repeat(np.cumsum(ages) - ages, ages)
        total = np.concatenate([[1], np.cumsum(self.ages)])[ages]  # a short history has fewer ages
        weights = (1 - self.popular_weight) * self.ages[age] / total[row]
        column = items[np.repeat(stop, ages) - 1 - age].astype(np.int64)
        column += self.items * (self.parts if part is None else part[row].astype(np.int64))
        histories = scipy.sparse.csr_matrix(
            (weights.astype(np.float32), column, np.concatenate([[0], np.cumsum(ages)])),
            (len(ages), self.matrix.shape[0]),
        )
        return histories @ self.matrix

    def dense(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32[n, items]: the mixture after each history, int[length], oldest first."""
        # As `sparse`, in dense arrays: for the few histories of a request SciPy takes six times as long.
        recent = [one[::-1][:RECENT] for one in histories]
        ages = np.array([len(one) for one in recent], np.int64)
        row = np.repeat(np.arange(len(recent)), ages)
        age = np.arange(len(row)) - np.repeat(np.cumsum(ages) - ages, ages)
        total = np.concatenate([[1], np.cumsum(self.ages)])[ages]
        weights = ((1 - self.popular_weight) * self.ages[age] / total[row]).astype(np.float32)
        column = _joined(recent) + self.items * self.parts
        first = self.matrix.indptr[column].astype(np.int64)
        length = self.matrix.indptr[column + 1] - first
        at = np.arange(length.sum()) + np.repeat(first - (np.cumsum(length) - length), length)
        found = np.zeros(len(histories) * self.items, np.float32)
        place = self.matrix.indices[at] + np.repeat(row * self.items, length)
        np.add.at(found, place, np.repeat(weights, length) * self.matrix.data[at])
        owner = np.repeat(np.arange(len(histories)), np.array([len(one) for one in histories], np.int64))
        own = np.unique(owner * self.items + _joined(histories))
        popular = self.popular_weight * self.popular
        found[own] += np.float32(self.repeat - 1) * (found[own] + popular[own % self.items])
        mixed = found.reshape(-1, self.items) + np.float32(self.popular_weight) * self.popular
        return mixed / mixed.sum(axis=1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the mixture that leaves out none of the sequences, as arrays by name; see `of_arrays`."""
        whole = self.matrix[self.parts * self.items :]
        weights = np.array([self.popular_weight, self.repeat])
        parts = {name: getattr(whole, name) for name in ("data", "indices", "indptr")}
        return {**parts, "ages": self.ages, "popular": self.popular, "weights": weights}

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> "Transitions":
        """Returns the mixture of the result of `arrays`."""
        ages, popular, (popular_weight, repeat) = (arrays[name] for name in ("ages", "popular", "weights"))
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        matrix = scipy.sparse.csr_matrix(parts, (len(popular), len(popular)))
        return Transitions(matrix, ages, popular, float(popular_weight), float(repeat))

    def save(self, folder: epath.Path) -> None:
        """Writes the mixture into a folder."""
        for name in ("data", "indices", "indptr"):
            files.save_array(folder / f"{name}.npy", getattr(self.matrix, name))
        files.save_array(folder / "ages.npy", self.ages)
        files.save_array(folder / "popular.npy", self.popular)
        files.write_json(folder / "weights.json", {"popular": self.popular_weight, "repeat": self.repeat})

    @staticmethod
    def load(folder: epath.PathLike) -> "Transitions":
        """Reads what `learn_transitions.learn` wrote into `folder`; raises ArtifactError if there is nothing."""
        folder = epath.Path(folder)
        artifacts.read(folder, KIND)
        data, indices, indptr, ages, popular = (
            files.load_array(folder / f"{name}.npy") for name in ("data", "indices", "indptr", "ages", "popular")
        )
        matrix = scipy.sparse.csr_matrix((data, indices, indptr), (len(indptr) - 1, len(popular)))
        weights = files.read_json(folder / "weights.json")
        return Transitions(matrix, ages, popular, weights["popular"], weights["repeat"])


class CodeShares(NamedTuple):
    """Shares of codes by the mixture, for the semantic IDs `codes` uint16[items, levels] with `sizes` codes per level.

    The share of a code after a prefix is the probability of all items that continue the prefix with it, relative to
    that of all items with the prefix. Items that are not in the mixture (newer ones) are as likely as the rarest.
    """

    transitions: Transitions
    codes: np.ndarray
    sizes: tuple[int, ...]
    prefixes: np.ndarray  # int64[levels, items], number of the codes before each level among the different ones
    order: np.ndarray  # int64[items], items by their codes
    starts: tuple[np.ndarray, ...]  # per level int64[prefixes + 1], where the items of each prefix start in `order`
    popular: np.ndarray  # float32[items], the second term of the mixture
    popular_first: np.ndarray  # float64[1, codes], its sums over the items of each code of the first level

    @staticmethod
    def of(transitions: Transitions, codes: np.ndarray, sizes: Sequence[int]) -> "CodeShares":
        """Returns the shares for these semantic IDs."""
        order = np.lexsort(codes.T[::-1])
        prefixes = np.zeros((len(sizes), len(codes)), np.int64)
        starts = [np.array([0, len(codes)])]
        new = np.zeros(len(codes), bool)
        for level in range(1, len(sizes)):
            column = codes[order, level - 1]
            new[1:] |= column[1:] != column[:-1]
            prefixes[level, order] = np.cumsum(new)
            starts.append(np.concatenate([[0], np.flatnonzero(new), [len(codes)]]))
        known = transitions.popular_weight * transitions.popular
        popular = np.append(known, np.full(len(codes) - len(known), known.min(), np.float32)).astype(np.float32)
        first = np.bincount(codes[:, 0], popular, sizes[0])[None]
        return CodeShares(transitions, codes, tuple(sizes), prefixes, order, tuple(starts), popular, first)

    @staticmethod
    def load(workdir: epath.PathLike, codes: np.ndarray, sizes: Sequence[int], dataset: str) -> "CodeShares":
        """Loads the mixture of a work directory; raises ArtifactError unless it is of the dataset's fingerprint."""
        folder = epath.Path(workdir) / FOLDER
        artifacts.require_input(folder, KIND, datasets.KIND, dataset)
        return CodeShares.of(Transitions.load(folder), codes, sizes)

    def probabilities(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32[n, items]: the mixture after each history, for all items of the semantic IDs."""
        known, found = self.transitions.items, np.tile(self.popular, (len(histories), 1))
        # Items that are newer than the mixture say nothing about others.
        found[:, :known] = self.transitions.dense([one[one < known] for one in histories])
        for row, one in enumerate(histories):
            if len(newer := one[one >= known]):
                found[row, np.unique(newer)] *= self.transitions.repeat
        return found

    def log_shares(
        self, items: np.ndarray, start: np.ndarray, stop: np.ndarray, targets: np.ndarray, part: np.ndarray | None
    ) -> list[np.ndarray]:
        """Returns float32[n, codes] for each level: the log-shares of its codes after the target's codes before it.

        `targets` int[n] are items; the others are as in `Transitions.sparse`, whose histories precede the targets.
        """
        after = self.transitions.sparse(items, start, stop, part)
        row = np.repeat(np.arange(len(targets)), np.diff(after.indptr))
        item, mass, found = after.indices, after.data, []
        for level, size in enumerate(self.sizes):
            prefix = self.prefixes[level][targets]
            if level:
                same = self.prefixes[level][item] == prefix[row]
                row, item, mass = row[same], item[same], mass[same]
            sums = np.bincount(row * size + self.codes[item, level], mass, len(targets) * size)
            sums = sums.reshape(-1, size) + self._popular_of_codes(level, prefix)
            found.append(np.log(sums / sums.sum(axis=1, keepdims=True) + FLOOR).astype(np.float32))
        return found

    def _popular_of_codes(self, level: int, prefix: np.ndarray) -> np.ndarray:
        """Returns float[n, codes] or [1, codes]: the sum of `popular` over the items of each code after a prefix."""
        if level == 0:
            return self.popular_first
        size = self.sizes[level]
        first, count = self.starts[level][prefix], np.diff(self.starts[level])[prefix]
        row = np.repeat(np.arange(len(prefix)), count)
        item = self.order[np.arange(len(row)) + np.repeat(first - (np.cumsum(count) - count), count)]
        sums = np.bincount(row * size + self.codes[item, level], self.popular[item], len(prefix) * size)
        return sums.reshape(-1, size)


def _joined(histories: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the items of histories one after another, int64[total]."""
    return np.concatenate([np.zeros(0, np.int64), *histories]).astype(np.int64)


def membership(items: np.ndarray, start: np.ndarray, stop: np.ndarray, count: int) -> scipy.sparse.csr_matrix:
    """Returns float32[n, count]: 1 for the items of each history items[start[i] : stop[i]]."""
    lengths = stop - start
    at = np.arange(lengths.sum()) + np.repeat(start - (np.cumsum(lengths) - lengths), lengths)
    found = scipy.sparse.csr_matrix(
        (np.ones(len(at), np.float32), items[at], np.concatenate([[0], np.cumsum(lengths)])), (len(lengths), count)
    )
    found.sum_duplicates()
    found.data[:] = 1
    return found

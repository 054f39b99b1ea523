"""Mixture of transitions: the distribution of the next item from counts and content, without a network.

    q(i | history) = r(i) ((1 - c) sum_a v_a M[j_a, i] + c P(i)) / Z

j_a is the item at age a of the history (1 is the last), M is a sparse matrix whose rows sum to 1, and P the popularity
of the items. M is itself a mixture of kinds of transitions: to items that came next, in two steps, nearby, in the same
sequence, and to items of similar content. r(i) is 1 for items that are not in the history, and equal for all that are:
near 0 where nobody returns to an item, above 1 where most do. All weights are mixture weights, fitted on the validation
split by expectation maximization, and r by maximum likelihood: none is set by hand. The weights of ages are those of
the mixture transition distribution (Raftery, "A model for high-order Markov chains", 1985).

It is a baseline by itself (`ranking.transitions`), and what a generator with a transition bias learns on top of
(`models.transition_bias`). A training sequence is then scored by counts that leave out its own part of the sequences:
otherwise the model would learn to trust counts of the very transition that it predicts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse
from absl import logging
from etils import epath

from genrec import artifacts, config, files
from genrec.data import dataset as datasets
from genrec.data.dataset import Dataset, Sequences

if TYPE_CHECKING:
    from genrec.input_pipeline.content_neighbors import Neighbors

KIND = "transitions"
FOLDER = "transitions"  # of a work directory
EMBEDDINGS = "item_embeddings"  # the artifact and its folder
RECENT = 10  # last items of a history that are read
WINDOW = 4  # nearby items are at most this far apart, and weigh 1 / distance
DAMPING = 10.0  # added to the users of an item in the similarity of items of the same sequences
SHARPNESS = (0.1, 0.05)  # temperatures of the content similarity
STEP_NEIGHBORS = 64  # of the matrix that is squared for two steps
FIT_USERS = 20_000  # validation sequences that the weights are fitted on
FIT_ROUNDS = 200  # of expectation maximization
BLOCK = 2048  # rows of a product that are computed at a time
REPEATS = (1e-3, 1e3)  # bounds of r
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

    def sparse(
        self, items: np.ndarray, start: np.ndarray, stop: np.ndarray, part: np.ndarray | None = None
    ) -> scipy.sparse.csr_matrix:
        """Returns float32[n, items]: q Z - c P after each of the histories items[start[i] : stop[i]].

        `part` int[n] is the part of the sequences that is left out for each, by default none.
        """
        found = self._without_repeat(items, start, stop, part)
        own = _members(items, start, stop, self.items)
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
        stop = np.cumsum([len(one) for one in histories])
        items = np.concatenate([np.zeros(0, np.int32), *histories])
        found = self.sparse(items, np.concatenate([[0], stop[:-1]]).astype(np.int64), stop).toarray()
        found += np.float32(self.popular_weight) * self.popular
        return found / found.sum(axis=1, keepdims=True)

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
        """Reads what `learn` wrote into `folder`; raises ArtifactError if there is nothing."""
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
            found[row, np.unique(one[one >= known])] *= self.transitions.repeat
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


def learn(cfg: config.Transitions, workdir: epath.PathLike) -> None:
    """Stage `transitions`: learns the mixture of a work directory's dataset and embeddings, unless it is up to date.

    Raises ArtifactError if these are missing or do not belong together.
    """
    workdir = epath.Path(workdir)
    path, folder, dataset = workdir / FOLDER, workdir / EMBEDDINGS, Dataset(workdir / datasets.KIND)
    artifacts.require_input(folder, EMBEDDINGS, datasets.KIND, dataset.fingerprint)
    embedded = artifacts.read(folder, EMBEDDINGS)
    inputs = {datasets.KIND: dataset.fingerprint, EMBEDDINGS: embedded.fingerprint}
    recipe = artifacts.hash_of(KIND, cfg, inputs)
    if artifacts.up_to_date(path, KIND, recipe, models=artifacts.GENERATOR):
        logging.info("%s is up to date", path)
        return
    vectors = files.load_array(folder / "embeddings.npy")
    if embedded.config.get("cooccurrence_weight"):
        # The part that was learned from the sequences would know the transitions that are left out.
        vectors = vectors[:, : -min(embedded.config["cooccurrence_width"], len(vectors))]
    with artifacts.writing(path, KIND, recipe, config=cfg, inputs=inputs) as draft:
        fit(cfg, dataset.split("train"), dataset.split("validation"), vectors).save(draft.path)


def fit(cfg: config.Transitions, train: Sequences, validation: Sequences, embeddings: np.ndarray) -> Transitions:
    """Counts transitions in the training split, and fits the weights on the targets of the validation split."""
    from genrec.input_pipeline import content_neighbors  # here, as serving does without scikit-learn

    count = len(embeddings)
    owner, flat = _flat(train, np.arange(len(train)))
    nearest = content_neighbors.nearest(embeddings, cfg.neighbors)
    similar = [_content(nearest, temperature) for temperature in SHARPNESS]
    kinds = [*_counted(owner, flat, count, cfg.neighbors), *similar]
    popular = np.bincount(flat, minlength=count) + 1.0
    popular /= popular.sum()
    some = np.linspace(0, len(validation) - 1, min(FIT_USERS, len(validation))).astype(np.int64)
    flat_validation = _flat(validation, some)
    of_kinds, ages, popular_weight = _fit_weights(kinds, popular, *flat_validation)
    matrices = []
    for part in range(cfg.parts):
        kept = owner % cfg.parts != part
        of_part = [*_counted(owner[kept], flat[kept], count, cfg.neighbors), *similar]
        matrices.append(_mixed(of_part, of_kinds, cfg.neighbors))
    matrices.append(_mixed(kinds, of_kinds, cfg.neighbors))
    matrix = scipy.sparse.vstack(matrices, "csr")
    mixture = Transitions(matrix, ages.astype(np.float32), popular.astype(np.float32), float(popular_weight), 1.0)
    mixture = dataclasses.replace(mixture, repeat=_fit_repeat(mixture, *flat_validation))
    logging.info(
        "transitions: %.0f neighbors per item; weights of kinds %s, of ages %s, of popularity %.2f, of repeats %.3f",
        matrices[-1].nnz / count,
        np.round(of_kinds, 2),
        np.round(ages, 2),
        popular_weight,
        mixture.repeat,
    )
    return mixture


def _flat(sequences: Sequences, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row number of each item of the sequences `rows`, and the items, both int64[total]."""
    owners, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(rows), BLOCK):
        for row, one in zip(rows[start:][:BLOCK], sequences.read(rows[start : start + BLOCK]), strict=True):
            owners.append(np.full(len(one.items), row))
            items.append(one.items.astype(np.int64))
    return np.concatenate(owners), np.concatenate(items)


def _members(items: np.ndarray, start: np.ndarray, stop: np.ndarray, count: int) -> scipy.sparse.csr_matrix:
    """Returns float32[n, count]: 1 for the items of each history items[start[i] : stop[i]]."""
    lengths = stop - start
    at = np.arange(lengths.sum()) + np.repeat(start - (np.cumsum(lengths) - lengths), lengths)
    found = scipy.sparse.csr_matrix(
        (np.ones(len(at), np.float32), items[at], np.concatenate([[0], np.cumsum(lengths)])), (len(lengths), count)
    )
    found.sum_duplicates()
    found.data[:] = 1
    return found


def _counted(owner: np.ndarray, flat: np.ndarray, items: int, neighbors: int) -> list[scipy.sparse.csr_matrix]:
    """Returns the matrices of the kinds of transitions that are counted in sequences, each float64[items, items]."""

    def pairs(distance: int) -> scipy.sparse.csr_matrix:
        same = owner[:-distance] == owner[distance:]
        first, second = flat[:-distance][same], flat[distance:][same]
        return scipy.sparse.csr_matrix((np.ones(len(first)), (first, second)), (items, items))

    following = pairs(1)
    nearby = sum((pairs(distance) / distance for distance in range(2, WINDOW + 1)), start=following).tocsr()
    edges = following.astype(bool).astype(np.float64)
    one_step = _stochastic(_pruned(edges, STEP_NEIGHBORS))
    number = np.cumsum(np.concatenate([[True], owner[1:] != owner[:-1]])[: len(owner)]) - 1
    chosen = scipy.sparse.csr_matrix((np.ones(len(flat)), (number, flat)), (number.max(initial=-1) + 1, items))
    chosen.data[:] = 1  # an item counts once in a sequence
    damped = chosen @ scipy.sparse.diags(1 / np.sqrt(np.asarray(chosen.sum(axis=0)).ravel() + DAMPING))
    together = _product(damped.T.tocsr(), damped.tocsr(), neighbors, own=False)
    two_steps = _product(one_step, one_step, neighbors)
    return [
        _stochastic(_pruned(kind, neighbors)) for kind in (following, nearby, nearby.T.tocsr(), two_steps, together)
    ]


def _product(
    one: scipy.sparse.csr_matrix, other: scipy.sparse.csr_matrix, neighbors: int, own: bool = True
) -> scipy.sparse.csr_matrix:
    """Returns the product with the largest entries of each row; `own` keeps those of the diagonal."""
    blocks = []
    for start in range(0, one.shape[0], BLOCK):
        block = (one[start : start + BLOCK] @ other).tocoo()
        if not own:
            kept = block.row + start != block.col
            block = scipy.sparse.coo_matrix((block.data[kept], (block.row[kept], block.col[kept])), block.shape)
        blocks.append(_pruned(block.tocsr(), neighbors))
    return scipy.sparse.vstack(blocks, "csr")


def _pruned(matrix: scipy.sparse.csr_matrix, neighbors: int) -> scipy.sparse.csr_matrix:
    """Returns the matrix with at most the `neighbors` largest entries of each row; of equal ones, the first columns."""
    counts = np.diff(matrix.indptr)
    if counts.max(initial=0) <= neighbors:
        return matrix
    row = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((matrix.indices, -matrix.data, row))
    place = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], counts)
    kept = np.sort(order[place < neighbors])
    indptr = np.concatenate([[0], np.cumsum(np.minimum(counts, neighbors))])
    return scipy.sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), matrix.shape)


def _stochastic(matrix: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Returns the matrix with rows that sum to 1; empty rows stay empty."""
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return (scipy.sparse.diags(1 / np.where(sums > 0, sums, 1)) @ matrix).tocsr()


def _content(nearest: "Neighbors", temperature: float) -> scipy.sparse.csr_matrix:
    """Returns the softmax of the cosines of items with their nearest others, float64[items, items]."""
    items, neighbors = nearest.items.shape
    values = np.exp((nearest.cosines.astype(np.float64) - 1) / temperature)
    starts = np.arange(0, items * neighbors + 1, neighbors) if neighbors else np.zeros(items + 1, np.int64)
    return _stochastic(scipy.sparse.csr_matrix((values.ravel(), nearest.items.ravel(), starts), (items, items)))


def _mixed(kinds: Sequence[scipy.sparse.csr_matrix], weights: np.ndarray, neighbors: int) -> scipy.sparse.csr_matrix:
    """Returns the mixture of the kinds float32[items, items]: the largest entries of each row, which sum to 1."""
    blocks = []
    for start in range(0, kinds[0].shape[0], BLOCK):
        some = [weight * kind[start : start + BLOCK] for weight, kind in zip(weights, kinds, strict=True)]
        mixed = sum(some[1:], start=some[0]).tocsr()
        blocks.append(_stochastic(_pruned(mixed, neighbors)).astype(np.float32))
    return scipy.sparse.vstack(blocks, "csr")


def _fit_weights(
    kinds: Sequence[scipy.sparse.csr_matrix], popular: np.ndarray, owner: np.ndarray, flat: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the weights of kinds float[kinds], of ages float[RECENT], and of popularity, by expectation maximization.

    The last item of each sequence is its target, the items before it are its history.
    """
    last = np.flatnonzero(np.append(owner[1:] != owner[:-1], True))
    first = np.append(0, last[:-1] + 1)
    target = flat[last]
    likelihoods = np.zeros((len(last), len(kinds), RECENT))  # of the target, after the item of each age, by each kind
    for age in range(RECENT):
        there = np.flatnonzero(last - 1 - age >= first)
        for kind, matrix in enumerate(kinds):
            likelihoods[there, kind, age] = np.asarray(matrix[flat[last[there] - 1 - age], target[there]]).ravel()
    available = np.arange(RECENT) < (last - first)[:, None]
    of_kinds, ages, of_popular = np.full(len(kinds), 1 / len(kinds)), np.full(RECENT, 1 / RECENT), 0.5
    for _ in range(FIT_ROUNDS):
        scale = (1 - of_popular) / np.maximum((available * ages).sum(axis=1), 1e-12)
        parts = likelihoods * of_kinds[:, None] * ages * scale[:, None, None]
        popular_part = of_popular * popular[target]
        total = parts.sum(axis=(1, 2)) + popular_part
        shares = (parts / total[:, None, None]).sum(axis=0)
        if not shares.sum():
            break  # no target follows from its history: popularity is all that is known
        of_kinds, ages = shares.sum(axis=1) / shares.sum(), shares.sum(axis=0) / shares.sum()
        of_popular = float(np.clip((popular_part / total).mean(), 0.01, 0.99))
    return of_kinds, ages, of_popular


def _fit_repeat(mixture: Transitions, owner: np.ndarray, flat: np.ndarray) -> float:
    """Returns r by maximum likelihood, from 1: the last item of each sequence is its target, after the items before it.

    With the mass m of the history without r, the likelihood is r^[the target repeats] / (1 - m + r m), up to a factor.
    """
    import scipy.optimize  # here, as it is slow to import and serving does without

    stop = np.flatnonzero(np.append(owner[1:] != owner[:-1], True))
    start = np.append(0, stop[:-1] + 1)
    repeats, mass = 0, []
    for block in range(0, len(stop), BLOCK):
        some = slice(block, block + BLOCK)
        own = _members(flat, start[some], stop[some], mixture.items)
        found = mixture.sparse(flat, start[some], stop[some])
        popular = own @ (mixture.popular_weight * mixture.popular)
        mass.append(np.clip(np.asarray(found.multiply(own).sum(axis=1)).ravel() + popular, 0, 1))
        repeats += int(own[np.arange(own.shape[0]), flat[stop[some]]].sum())
    of_histories = np.concatenate(mass)

    def slope(log_r: float) -> float:
        odds = np.exp(log_r) * of_histories
        return repeats - (odds / (1 - of_histories + odds)).sum()

    low, high = np.log(REPEATS)
    if slope(low) <= 0 or not of_histories.any():
        return REPEATS[0] if of_histories.any() else 1.0
    return float(np.exp(scipy.optimize.brentq(slope, low, high))) if slope(high) < 0 else REPEATS[1]

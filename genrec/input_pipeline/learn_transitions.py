"""Stage `transitions`: counts transitions in the training split, and fits the weights of their mixture."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.sparse
from absl import logging
from etils import epath

from genrec import artifacts, config, files
from genrec.data import dataset as datasets
from genrec.data.dataset import Dataset, Sequences
from genrec.input_pipeline import content_neighbors
from genrec.input_pipeline.content_neighbors import Neighbors
from genrec.input_pipeline.transitions import FOLDER, KIND, RECENT, Transitions, membership

EMBEDDINGS = "item_embeddings"  # the artifact and its folder
WINDOW = 4  # nearby items are at most this far apart, and weigh 1 / distance
DAMPING = 10.0  # added to the users of an item in the similarity of items of the same sequences
SHARPNESS = (0.1, 0.05)  # temperatures of the content similarity
STEP_NEIGHBORS = 64  # of the matrix that is squared for two steps
FIT_USERS = 20_000  # validation sequences that the weights are fitted on
FIT_ROUNDS = 200  # of expectation maximization
BLOCK = 2048  # rows of a product that are computed at a time
REPEATS = (1e-3, 1e3)  # bounds of r


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
    # The part that was learned from the sequences would know the transitions that are left out.
    if embedded.config["source"] == "cooccurrence":
        vectors = vectors[:, :0]
    elif embedded.config["cooccurrence_weight"]:
        vectors = vectors[:, : -min(embedded.config["cooccurrence_width"], len(vectors))]
    with artifacts.writing(path, KIND, recipe, config=cfg, inputs=inputs) as draft:
        fit(cfg, dataset.split("train"), dataset.split("validation"), vectors).save(draft.path)


def fit(cfg: config.Transitions, train: Sequences, validation: Sequences, embeddings: np.ndarray) -> Transitions:
    """Counts transitions in the training split, and fits the weights on the targets of the validation split."""
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


def _content(nearest: Neighbors, temperature: float) -> scipy.sparse.csr_matrix:
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
    stop = np.flatnonzero(np.append(owner[1:] != owner[:-1], True))
    start = np.append(0, stop[:-1] + 1)
    repeats, mass = 0, []
    for block in range(0, len(stop), BLOCK):
        some = slice(block, block + BLOCK)
        own = membership(flat, start[some], stop[some], mixture.items)
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

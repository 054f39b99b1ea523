"""A random mixture of transitions and random semantic IDs, for tests."""

import numpy as np
import scipy.sparse

from genrec.input_pipeline import transitions
from genrec.input_pipeline.transitions import Transitions

ITEMS, SIZES = 30, (4, 4, 3)


def random_mixture(seed: int, items: int = ITEMS, parts: int = 2) -> Transitions:
    random = np.random.default_rng(seed)
    matrix = random.random(((parts + 1) * items, items)) * (random.random(((parts + 1) * items, items)) < 0.3)
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9)
    ages, popular = random.dirichlet(np.ones(transitions.RECENT)), random.dirichlet(np.ones(items))
    return Transitions(scipy.sparse.csr_matrix(matrix, dtype=np.float32), ages.astype(np.float32), popular, 0.3, 0.2)


def codes_of(seed: int, items: int = ITEMS) -> np.ndarray:
    every = np.array(list(np.ndindex(SIZES)), np.uint16)
    return np.random.default_rng(seed).permutation(every)[:items]

"""Final scores by gradient-boosted trees over the scores and features of all stages.

Each tree of a sequence corrects the log-odds of the earlier ones that a candidate is the target (Friedman, Annals of
Statistics 2001), over histograms of the inputs (LightGBM; Ke et al., NeurIPS 2017). Unlike a weighted sum, trees can
trust a source more where it is sure, or where it ranks an item first. They need many users: `choose` compares both.
"""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from genrec.ranking import tree_scores
from genrec.ranking.candidates import Candidates
from genrec.ranking.tree_scores import TreeScores

TREES, LEAVES, LEARNING_RATE = 150, 15, 0.06
LEAST_ROWS = 200  # candidates in a leaf
CUTOFF = 10  # of the NDCG by which `choose` compares

Scores = Callable[[Candidates], np.ndarray]  # float32[users, candidates], -inf where there is no candidate


class BoostedTrees:
    """Trees that are fitted to candidates of users with known targets. Fitting is deterministic."""

    def __init__(self, candidates: Candidates, targets: np.ndarray):
        """Fits to the targets int[users]. Raises ValueError if no target is among the candidates."""
        hit = candidates.items == targets[:, None]
        known = hit.any(axis=1)
        if not known.any():
            raise ValueError("no target is among the candidates: trees cannot be fitted")
        rows = (candidates.items >= 0) & known[:, None]
        self._names = list(candidates.scores), list(candidates.features)
        self._model = HistGradientBoostingClassifier(
            learning_rate=LEARNING_RATE,
            max_iter=TREES,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=LEAST_ROWS,
            l2_regularization=5.0,
            early_stopping=False,
            random_state=0,
        ).fit(tree_scores.inputs(candidates, rows), hit[rows])

    def score(self, candidates: Candidates) -> np.ndarray:
        """Returns float32[users, candidates], the log-odds of each; -inf where there is no candidate."""
        rows = candidates.items >= 0
        found = np.full(rows.shape, -np.inf, np.float32)
        if rows.any():
            found[rows] = self._model.decision_function(tree_scores.inputs(candidates, rows))
        return found

    def for_serving(self) -> TreeScores:
        """Returns the trees as arrays, which score candidates as these do."""
        # scikit-learn has no public name for the trees; a test compares the scores.
        trees = [nodes.nodes for (nodes,) in self._model._predictors]
        roots = np.cumsum([0, *map(len, trees)])[:-1].astype(np.int32)
        nodes, root = np.concatenate(trees), np.repeat(roots, [len(tree) for tree in trees])
        own, leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
        found = {
            "feature": np.where(leaf, 0, nodes["feature_idx"]),
            "threshold": np.where(leaf, 0.0, np.nan_to_num(nodes["num_threshold"])),  # JSON has no infinity
            "left": np.where(leaf, own, root + nodes["left"]),
            "right": np.where(leaf, own, root + nodes["right"]),
            "value": nodes["value"],
        }
        arrays = {name: found[name].astype(kind) for name, kind in tree_scores.FIELDS.items()}
        depth, start = int(nodes["depth"].max()), float(self._model._baseline_prediction.item())
        return TreeScores(self._names, roots, arrays, depth, start)


def choose(
    candidates: Candidates, targets: np.ndarray, linear: Callable[[Candidates, np.ndarray], Scores]
) -> dict[str, float]:
    """Returns the mean NDCG of "weighted sum" and "trees" on the half of the users that each was not fitted to.

    `linear(candidates, targets)` fits a weighted sum. Raises ValueError if a half has no target among its candidates.
    """
    second = np.random.default_rng(0).permutation(len(targets)) % 2 == 1
    found: dict[str, list[float]] = {"weighted sum": [], "trees": []}
    for fitted in (second, ~second):
        own, others = _users(candidates, fitted), _users(candidates, ~fitted)
        of = {
            "weighted sum": linear(own, targets[fitted])(others),
            "trees": BoostedTrees(own, targets[fitted]).score(others),
        }
        for name, scores in of.items():
            found[name].append(_ndcg(others.items, scores, targets[~fitted]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _ndcg(items: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean NDCG@10 of candidates in the order of their scores."""
    at_target = np.where(items == targets[:, None], scores, -np.inf).max(axis=1)
    ahead = (scores > at_target[:, None]).sum(axis=1)
    return float(np.where(np.isfinite(at_target) & (ahead < CUTOFF), 1 / np.log2(ahead + 2), 0).mean())


def _users(candidates: Candidates, users: np.ndarray) -> Candidates:
    """Returns the candidates of the users bool[users]."""
    scores = {name: of[users] for name, of in candidates.scores.items()}
    return Candidates(candidates.items[users], scores, {name: of[users] for name, of in candidates.features.items()})

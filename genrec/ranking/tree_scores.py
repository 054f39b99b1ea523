"""Scores of candidates by boosted trees that were fitted before (`boosted_trees`): servers do without scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genrec.ranking.candidates import Candidates
from genrec.ranking.scoring import impute

FIELDS = {"feature": np.int32, "threshold": np.float64, "left": np.int32, "right": np.int32, "value": np.float64}


class TreeScores:
    """A sum of trees, each a path through nodes.

    From a node one goes to `left` where the input `feature` is at most `threshold`, else to `right`. A leaf leads to
    itself, and has the `value` that is added.
    """

    def __init__(
        self,
        names: Sequence[Sequence[str]],
        roots: np.ndarray,
        nodes: Mapping[str, np.ndarray],
        depth: int,
        start: float,
    ):
        """`roots` int32[trees] are nodes, `nodes` arrays [nodes] by the names of FIELDS.

        `names` are those of the scores, and of the features, in the order of the inputs; `depth` is the longest path,
        `start` what the trees are added to.
        """
        self._names, self._roots, self._nodes, self._depth, self._start = names, roots, nodes, depth, start

    def as_json(self) -> dict[str, object]:
        """Returns the trees as JSON; see `from_json`."""
        nodes = {name: self._nodes[name].tolist() for name in FIELDS}
        names = [list(of) for of in self._names]
        return {"names": names, "roots": self._roots.tolist(), "depth": self._depth, "start": self._start, **nodes}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "TreeScores":
        """Returns the trees of the result of `as_json`."""
        nodes = {name: np.array(fields[name], kind) for name, kind in FIELDS.items()}
        roots = np.array(fields["roots"], np.int32)
        return TreeScores(fields["names"], roots, nodes, fields["depth"], fields["start"])

    def score(self, candidates: Candidates) -> np.ndarray:
        """Returns float32[users, candidates], the log-odds of each; -inf where there is no candidate."""
        scores, features = self._names
        rows = candidates.items >= 0
        found = np.full(rows.shape, -np.inf, np.float32)
        if rows.any():
            of_scores, of_features = candidates.scores, candidates.features
            ordered = Candidates(
                candidates.items,
                {name: of_scores[name] for name in scores},
                {name: of_features[name] for name in features},
            )
            found[rows] = self._sums(inputs(ordered, rows))
        return found

    def _sums(self, given: np.ndarray) -> np.ndarray:
        """Returns float64[n] of inputs float32[n, inputs]."""
        feature, threshold, left, right = (self._nodes[name] for name in ("feature", "threshold", "left", "right"))
        at = np.tile(self._roots, (len(given), 1))  # [n, trees]
        row = np.arange(len(given))[:, None]
        for _ in range(self._depth):
            at = np.where(given[row, feature[at]] <= threshold[at], left[at], right[at])
        return self._start + self._nodes["value"][at].sum(axis=1)


def inputs(candidates: Candidates, rows: np.ndarray) -> np.ndarray:
    """Returns float32[sum of rows, inputs] of the candidates bool[users, candidates].

    The inputs are each score and feature, the same relative to the user's best, and the reciprocal rank in the list of
    each source: trees cannot compare the candidates of a user, so that the comparison is among their inputs.
    """
    columns, real = [], candidates.items >= 0
    for values in (*candidates.scores.values(), *candidates.features.values()):
        filled = impute(values, candidates.items)
        best = filled.max(axis=1, keepdims=True)
        columns += [filled[rows], (filled - np.where(np.isfinite(best), best, 0))[rows]]
    for values in candidates.scores.values():
        listed = np.where(np.isnan(values) | ~real, -np.inf, values)
        rank = np.argsort(np.argsort(-listed, axis=1, kind="stable"), axis=1, kind="stable")
        columns.append(np.where(np.isfinite(listed), 1 / (1 + rank), 0)[rows])
    return np.stack(columns, axis=1).astype(np.float32)

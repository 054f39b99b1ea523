"""Final scoring, the last stage of a multi-stage recommender: one score per candidate, then rules for whole lists.

The score is a weighted sum of the log-scores of sources and ranker: a log-linear opinion pool (Genest & Zidek,
Statistical Science 1986). A candidate that is not in the list of a source gets the lowest score of that list. Weights
are given, or fitted by maximum likelihood: a conditional logit (McFadden 1974) of the target among the candidates.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from genrec import settings_check, shares
from genrec.config import ConfigError, FinalScoring
from genrec.data.dataset import Catalogue
from genrec.data.filters import Filter
from genrec.ranking.candidates import Candidates
from genrec.ranking.lists import Lists

PENALTY = 1e-3  # L2 penalty of the fit: sources with equal scores share the weight


def impute(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns `scores` float32[users, candidates] with the lowest score of the user in the place of each NaN.

    Where all are NaN, all candidates of the user get 0. The score of row -1 is -inf.
    """
    lowest = np.where(np.isnan(scores), np.inf, scores).min(axis=1, keepdims=True)
    lowest = np.where(np.isfinite(lowest), lowest, 0)
    return np.where(items >= 0, np.where(np.isnan(scores), lowest, scores), -np.inf)


def pool(candidates: Candidates, weights: Mapping[str, float]) -> np.ndarray:
    """Returns float32[users, candidates]: weighted sums of log-scores, -inf where there is no candidate.

    Raises ConfigError for a weight of an unknown source.
    """
    unknown = weights.keys() - candidates.scores.keys()
    if unknown:
        raise ConfigError(
            f"multi_stage.weights: no scores of {', '.join(sorted(unknown))}. Choose of {', '.join(candidates.scores)}."
        )
    total = np.where(candidates.items >= 0, 0, -np.inf)
    for name, weight in weights.items():
        if weight:
            total += np.where(candidates.items >= 0, weight * impute(candidates.scores[name], candidates.items), 0)
    return total.astype(np.float32)


def fit(candidates: Candidates, targets: np.ndarray, names: Sequence[str], signed: bool = False) -> dict[str, float]:
    """Returns the weights of `names` that maximize the likelihood of `targets` int[users] among the candidates.

    They are at least 0 unless `signed`. Users whose target is no candidate are left out. Raises ValueError if no user
    remains.
    """
    import scipy.optimize  # here, as it is slow to import and serving does without
    import scipy.special

    hit = candidates.items == targets[:, None]
    known = hit.any(axis=1)
    if not known.any():
        raise ValueError("no target is among the candidates: weights cannot be fitted")
    real = candidates.items[known] >= 0
    # [names, users, candidates]; 0 for row -1, as 0 times infinity is NaN.
    scores = np.stack([np.where(real, impute(candidates.scores[name], candidates.items)[known], 0) for name in names])
    at_target = hit[known]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.where(real, np.tensordot(weights, scores, 1), -np.inf)
        log_shares = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
        surplus = (np.exp(log_shares) - at_target) / len(real)
        gradient = np.tensordot(scores, surplus, ((1, 2), (0, 1)))
        return -log_shares[at_target].mean() + PENALTY * weights @ weights, gradient + 2 * PENALTY * weights

    start = np.full(len(names), 1 / len(names))
    bounds = [(None if signed else 0, None)] * len(names)
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return {name: float(weight) for name, weight in zip(names, found.x, strict=True)}


class Rules:
    """Business rules for lists: filters, boosts, and quotas. Made once for a catalogue."""

    def __init__(self, cfg: FinalScoring, catalogue: Catalogue, popularity: np.ndarray):
        """`popularity` int[items], training interactions.

        Raises DataError for unknown columns, ConfigError for invalid values.
        """
        settings_check.check(cfg, "multi_stage.scoring")
        self._cfg = cfg
        self._allowed = Filter.parse(cfg.filter).mask(len(catalogue), catalogue)
        self._boost = np.zeros(len(catalogue), np.float32)
        for rule in cfg.boosts:
            condition, _, bonus = rule.rpartition(":")
            self._boost += float(bonus) * Filter.parse([condition]).mask(len(catalogue), catalogue)
        self._groups = catalogue.groups(cfg.share_of) if cfg.share_of else None
        self._new = popularity == 0

    def apply(self, items: np.ndarray, scores: np.ndarray, top: int) -> Lists:
        """Returns lists of `top` items from candidates `items` int32 and `scores` float32[users, candidates].

        Boosts are added to the scores, then the best candidates that the rules allow are taken. Lists end early if
        there are too few; the quota of new items is filled as far as there are candidates.
        """
        found = Lists(np.full((len(items), top), -1, np.int32), np.full((len(items), top), -np.inf, np.float32))
        boosted = scores + np.where(items >= 0, self._boost[items], 0)
        allowed = (items >= 0) & self._allowed[items]
        order = np.lexsort((items, -np.where(allowed, boosted, -np.inf)), axis=1)
        for user, row in enumerate(order):
            candidates = items[user, row[: allowed[user].sum()]]
            values = boosted[user, row[: len(candidates)]]
            places = self._choose(candidates, top)
            found.items[user, : len(places)], found.scores[user, : len(places)] = candidates[places], values[places]
        return found

    def _choose(self, candidates: np.ndarray, top: int) -> np.ndarray:
        """Returns int[at most top]: the places, ascending, of the chosen `candidates`, which are sorted by score."""
        places = np.arange(len(candidates))
        if self._groups is not None and self._cfg.max_share < 1:
            most = max(1, shares.floor(self._cfg.max_share, top))
            groups = self._groups[candidates]
            before = np.array([(groups[:place] == group).sum() for place, group in enumerate(groups)], int)
            places = places[before < most]
        quota = shares.floor(self._cfg.new_items_share, top)
        if quota:
            new = self._new[candidates[places]]
            reserved = places[new][:quota]
            others = places[~np.isin(places, reserved)][: top - len(reserved)]
            return np.sort(np.concatenate([reserved, others]))
        return places[:top]

"""Last stage of the pipeline: one score a candidate, then rules for the list as a whole.

The score is a weighted sum of what sources and ranker say, each as a logarithm: a log-linear pool of experts (Genest &
Zidek, Statistical Science 1986). Of a candidate that a source does not name it thinks no better than of the last one of
its list, and that is what counts. Weights are given, or fitted: the conditional logit (McFadden 1974) under which the
items that target are the likeliest of their candidates.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.optimize
import scipy.special

from genrec.config import ConfigError, FinalScoring
from genrec.data.dataset import Catalogue
from genrec.data.filters import Filter
from genrec.ranking.candidates import Candidates
from genrec.ranking.lists import Lists

PENALTY = 1e-3  # on squared weights while they are fitted: experts that say the same share the weight


def filled(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32[users, candidates] without NaN: what a source does not name gets the lowest of its scores for that user.

    Where it names nothing for a user, all of the user's candidates are equal.
    """
    lowest = np.where(np.isnan(scores), np.inf, scores).min(axis=1, keepdims=True)
    lowest = np.where(np.isfinite(lowest), lowest, 0)
    return np.where(items >= 0, np.where(np.isnan(scores), lowest, scores), -np.inf)


def pool(candidates: Candidates, weights: Mapping[str, float]) -> np.ndarray:
    """float32[users, candidates]: weighted sums of log-scores, -inf where there is no candidate.

    Raises ConfigError for a weight of a source that proposes nothing.
    """
    unknown = weights.keys() - candidates.scores.keys()
    if unknown:
        raise ConfigError(
            f"multi_stage.weights: {', '.join(sorted(unknown))} scores nothing. It can be one of "
            f"{', '.join(candidates.scores)}."
        )
    total = np.where(candidates.items >= 0, 0, -np.inf)
    for name, weight in weights.items():
        if weight:
            total += np.where(candidates.items >= 0, weight * filled(candidates.scores[name], candidates.items), 0)
    return total.astype(np.float32)


def fit(candidates: Candidates, targets: np.ndarray, names: Sequence[str], signed: bool = False) -> dict[str, float]:
    """Weights under which the targets (int[users]) are likeliest among their candidates; at least 0 unless `signed`.

    Users whose target is no candidate say nothing. Raises ValueError where no user is left.
    """
    hit = candidates.items == targets[:, None]
    known = hit.any(axis=1)
    if not known.any():
        raise ValueError("no target is among the candidates: weights cannot be fitted")
    real = candidates.items[known] >= 0
    # [experts, users, candidates]; what is no candidate must not make NaN of 0 times infinity.
    scores = np.stack([np.where(real, filled(candidates.scores[name], candidates.items)[known], 0) for name in names])
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
    """What may stand in a list, and in which order: filters, boosts, shares of the list. Made once for a catalogue."""

    def __init__(self, cfg: FinalScoring, catalogue: Catalogue, popularity: np.ndarray):
        """`popularity` int[items], training interactions.

        Raises DataError for columns that are not there, ConfigError for numbers that cannot be.
        """
        for name in ("max_share", "new_items_share"):
            if not 0 <= getattr(cfg, name) <= 1:
                raise ConfigError(f"multi_stage.scoring.{name}={getattr(cfg, name)}: give a share between 0 and 1")
        self._cfg = cfg
        self._allowed = Filter.parse(cfg.filter).mask(len(catalogue), catalogue)
        self._boost = np.zeros(len(catalogue), np.float32)
        for rule in cfg.boosts:
            condition, _, bonus = rule.rpartition(":")
            try:
                value = float(bonus)
            except ValueError:
                raise ConfigError(
                    f"multi_stage.scoring.boosts: {rule!r} is no CONDITION:NUMBER, such as media_type=podcast:0.5"
                ) from None
            self._boost += value * Filter.parse([condition]).mask(len(catalogue), catalogue)
        self._groups = catalogue.groups(cfg.share_of) if cfg.share_of else None
        if cfg.max_share < 1 and self._groups is None:
            raise ConfigError("multi_stage.scoring.max_share needs share_of, the column in which items may be alike")
        self._new = popularity == 0

    def apply(self, items: np.ndarray, scores: np.ndarray, histories: Sequence[np.ndarray], top: int) -> Lists:
        """Lists of `top` items from scored candidates int32 and float32[users, candidates].

        Boosts are added, then the best that the rules allow are taken in turn. A place for which no more candidates
        are allowed stays empty; a share of new items is filled as far as there are candidates.
        """
        found = Lists(np.full((len(items), top), -1, np.int32), np.full((len(items), top), -np.inf, np.float32))
        boosted = scores + np.where(items >= 0, self._boost[items], 0)
        allowed = (items >= 0) & self._allowed[items]
        order = np.lexsort((items, -np.where(allowed, boosted, -np.inf)), axis=1)
        for user, row in enumerate(order):
            candidates = items[user, row[: allowed[user].sum()]]
            values = boosted[user, row[: len(candidates)]]
            if self._cfg.exclude_history:
                fresh = ~np.isin(candidates, histories[user])
                candidates, values = candidates[fresh], values[fresh]
            places = self._choose(candidates, top)
            found.items[user, : len(places)], found.scores[user, : len(places)] = candidates[places], values[places]
        return found

    def _choose(self, candidates: np.ndarray, top: int) -> np.ndarray:
        """int[at most top]: places of the candidates, which come best first, that make the list, ascending."""
        places = np.arange(len(candidates))
        if self._groups is not None and self._cfg.max_share < 1:
            most = max(1, int(self._cfg.max_share * top))
            groups = self._groups[candidates]
            before = np.array([(groups[:place] == group).sum() for place, group in enumerate(groups)], int)
            places = places[before < most]
        quota = int(self._cfg.new_items_share * top)
        if quota:
            new = self._new[candidates[places]]
            reserved = places[new][:quota]
            others = places[~np.isin(places, reserved)][: top - len(reserved)]
            return np.sort(np.concatenate([reserved, others]))
        return places[:top]

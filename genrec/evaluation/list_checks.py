"""Checks and shares of recommended lists: valid, short, repeating the history, certified, right by codes alone."""

import numpy as np

from genrec import config
from genrec.errors import GenrecError
from genrec.evaluation.evaluator import FoundLists, item_ranks
from genrec.semantic_ids.codes import SemanticIds

FIRST = 10  # recommendations in which repeats are counted


class EvaluationError(GenrecError):
    """An evaluation returned invalid items. The message counts them by kind."""


class ListChecks:
    """Counts of lists, some of which are added at a time."""

    def __init__(self, items: int):
        """`items` is the number of items of the catalogue."""
        self._items = items
        self._users = self._short = self._target_repeats = 0
        self._returned = self._outside = self._repeated = self._unlikely = 0
        self._first = self._first_repeats = 0  # of the first FIRST items of each list

    def add(self, found: FoundLists) -> None:
        """Counts lists of further users."""
        real = found.recommended != -1
        in_order = np.sort(np.where(real, found.recommended, -1 - np.arange(real.shape[1])), axis=1)
        repeated = in_order[:, 1:] == in_order[:, :-1]  # empty places have numbers that all differ
        outside = real & ((found.recommended < 0) | (found.recommended >= self._items))
        self._users += len(real)
        self._short += int((~real).any(axis=1).sum())
        self._returned += int(real.sum())
        self._outside += int(outside.sum())
        self._repeated += int(repeated.sum())
        self._unlikely += int((real & ~np.isfinite(found.scores)).sum())
        first = found.recommended[:, :FIRST] >= 0
        self._first += int(first.sum())
        self._first_repeats += int(found.repeats[:, :FIRST][first].sum())
        self._target_repeats += int(found.target_repeats.sum())

    def figures(self) -> dict[str, float]:
        """Returns the number of returned items, and the shares of lists that are short of the beams and of repeats.

        "repeats" and "target_repeats" are the shares of the first recommendations and of the targets that are in the
        user's history: a calibrated model repeats items about as often as the targets do. Raises EvaluationError unless
        every item is valid: in the catalogue, in its list only once, and with a finite score.
        """
        if not self._returned:
            raise EvaluationError(
                "no item was returned: the checkpoint's scores are not numbers. Evaluate another one."
            )
        if self._outside + self._repeated + self._unlikely:
            raise EvaluationError(
                f"of {self._returned} returned items, {self._outside} are not in the catalogue, {self._repeated} stand "
                f"twice in a list and {self._unlikely} have no finite score. Nothing was written: this is a fault of "
                "the index or the checkpoint. Evaluate another checkpoint, or report it."
            )
        return {
            "returned_items": self._returned,
            "short_lists": self._short / self._users,
            "repeats": self._first_repeats / self._first,
            "target_repeats": self._target_repeats / self._users,
        }


def certified_shares(certified: np.ndarray, cfg: config.Evaluation) -> dict[str, float]:
    """Returns for each cutoff the share of users whose first items are certified, from `FoundLists.certified`."""
    cutoffs = [cutoff for cutoff in cfg.cutoffs if cutoff <= cfg.beams]
    return {str(cutoff): float((certified >= cutoff).mean()) for cutoff in cutoffs}


def code_groups(semantic_ids: SemanticIds) -> np.ndarray:
    """Returns int[items], a number for each item that items of equal learned codes share.

    The last level, which separates such items, is left out.
    """
    return np.unique(semantic_ids.codes[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)


def semantic_id_ranks(found: FoundLists, groups: np.ndarray) -> np.ndarray:
    """Returns int32[users], the ranks if any item with the target's learned codes were a hit.

    Some public evaluations count so; it shows how much that inflates. `groups` is from `code_groups`.
    """
    recommended = np.where(found.recommended >= 0, groups[found.recommended], -1)
    return item_ranks(recommended, groups[found.targets])

"""Checks and shares of recommended lists: valid, short, repeating the history, certified, right by codes alone."""

import numpy as np

from genrec import config
from genrec.errors import GenrecError
from genrec.evaluation.evaluator import Evaluation, SearchEvaluation, item_ranks
from genrec.semantic_ids.codes import SemanticIds

FIRST = 10  # recommendations in which repeats are counted


class EvaluationError(GenrecError):
    """An evaluation returned invalid items. The message counts them by kind."""


def check_lists(evaluation: SearchEvaluation, items: int) -> dict[str, float]:
    """Returns the number of returned items and the share of lists that are short of the beams.

    Raises EvaluationError unless every item is valid: in the catalogue of `items`, in its list only once, and with a
    finite score.
    """
    real = evaluation.recommended != -1
    in_order = np.sort(np.where(real, evaluation.recommended, -1 - np.arange(real.shape[1])), axis=1)
    repeated = in_order[:, 1:] == in_order[:, :-1]  # empty places have numbers that all differ
    outside = real & ((evaluation.recommended < 0) | (evaluation.recommended >= items))
    unlikely = real & ~np.isfinite(evaluation.scores)
    invalid = int(outside.sum() + repeated.sum() + unlikely.sum())
    if not real.any():
        raise EvaluationError("no item was returned: the checkpoint's scores are not numbers. Evaluate another one.")
    if invalid:
        raise EvaluationError(
            f"of {int(real.sum())} returned items, {int(outside.sum())} are not in the catalogue, "
            f"{int(repeated.sum())} stand twice in a list and {int(unlikely.sum())} have no finite score. Nothing was "
            "written: this is a fault of the index or the checkpoint. Evaluate another checkpoint, or report it."
        )
    return {"returned_items": int(real.sum()), "short_lists": float((~real).any(axis=1).mean())}


def repeat_shares(evaluation: SearchEvaluation) -> dict[str, float]:
    """Returns the shares of the first recommendations and of the targets that are in the user's history.

    A calibrated model repeats items about as often as the targets do.
    """
    first = evaluation.recommended[:, :FIRST] >= 0
    repeats = evaluation.repeats[:, :FIRST][first]
    return {"repeats": float(repeats.mean()), "target_repeats": float(evaluation.target_repeats.mean())}


def certified_shares(evaluation: SearchEvaluation, cfg: config.Evaluation) -> dict[str, float]:
    """Returns for each cutoff the share of users whose first items are certified, as `SearchEvaluation.certified`."""
    cutoffs = [cutoff for cutoff in cfg.cutoffs if cutoff <= cfg.beams]
    return {str(cutoff): float((evaluation.certified >= cutoff).mean()) for cutoff in cutoffs}


def semantic_id_ranks(evaluation: Evaluation, semantic_ids: SemanticIds) -> np.ndarray:
    """Returns int32[users], the ranks if any item with the target's learned codes were a hit.

    Some public evaluations count so; it shows how much that inflates. The last level, which separates such items, is
    left out.
    """
    groups = np.unique(semantic_ids.codes[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)
    recommended = np.where(evaluation.recommended >= 0, groups[evaluation.recommended], -1)
    return item_ranks(recommended, groups[evaluation.targets])

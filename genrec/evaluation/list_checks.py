"""What the lists of an evaluation are like: valid, repeating the history, certified, or right by their codes alone."""

import numpy as np

from genrec import config
from genrec.errors import GenrecError
from genrec.evaluation.evaluator import Evaluation, item_ranks
from genrec.semantic_ids.codes import SemanticIds

FIRST = 10  # recommendations of which repeats are counted


class EvaluationError(GenrecError):
    """An evaluation found something that must not be. The message says what."""


def check_lists(evaluation: Evaluation, items: int) -> dict[str, float]:
    """Shares of valid items and of short lists; raises EvaluationError unless all are valid.

    Valid is an item of the catalogue that stands in its list only once and has a finite score.
    """
    real = evaluation.recommended != -1
    in_order = np.sort(np.where(real, evaluation.recommended, -1 - np.arange(real.shape[1])), axis=1)
    repeated = in_order[:, 1:] == in_order[:, :-1]  # short-fall was given numbers that are all different
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
    return {"valid": 1.0, "short_lists": float((~real).any(axis=1).mean())}


def repeat_shares(evaluation: Evaluation) -> dict[str, float]:
    """How much of the first recommendations, and of the targets, users had chosen before: these should be alike."""
    first = evaluation.recommended[:, :FIRST] >= 0
    repeats = evaluation.repeats[:, :FIRST][first]
    return {"repeats": float(repeats.mean()), "target_repeats": float(evaluation.target_repeats.mean())}


def certified_shares(evaluation: Evaluation, cfg: config.Evaluation) -> dict[str, float]:
    """For each cutoff the share of users whose first items surely are the likeliest of the whole catalogue."""
    cutoffs = [cutoff for cutoff in cfg.cutoffs if cutoff <= cfg.beams]
    return {str(cutoff): float((evaluation.certified >= cutoff).mean()) for cutoff in cutoffs}


def semantic_id_ranks(evaluation: Evaluation, semantic_ids: SemanticIds) -> np.ndarray:
    """int32[users]: ranks if any item with the target's learned codes were a hit, as some public evaluations count.

    To show how much that inflates; the last level, which tells such items apart, is left out.
    """
    groups = np.unique(semantic_ids.codes[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)
    recommended = np.where(evaluation.recommended >= 0, groups[evaluation.recommended], -1)
    return item_ranks(recommended, groups[evaluation.targets])

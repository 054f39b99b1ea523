"""Recommendations for people to read: whose history, what the model proposes, and what came next."""

import dataclasses
from collections.abc import Sequence as AbstractSequence

import jax
import numpy as np

from genrec.data.dataset import Catalogue, Sequence, Sequences
from genrec.data.errors import DataError
from genrec.data.examples import histories
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.decoding.trained import Trained
from genrec.progress import progress

# Records read at a time while looking for users.
CHUNK = 10_000
TITLE_WIDTH = 48  # characters


@dataclasses.dataclass(frozen=True)
class Request:
    """A history to recommend for."""

    name: str  # user id, or a description
    history: np.ndarray  # int[n], catalogue rows, oldest first
    came_next: int | None = None  # catalogue row, where known


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The answer to a request: best first; fewer than asked for when the catalogue or the beams have no more."""

    items: np.ndarray  # int32[found], catalogue rows
    scores: np.ndarray  # float32[found], log-probabilities


def sample_users(sequences: Sequences, users: int) -> list[Request]:
    """A fixed choice of users of a validation or test split; those with at least 3 history items if there are any."""
    candidates = np.flatnonzero(sequences.lengths > 3)
    if not len(candidates):
        candidates = np.arange(len(sequences))
    chosen = np.random.default_rng(0).permutation(candidates)[:users]
    return [_request(record) for record in sequences.read(chosen)]


def find_users(sequences: Sequences, user_ids: AbstractSequence[str]) -> list[Request]:
    """The histories of these users in a validation or test split, in this order; raises DataError for unknown ones."""
    found = {}
    wanted = set(user_ids)
    for start in progress(range(0, len(sequences), CHUNK), "look for users"):
        for record in sequences.read(np.arange(start, min(start + CHUNK, len(sequences)))):
            if record.user_id in wanted:
                found[record.user_id] = _request(record)
        if len(found) == len(wanted):
            break
    missing = [user_id for user_id in user_ids if user_id not in found]
    if missing:
        raise DataError(
            f"no user {missing[0]!r} in this split. Users with too short a history are only in training; give their "
            "items instead (--items)."
        )
    return [found[user_id] for user_id in user_ids]


def from_items(catalogue: Catalogue, item_ids: AbstractSequence[str]) -> Request:
    """A history given as item ids, oldest first; raises DataError for an unknown one."""
    missing = [item_id for item_id in item_ids if item_id not in catalogue.index]
    if missing:
        raise DataError(f"no item {missing[0]!r} in the catalogue. Item ids are written as in the items file.")
    return Request("given items", np.array([catalogue.index[item_id] for item_id in item_ids], np.int32))


def recommend(trained: Trained, requests: AbstractSequence[Request], beams: int, top: int) -> list[Recommendations]:
    """The `top` best items of a beam search for each request; raises DataError when there is none."""
    if not requests:
        raise DataError("nobody to recommend for. Give --users=3, or --user=ID,ID or --items=ID,ID,ID.")
    encoded = histories(
        [request.name for request in requests],
        [request.history for request in requests],
        trained.tokens,
        trained.max_history,
        causal=trained.causal,
    )
    table = SortedTable.build(trained.semantic_ids.codes, trained.semantic_ids.sizes)
    retriever = Retriever(trained.graphdef, LiveIndex(table, filters=0), max(beams, top))
    items, scores, _ = jax.device_get(retriever(trained.params, encoded))
    return [
        Recommendations(row[row >= 0][:top], row_scores[row >= 0][:top])
        for row, row_scores in zip(items, scores, strict=True)
    ]


def table(request: Request, found: Recommendations, catalogue: Catalogue) -> str:
    """Two columns: the last items of the history, and the recommendations with their log-probabilities."""
    history = [_short(catalogue.titles[item]) for item in request.history[::-1][: max(len(found.items), 10)]]
    proposed = [
        f"{score:7.2f}  {_short(catalogue.titles[item])}{'  <- came next' if item == request.came_next else ''}"
        for item, score in zip(found.items, found.scores, strict=True)
    ]
    lines = [f"{request.name}: {len(request.history)} items"]
    if request.came_next is not None:
        lines.append(f"came next: {_short(catalogue.titles[request.came_next])}")
    lines.append(f"  {'history, newest first':{TITLE_WIDTH}}  {'score':>7}  recommended")
    for row in range(max(len(history), len(proposed))):
        left, right = (column[row] if row < len(column) else "" for column in (history, proposed))
        lines.append(f"  {left:{TITLE_WIDTH}}  {right}".rstrip())
    return "\n".join(lines)


def _request(record: Sequence) -> Request:
    return Request(record.user_id, record.items[:-1], int(record.items[-1]))


def _short(title: str) -> str:
    title = " ".join(title.split())
    return title if len(title) <= TITLE_WIDTH else title[: TITLE_WIDTH - 3] + "..."

"""Lists with places for new items, which a model that never saw them ranks too low.

A generator gives a new item's codes little probability: it has learned how often each code follows, and the item was
never the answer. So new items are searched among themselves, where the model's taste decides between them, and get a
share of each list. TIGER (Rajput et al. 2023, section 4.3) reserves a share too, for items that share the learned codes
of a generated one.
"""

import math

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from genrec.config import ConfigError
from genrec.data.filters import Filter
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories


class ReservingRetriever:
    """Two searches, among all items and among the new ones, and one list of both."""

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        table: SortedTable,
        beams: int,
        new_items: np.ndarray,
        share: float,
        mesh: Mesh | None = None,
    ):
        """`new_items` bool[items]; `share` of the first k items of a list, for every k. For the rest see `Retriever`.

        Raises ConfigError for a share that cannot be.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"evaluation.new_items_share={share}: give a share between 0 and 1")
        live = LiveIndex(table, filters=1, mesh=mesh)
        self._retriever, self._share = Retriever(graphdef, live, beams), share
        self._only_new = Filter(allow=frozenset(np.flatnonzero(new_items).tolist()))
        self._new = new_items
        self.beams = self.top = beams

    def round_up(self, rows: int) -> int:
        """See `Retriever`."""
        return self._retriever.round_up(rows)

    def __call__(self, params: nnx.State, histories: Histories) -> RankedItems:
        """As of a `Retriever`, in NumPy arrays; scores fall but for reserved places, and nothing is certified."""
        rows = len(histories.tokens)
        constraints = self._retriever.live.constraints([Restriction(self._only_new)] * rows)
        everything = jax.device_get(self._retriever(params, histories))
        new = jax.device_get(self._retriever(params, histories, constraints))
        items, scores = reserve(everything.items, everything.scores, new.items, new.scores, self._new, self._share)
        return RankedItems(items, scores, np.full(rows, np.inf, np.float32))


def reserve(
    items: np.ndarray, scores: np.ndarray, new: np.ndarray, new_scores: np.ndarray, is_new: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lists int32[rows, top] with their scores, in which at least floor(share * k) of the first k items are new.

    As far as there are any. Each place takes the best item of the whole list that is left, or, where too few new ones
    would stand in the list up to here, the best new one. For example (a, b, c, n1) and the new items (n1, n2) with the
    share 1/2 give (a, n1, b, n2). `is_new` is bool[items].
    """
    top = items.shape[1]
    found = np.full(items.shape, -1, items.dtype)
    values = np.full(scores.shape, -np.inf, scores.dtype)
    for row in range(len(items)):
        of_all = [pair for pair in zip(items[row].tolist(), scores[row].tolist(), strict=True) if pair[0] >= 0][::-1]
        of_new = [pair for pair in zip(new[row].tolist(), new_scores[row].tolist(), strict=True) if pair[0] >= 0][::-1]
        listed: set[int] = set()
        count = 0
        for place in range(top):
            wanted = count < math.floor(share * (place + 1) + 1e-9)
            for source in (of_new, of_all) if wanted else (of_all, of_new):
                while source and source[-1][0] in listed:
                    source.pop()
                if source:
                    item, score = source.pop()
                    break
            else:
                break
            listed.add(item)
            count += bool(is_new[item])
            found[row, place], values[row, place] = item, score
    return found, values

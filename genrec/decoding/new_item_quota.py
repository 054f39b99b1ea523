"""New-item quota: a share of each list for items that the model was not trained on.

A generator gives the codes of a new item little probability, because the item was never a target. So new items are
searched among themselves, where the model ranks them, and get a quota of each list. TIGER (Rajput et al. 2023, section
4.3) also reserves a share of a list, for items with the learned codes of a generated one.
"""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from genrec import shares
from genrec.config import ConfigError
from genrec.data.filters import Filter
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories


class QuotaRetriever:
    """Retriever that merges a search among all items and a search among new items."""

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        table: SortedTable,
        beams: int,
        new_items: np.ndarray,
        share: float,
        mesh: Mesh | None = None,
    ):
        """`new_items` is bool[items], `share` the quota of the first k items of a list, for every k; see `Retriever`.

        Raises ConfigError unless 0 <= share <= 1.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"evaluation.new_items_share={share} must be between 0 and 1")
        live = LiveIndex(table, filters=1, mesh=mesh)
        self._retriever, self._share = Retriever(graphdef, live, beams), share
        self._only_new = Filter(allow=frozenset(np.flatnonzero(new_items).tolist()))
        self._is_new = new_items
        self.beams = self.top = beams

    def round_up(self, rows: int) -> int:
        """Returns the result of `Retriever.round_up`."""
        return self._retriever.round_up(rows)

    def __call__(
        self, params: nnx.State, histories: Histories, exclude: Sequence[np.ndarray] | None = None
    ) -> RankedItems[np.ndarray]:
        """Returns the items of each row of `histories`, none certified; the quota breaks the order of scores.

        `exclude` are the catalogue rows int[n] that each list leaves out.
        """
        rows = len(histories.tokens)
        ranked = jax.device_get(self._retriever(params, histories, self._retriever.excluding(exclude)))
        restrictions = [Restriction(self._only_new, () if exclude is None else exclude[row]) for row in range(rows)]
        constraints = self._retriever.live.constraints(restrictions)
        new = jax.device_get(self._retriever(params, histories, constraints))
        items, scores = merge(ranked.items, ranked.scores, new.items, new.scores, self._is_new, self._share)
        return RankedItems(items, scores, np.full(rows, np.inf, np.float32))


def merge(
    items: np.ndarray, scores: np.ndarray, new: np.ndarray, new_scores: np.ndarray, is_new: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Merges lists int32[rows, top] and lists of new items; floor(share * k) of the first k items are new if possible.

    Each place takes the best remaining item of the first list or, if the quota is not met there, the best new one. For
    example (a, b, c, n1) and the new items (n1, n2) with the share 1/2 give (a, n1, b, n2). `is_new` is bool[items].
    """
    top = items.shape[1]
    found = np.full(items.shape, -1, items.dtype)
    values = np.full(scores.shape, -np.inf, scores.dtype)
    quota = [shares.floor(share, place + 1) for place in range(top)]
    for row in range(len(items)):
        of_all = [pair for pair in zip(items[row].tolist(), scores[row].tolist(), strict=True) if pair[0] >= 0][::-1]
        of_new = [pair for pair in zip(new[row].tolist(), new_scores[row].tolist(), strict=True) if pair[0] >= 0][::-1]
        listed: set[int] = set()
        count = 0
        for place in range(top):
            wanted = count < quota[place]
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

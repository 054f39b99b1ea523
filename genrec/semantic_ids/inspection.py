"""Inspection of semantic IDs: the items under a prefix, and the prefixes that nearest neighbors share."""

from collections.abc import Sequence

import numpy as np
from etils import epath

from genrec import artifacts, tables
from genrec.data.dataset import Dataset
from genrec.errors import shown
from genrec.semantic_ids import codes, embed, neighbors


class Inspection:
    """Catalogue, embeddings and semantic IDs of a work directory, checked for consistency."""

    def __init__(self, workdir: epath.PathLike):
        """Raises ArtifactError if a stage is missing or older than the stages before it."""
        workdir = epath.Path(workdir)
        dataset = Dataset(workdir / "dataset")
        made_from = artifacts.read(workdir / "semantic_ids", codes.KIND).inputs
        present = {
            "dataset": dataset.fingerprint,
            "item_embeddings": artifacts.read(workdir / "item_embeddings", embed.KIND).fingerprint,
        }
        for name, fingerprint in present.items():
            if made_from[name] != fingerprint:
                raise artifacts.ArtifactError(
                    f"{workdir / 'semantic_ids'} was made from another {name} than that of {workdir}. Run "
                    "launch/embed_items.py and launch/learn_semantic_ids.py again."
                )
        self.catalogue = dataset.catalogue
        self.ids = codes.SemanticIds.load(workdir / "semantic_ids")
        self.embeddings = embed.load(workdir / "item_embeddings")

    def overview(self, limit: int) -> str:
        """Returns the most frequent first codes, each with a few of its items."""
        counts = np.bincount(self.ids.codes[:, 0], minlength=self.ids.sizes[0])
        shown = np.argsort(-counts, kind="stable")[:limit]
        rows = []
        for code in shown[counts[shown] > 0]:
            titles = " | ".join(self._title(item, 40) for item in self.ids.items_with_prefix([code])[:4])
            rows.append([str(code), f"{counts[code]:,} items", titles])
        heading = f"{self.ids.items:,} items, codes per level {self.ids.sizes}; the most used codes of level 1:"
        return f"{heading}\n{tables.text(rows, align='rrl')}"

    def under_prefix(self, prefix: Sequence[int], limit: int) -> str:
        """Returns the items whose first codes are `prefix`, ordered by their codes."""
        found = self.ids.items_with_prefix(prefix)
        lines = [f"{len(found):,} items under {list(prefix)}:"]
        in_order = found[np.lexsort(self.ids.codes[found].T[::-1])]
        lines.append(self._table([self._row(item) for item in in_order[:limit]]))
        if len(found) > limit:
            lines.append(f"and {len(found) - limit:,} more (see --limit)")
        return "\n".join(lines)

    def neighbors(self, item_id: str, limit: int) -> str:
        """Returns the nearest items by embedding, and how many first codes they share."""
        item = self.catalogue.index.get(item_id)
        if item is None:
            raise codes.SemanticIdError(
                f"item {shown(item_id)} is not in the catalogue; filtering may have removed it."
            )
        own, count = np.array([item]), min(limit, self.ids.items - 1)
        found = neighbors.nearest(self.embeddings[own], self.embeddings, count, own)[0][0]
        shared = np.cumprod(self.ids.codes[found] == self.ids.codes[item], axis=1).sum(axis=1)
        rows = [[str(count), *self._row(neighbor)] for neighbor, count in zip(found, shared, strict=True)]
        heading = "shared first codes, semantic ID, item id and title of the nearest items:"
        return f"{self._table([self._row(item)])}\n\n{heading}\n{self._table(rows)}"

    def _row(self, item: int) -> list[str]:
        """Returns the codes of an item, its id and its title."""
        return [*map(str, self.ids.codes[item]), self.catalogue.item_ids[item], self._title(item, 80)]

    def _table(self, rows: Sequence[Sequence[str]]) -> str:
        return tables.text(rows, align="r" * (max(map(len, rows), default=2) - 2) + "l")

    def _title(self, item: int, length: int) -> str:
        title = self.catalogue.titles[item]
        return title if len(title) <= length else title[: length - 1] + "…"

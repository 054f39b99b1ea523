"""Verbs for events of a history that fit the catalogue: played, read, watched, bought, else chosen."""

import pyarrow as pa
import pyarrow.compute as pc

from genrec.data.dataset import Catalogue

CHOSEN = "chosen"  # where no other word fits all items
_KINDS = ("media_type", "type", "kind", "format")  # columns that may say what the items are
_OF_KIND = {
    "played": "music song track album podcast audiobook episode playlist radio game",
    "read": "book ebook e-book article news comic magazine story novel paper",
    "watched": "movie film video series show documentary clip",
}
_GOODS = ("price", "brand", "sales_rank")  # columns of what is sold
WORDS = (CHOSEN, *_OF_KIND, "bought")


def chosen(catalogue: Catalogue) -> str:
    """Returns the word of WORDS that fits all items, by a column of their kind, or columns of what is sold."""
    names = catalogue.table.column_names
    for column in set(_KINDS) & set(names):
        kinds = {
            str(kind).lower().removesuffix("s")
            for kind in pc.unique(catalogue.column(column).cast(pa.string())).to_pylist()
            if kind
        }
        for word, known in _OF_KIND.items():
            if kinds and kinds <= {kind.removesuffix("s") for kind in known.split()}:
                return word
    return "bought" if set(_GOODS) & set(names) else CHOSEN

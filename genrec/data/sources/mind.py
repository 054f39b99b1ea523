"""MIND, Microsoft News (msnews.github.io): behaviors.tsv and news.tsv of MINDsmall or MINDlarge.

The folder holds one or several of MINDsmall_train, MINDsmall_dev, ... as unpacked, each with

* `behaviors.tsv`: impression, user, time ("11/15/2019 8:55:22 AM"), history ("N106403 N71977", often empty), and
  impressions ("N129416-0 N26703-1": 1 was clicked), between tabs, without a header;
* `news.tsv`: id, category, subcategory, title, abstract, url and two lists of entities, between tabs, not quoted.

Interactions are the clicks, at the time of their impression, and the history of each user's first impression. Its items
have no times: they get the seconds before the first impression of the log, in order. What was shown and not clicked is
dropped, as is the test set of MINDlarge, which does not say what was clicked.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.errors import shown

BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
NEWS = ("item_id", "category", "subcategory", "title", "abstract", "rest")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the behaviors and the news of all parts."""
    prefix = f"{subset}*/" if subset else ""
    return {role: folders.some(folder, f"{prefix}{role}.tsv") for role in ("behaviors", "news")}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns clicks and histories, and the news with `title`, `description` (the abstract), and categories."""
    paths = files(folder, subset)
    behaviors = parsing.joined([_labelled(path) for path in paths["behaviors"]], str(folder))
    times = _times(behaviors)
    users, history, impressions = (
        behaviors.table[name].combine_chunks() for name in ("user_id", "history", "impressions")
    )
    clicked_by, clicked = _words(impressions)
    is_click = pc.ends_with(clicked, "-1").to_numpy(zero_copy_only=False)
    clicks = {
        "user_id": users.take(pa.array(clicked_by[is_click])),
        "item_id": pc.utf8_slice_codeunits(clicked.filter(pa.array(is_click)), 0, -2),
        "timestamp": times[clicked_by[is_click]],
    }
    before = _histories(users, history, times)
    log = {
        name: pa.concat_arrays([pa.array(before[name]), pa.array(clicks[name])]) for name in ("user_id", "item_id")
    } | {"timestamp": pa.array(np.concatenate([before["timestamp"], clicks["timestamp"]]), pa.timestamp("s", "UTC"))}
    news = parsing.joined([parsing.cells(path, "\t", NEWS) for path in paths["news"]], str(folder))
    items = parsing.without_repeats(news, ("item_id",)).table.rename_columns({"abstract": "description"})
    interactions = parsing.without_repeats(reading.from_columns(log, str(paths["behaviors"][0])))
    texts = ("title", "description", "category", "subcategory")
    catalogue = reading.SourceTable(items.drop_columns("rest"), news.name)
    return reading.Tables(interactions, parsing.described(catalogue, interactions, texts), text_fields=texts)


def _labelled(path: epath.Path) -> reading.SourceTable:
    """Returns the behaviors whose impressions say what was clicked."""
    source = parsing.cells(path, "\t", BEHAVIORS)
    labelled = pc.match_substring_regex(source.table["impressions"], "-[01] *$").to_numpy()
    return parsing.said(parsing.keep(source, labelled), len(source), "that do not say what was clicked")


def _times(behaviors: reading.SourceTable) -> np.ndarray:
    """Returns int64[rows], Unix seconds of times such as "11/15/2019 8:55:22 AM", of no zone, which is taken as UTC."""
    form = r"^(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AP]M)$"
    text = pc.utf8_trim_whitespace(behaviors.table["time"])
    parsed = pc.strptime(text, "%m/%d/%Y %I:%M:%S %p", "s", error_is_null=True)
    wrong = np.flatnonzero(parsed.is_null().to_numpy() | ~pc.match_substring_regex(text, form).to_numpy())
    if len(wrong):
        raise DataError(
            f"{behaviors.name}, {behaviors.where(int(wrong[0]))}: the time {shown(text[int(wrong[0])].as_py())} is not "
            "written as 11/15/2019 8:55:22 AM. Download the file again."
        )
    return parsed.cast(pa.int64()).to_numpy()


def _words(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Returns int64[words], the rows of the words between spaces in texts, and the words."""
    lists = pc.split_pattern(pc.utf8_trim_whitespace(texts), " ")
    words = lists.flatten()
    rows = np.repeat(np.arange(len(texts)), pc.list_value_length(lists).to_numpy())
    some = pc.not_equal(words, "")
    return rows[some.to_numpy(zero_copy_only=False)], words.filter(some)


def _histories(users: pa.Array, history: pa.Array, times: np.ndarray) -> dict[str, object]:
    """Returns the interactions of the history in each user's first impression, one a second before the log begins."""
    codes = users.dictionary_encode().indices.to_numpy()
    order = np.lexsort([times, codes])  # stable
    first = order[np.append(True, codes[order][1:] != codes[order][:-1])] if len(order) else order
    rows, items = _words(history.take(pa.array(first)))
    counts = np.bincount(rows, minlength=len(first))
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(rows))
    return {
        "user_id": users.take(pa.array(first[rows])),
        "item_id": items,
        "timestamp": times.min(initial=2**62) - from_end,
    }

"""KuaiRec 2.0 (kuairec.com): short videos that were watched, as unpacked.

The folder holds `big_matrix.csv` or `small_matrix.csv` (user_id, video_id, play_duration, video_duration, time, date,
timestamp, watch_ratio); `item_categories.csv` (video_id, feat, as in "[27, 9]"), `kuairec_caption_category.csv` and
`user_features.csv` where they are there. data.subset chooses the matrix: big by default.

`timestamp` is Unix seconds with decimals, `time` the same in UTC+8, without a zone. Rows without either, of which
small_matrix.csv has some, are dropped. watch_ratio is the rating: data.min_rating=1 keeps what was watched to its end.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.errors import cut

LOG = dict.fromkeys(("user_id", "video_id", "time", "timestamp", "watch_ratio"), pa.string())
EAST = 8 * 3600 * 1_000_000  # microseconds of UTC+8
# Captions have commas and line ends, and are not always quoted; what follows them are three pairs of number and name.
_CAPTIONS = re.compile(r"^(\d+),(.*?)" + r",(-?\d+),([^,\n]*)" * 3 + "$", re.MULTILINE | re.DOTALL)
_UNKNOWN = ("", "UNKNOWN", "[]")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of the log, the tags, the captions and the users."""
    matrix = subset or ("big" if folders.find(folder, "big_matrix.csv") else "small")
    return {
        "log": [folders.one(folder, f"{matrix.removesuffix('_matrix')}_matrix.csv")],
        "tags": folders.at_most_one(folder, "item_categories.csv"),
        "captions": folders.at_most_one(folder, "kuairec_caption_category.csv"),
        "users": folders.at_most_one(folder, "user_features.csv"),
    }


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with the watch ratio as rating, and the videos with captions, categories and tags."""
    paths = files(folder, subset)
    log = _log(paths["log"][0])
    items = pc.unique(log.table["item_id"]).to_pylist()
    tags = _tags(paths["tags"][0]) if paths["tags"] else {}
    captions = _captions(paths["captions"][0]) if paths["captions"] else {}
    described = [captions.get(item, ("", [])) for item in items]
    columns = {
        "item_id": pa.array(items, pa.string()),
        "title": pa.array([text or None for text, _ in described], pa.string()),
        "categories": pa.array([names for _, names in described], pa.list_(pa.string())),
        "tags": pa.array([tags.get(item, []) for item in items], pa.list_(pa.string())),
    }
    source = str((paths["captions"] or paths["tags"] or paths["log"])[0])
    users = reading.read_table(paths["users"][0]) if paths["users"] else None
    texts = ("title", "categories", "tags") if captions else ("tags",) if tags else ()
    table = reading.from_columns(columns, source)
    return reading.Tables(log, parsing.described(table, log, texts) if texts else table, users, text_fields=texts)


def _log(path: epath.Path) -> reading.SourceTable:
    source = parsing.csv(path, LOG)
    table = source.table
    empty = {name: pc.equal(pc.utf8_trim_whitespace(table[name]), "") for name in ("time", "timestamp")}
    try:
        seconds = pc.if_else(empty["timestamp"], None, table["timestamp"]).cast(pa.float64())
        local = pc.if_else(empty["time"], None, table["time"]).cast(pa.timestamp("us")).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: a time cannot be read ({cut(str(error))}). Download the file again.") from error
    unix = pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64())
    times = pc.coalesce(unix, pc.subtract(local, EAST)).cast(pa.timestamp("us", "UTC"))
    columns = {
        "user_id": table["user_id"],
        "item_id": table["video_id"],
        "timestamp": times,
        "rating": table["watch_ratio"],
    }
    kept = parsing.keep(parsing.with_columns(source, columns), times.is_valid().to_numpy())
    return parsing.without_repeats(parsing.said(kept, len(source), "without a time"))


def _tags(path: epath.Path) -> dict[str, list[str]]:
    """Returns words such as tag27 by video."""
    table = parsing.csv(path, {"video_id": pa.string(), "feat": pa.string()}).table
    return {
        video: [f"tag{number}" for number in re.findall(r"\d+", feat)]
        for video, feat in zip(table["video_id"].to_pylist(), table["feat"].to_pylist(), strict=True)
    }


def _captions(path: epath.Path) -> dict[str, tuple[str, list[str]]]:
    """Returns caption, with cover text and topics, and names of categories by video."""
    text = path.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n")
    described = {}
    for match in _CAPTIONS.finditer(text.partition("\n")[2]):
        video, words, *categories = match.groups()
        names = [name.strip().strip('"') for name in categories[1::2]]
        described[video] = (_caption(words), [name for name in names if name not in _UNKNOWN])
    return described


def _caption(words: str) -> str:
    """Returns the text of "cover,caption,[topic, topic]"."""
    cover, _, rest = words.partition(",")
    topics = re.search(r',"?\[([^\[\]]*)\]"?$', rest)
    texts = (cover, rest[: topics.start()], topics[1]) if topics else (cover, rest)
    parts = [text.strip().strip('"').strip() for text in texts]
    return " ".join(part for part in dict.fromkeys(parts) if part not in _UNKNOWN)

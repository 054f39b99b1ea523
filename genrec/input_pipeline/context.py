"""What the model is told before the history: features of the user and of the moment as tokens, vectors as soft tokens.

Each feature has tokens of its own: the first for values that training did not know, then one for each value or bucket.
A feature may be absent, and then has no token at all: training leaves features out at random, so that serving may.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from genrec import config
from genrec.data.dataset import Catalogue, Dataset
from genrec.data.errors import DataError

ABSENT = -1  # in the place of a code
UNKNOWN = 0  # the code of a value that training did not know
TIME_OF_DAY = "time_of_day"  # in hours, 0 to 24
HOURS = tuple(float(hour) for hour in range(3, 24, 3))
VECTOR, SUMMARY, SEQUENTIAL = "vector", "summary", "sequential"  # the soft tokens
ALL = "all"  # the name for every feature and every vector


@dataclasses.dataclass(frozen=True)
class Feature:
    """A categorical feature has `values`, a number has `edges`."""

    name: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()  # where buckets meet, ascending
    of: str = "user"  # or "item", "time": those two belong to the moment of a target

    @property
    def size(self) -> int:
        """Codes, that of unknown values included."""
        return 1 + (len(self.edges) + 1 if self.edges else len(self.values))

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        return {value: code for code, value in enumerate(self.values, start=1)}

    def code(self, value: str | float | None) -> int:
        """0 for a value that is not known, 1, 2, ... for one that is; -1 where there is none."""
        if value is None or value == "":
            return ABSENT
        if not self.edges:
            return self._codes.get(str(value), UNKNOWN)
        try:
            number = float(value)
        except ValueError:
            return UNKNOWN
        return UNKNOWN if np.isnan(number) else int(np.searchsorted(self.edges, number, side="right")) + 1

    def meaning(self, code: int) -> str:
        """What a code stands for, in words."""
        if code == UNKNOWN:
            return "unknown"
        if not self.edges:
            return self.values[code - 1]
        ends = ("", *(f"{edge:g}" for edge in self.edges), "")
        return f"{ends[code - 1] or 'below'} to {ends[code] or 'above'}".replace("below to", "below").replace(
            "to above", "and more"
        )


@dataclasses.dataclass(frozen=True)
class Soft:
    """A vector that becomes tokens."""

    name: str
    width: int
    tokens: int
    source: str = ""  # fingerprint of the SASRec whose vector it is


@dataclasses.dataclass(frozen=True)
class Context:
    """The features and vectors that a model knows, in the order of its prefix."""

    features: tuple[Feature, ...] = ()
    soft: tuple[Soft, ...] = ()

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features] + [soft.name for soft in self.soft]

    @property
    def codes(self) -> int:
        """Codes of all features together."""
        return sum(feature.size for feature in self.features)

    @property
    def soft_tokens(self) -> int:
        return sum(soft.tokens for soft in self.soft)

    @property
    def vocabulary(self) -> int:
        return self.codes + self.soft_tokens

    def check(self, names: Sequence[str]) -> None:
        """Raises DataError for a name that is none of a feature or vector."""
        for name in names:
            if name not in self.names:
                known = ", ".join(self.names) or "nothing: it was trained without context"
                raise DataError(f"the model has no context {name!r}; it knows {known}.")

    def as_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "Context":
        """What `as_json` gave; of an empty mapping, nothing."""
        features = [
            Feature(**{**feature, "values": tuple(feature["values"]), "edges": tuple(feature["edges"])})
            for feature in fields.get("features", ())
        ]
        return Context(tuple(features), tuple(Soft(**soft) for soft in fields.get("soft", ())))


class RequestContext(NamedTuple):
    """What one request tells beside the user's id and history, and what it keeps back."""

    overrides: Mapping[str, str] = {}  # feature -> value, in the place of the users table's
    withheld: frozenset[str] = frozenset()  # features and vectors that are left out; "all" for all of them
    prompt: str = ""
    offset: np.ndarray | None = None  # float32[width], added to the summary: where a profile moves the taste


NO_OVERRIDES = RequestContext()
ALL_WITHHELD = RequestContext(withheld=frozenset({ALL}))

# What a sequential model makes of histories, catalogue rows int[n] each: float32[histories, width].
Encode = Callable[[Sequence[np.ndarray]], np.ndarray]


class Users:
    """Looks up what is known of users. Rows are those of the users table; -1 is a user who is not in it."""

    def __init__(
        self,
        context: Context,
        users: pa.Table | None,
        item_vectors: np.ndarray | None = None,
        encode: Encode | None = None,
    ):
        """`item_vectors` float32[items, width] are needed where there is a summary, `encode` for SASRec's vectors."""
        self.context, self.item_vectors, self._encode = context, item_vectors, encode
        ids = [] if users is None else users["user_id"].cast(pa.string()).to_pylist()
        self._row = {user_id: row for row, user_id in enumerate(ids)}
        self.codes = np.full((len(ids) + 1, len(context.features)), ABSENT, np.int32)  # the last row: nobody
        for place, feature in enumerate(context.features):
            if feature.of == "user" and users is not None and feature.name in users.column_names:
                values = users[feature.name]
                if not feature.edges:
                    values = values.cast(pa.string())
                self.codes[:-1, place] = [feature.code(value) for value in values.to_pylist()]
        self.vectors: dict[int, np.ndarray] = {}
        wanted = [soft for soft in context.soft if soft.name == VECTOR]
        if wanted and users is not None and VECTOR in users.column_names:
            for row, vector in enumerate(users[VECTOR].to_pylist()):
                if vector is not None and len(vector) == wanted[0].width:
                    self.vectors[row] = np.asarray(vector, np.float32)

    def row(self, user_id: str) -> int:
        return self._row.get(user_id, -1)

    def codes_of(self, user_id: str, request_context: RequestContext) -> np.ndarray:
        """int32[features]: what is known of a user and told, -1 where absent.

        Raises DataError for features and vectors that do not exist.
        """
        self.context.check([*request_context.overrides, *(request_context.withheld - {ALL})])
        codes = self.codes[self.row(user_id)].copy()
        for place, feature in enumerate(self.context.features):
            if feature.name in request_context.overrides:
                codes[place] = feature.code(request_context.overrides[feature.name])
            if request_context.withheld & {feature.name, ALL}:
                codes[place] = ABSENT
        return codes

    def vectors_of(
        self,
        soft: Soft,
        rows: np.ndarray,
        earlier: Sequence[np.ndarray],
        wanted: np.ndarray,
        offsets: Sequence[np.ndarray | None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of segments, float32[segments, width], and which there are, bool[segments].

        Args:
          soft: Which vector.
          rows: int[segments], of the users.
          earlier: Catalogue rows before each window, int[n].
          wanted: bool[segments]; the others have none.
          offsets: What is added to a summary; one alone makes a summary of no items.
        """
        chosen = np.flatnonzero(wanted)
        offsets = offsets or [None] * len(rows)
        if soft.name == VECTOR:
            found = {segment: self.vectors.get(int(rows[segment])) for segment in chosen}
        elif soft.name == SUMMARY:
            found = {segment: self._summary(earlier[segment], offsets[segment]) for segment in chosen}
        else:
            chosen = [segment for segment in chosen if len(earlier[segment])]
            found = dict(zip(chosen, self._encode([earlier[s] for s in chosen]) if chosen else (), strict=True))
        vectors, there = np.zeros((len(rows), soft.width), np.float32), np.zeros(len(rows), bool)
        for segment, vector in found.items():
            if vector is not None:
                vectors[segment], there[segment] = vector, True
        return vectors, there

    def _summary(self, items: np.ndarray, offset: np.ndarray | None) -> np.ndarray | None:
        """float32[width]: the mean embedding of catalogue rows, moved by an offset; None where there is neither."""
        if not len(items):
            return offset
        mean = self.item_vectors[items].mean(axis=0)
        return mean if offset is None else mean + offset


def learn(
    cfg: config.Context,
    dataset: Dataset,
    item_width: int | None = None,
    sequential: tuple[int, str] | None = None,
) -> Context:
    """The features that the config names, with the values that the data has.

    `item_width`: of the item embeddings, for a summary. `sequential`: width and fingerprint of SASRec, for its vectors.
    Raises ConfigError where the data has no such column, or there are no embeddings or no SASRec.
    """
    users, features = dataset.users, []
    named = [*(f"the users have no {n}" for n in cfg.user_columns if users is None or n not in users.column_names)]
    named += [f"the items have no {n}" for n in cfg.item_columns if n not in dataset.catalogue.table.column_names]
    if cfg.vector and (users is None or VECTOR not in users.column_names):
        named.append(f"the users have no {VECTOR}")
    if named:
        there = "no users file" if users is None else f"columns of users: {', '.join(users.column_names)}"
        raise config.ConfigError(f"context: {'; '.join(named)} ({there}). Take them out of the config, or add them.")
    for name in cfg.user_columns:
        features.append(_learn_user(name, users[name], cfg))
    for name in cfg.item_columns:
        values = dataset.catalogue.column(name).cast(pa.string()).to_pylist()
        features.append(Feature(name, values=tuple(sorted({value for value in values if value})), of="item"))
    if cfg.time_of_day:
        features.append(Feature(TIME_OF_DAY, edges=HOURS, of="time"))
    soft = []
    if cfg.vector:
        widths = [len(vector) for vector in users[VECTOR].to_pylist() if vector is not None]
        soft.append(Soft(VECTOR, int(np.bincount(widths).argmax()), cfg.soft_tokens))
    if cfg.summary:
        if item_width is None:
            raise config.ConfigError("context.summary needs item embeddings. Run launch/embed_items.py first.")
        soft.append(Soft(SUMMARY, item_width, cfg.soft_tokens))
    if cfg.sequential:
        if sequential is None:
            raise config.ConfigError("context.sequential needs SASRec. Run launch/train_sasrec.py first.")
        width, fingerprint = sequential
        soft.append(Soft(SEQUENTIAL, width, cfg.soft_tokens, fingerprint))
    return Context(tuple(features), tuple(soft))


def _learn_user(name: str, column: pa.ChunkedArray, cfg: config.Context) -> Feature:
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = np.array([value for value in column.to_pylist() if value is not None], np.float64)
        edges = np.unique(np.quantile(numbers[~np.isnan(numbers)], np.linspace(0, 1, cfg.buckets + 1)[1:-1]))
        return Feature(name, edges=tuple(edges.tolist()))
    values, counts = np.unique([v for v in column.cast(pa.string()).to_pylist() if v], return_counts=True)
    return Feature(name, values=tuple(values[counts >= cfg.min_users].tolist()))


def item_codes(context: Context, catalogue: Catalogue) -> np.ndarray:
    """int32[items, features]: the codes that items give to the features of the moment; -1 for other features."""
    codes = np.full((len(catalogue), len(context.features)), ABSENT, np.int32)
    for place, feature in enumerate(context.features):
        if feature.of == "item":
            codes[:, place] = [feature.code(v) for v in catalogue.column(feature.name).cast(pa.string()).to_pylist()]
    return codes

"""Conditioning inputs of the model: features of users and requests as tokens, vectors of users as soft tokens.

A feature has one token for values that were unknown in training, then one for each known value or bucket. A feature
without a value adds no token: training drops features at random, so that requests may leave them out.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from genrec import config
from genrec.data import cells
from genrec.data.dataset import Catalogue, Dataset
from genrec.data.errors import DataError
from genrec.errors import shown

ABSENT = -1  # stands for the code of a feature without a value
UNKNOWN = 0  # the code of values that training did not see
TIME_OF_DAY = "time_of_day"  # in hours, 0 to 24
HOURS = tuple(float(hour) for hour in range(3, 24, 3))
VECTOR, SUMMARY, SEQUENTIAL = "vector", "summary", "sequential"  # names of the vector features
ALL = "all"  # names all features and vectors


@dataclasses.dataclass(frozen=True)
class Feature:
    """A categorical feature, which has `values`, or a bucketed number, which has `edges`."""

    name: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()  # boundaries between buckets, ascending
    of: str = "user"  # or, for request-time context, "item" (a column of the target item) or "time"

    @property
    def size(self) -> int:
        """Returns the number of codes, the one for unknown values included."""
        return 1 + (len(self.edges) + 1 if self.edges else len(self.values))

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        return {value: code for code, value in enumerate(self.values, start=1)}

    def code(self, value: str | float | None) -> int:
        """Returns 1, 2, ... for a known value or bucket, 0 (UNKNOWN) for another value, -1 (ABSENT) for none."""
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
        """Returns the value or the bucket of a code, to be read by people."""
        if code == UNKNOWN:
            return "unknown"
        if not self.edges:
            return self.values[code - 1]
        ends = ("", *(f"{edge:g}" for edge in self.edges), "")
        text = f"{ends[code - 1] or 'below'} to {ends[code] or 'above'}"
        return text.replace("below to", "below").replace("to above", "and more")


@dataclasses.dataclass(frozen=True)
class VectorFeature:
    """A dense vector per user, which an adapter of the model projects to soft tokens."""

    name: str
    width: int
    tokens: int  # soft tokens per vector
    source: str = ""  # fingerprint of the SASRec that computes the vector


@dataclasses.dataclass(frozen=True)
class Context:
    """The features and vectors that a model reads, in the order of its prefix."""

    features: tuple[Feature, ...] = ()
    vectors: tuple[VectorFeature, ...] = ()

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features] + [vector.name for vector in self.vectors]

    @property
    def codes(self) -> int:
        """Returns the number of codes of all features together."""
        return sum(feature.size for feature in self.features)

    @property
    def soft_tokens(self) -> int:
        """Returns the number of soft tokens of a user who has all vectors."""
        return sum(vector.tokens for vector in self.vectors)

    @property
    def vocabulary(self) -> int:
        """Returns the number of tokens that stand for features and vectors."""
        return self.codes + self.soft_tokens

    def check(self, names: Sequence[str]) -> None:
        """Raises DataError for a name that is neither a feature nor a vector of the model."""
        for name in names:
            if name not in self.names:
                known = ", ".join(self.names) or "nothing: it was trained without context"
                raise DataError(f"the model has no context {name!r}; it knows {known}.")

    def unknown(self, overrides: Mapping[str, str]) -> list[str]:
        """Returns a sentence for each value that did not occur in training."""
        return [
            f"{feature.name}: {shown(value)} did not occur in training, the model takes it as unknown"
            for feature in self.features
            if (value := overrides.get(feature.name)) is not None and feature.code(value) == UNKNOWN
        ]

    def as_json(self) -> dict[str, Any]:
        """Returns a form for JSON, in which `vectors` are called "soft"."""
        features = [
            {**dataclasses.asdict(feature), "values": list(feature.values), "edges": list(feature.edges)}
            for feature in self.features
        ]
        return {"features": features, "soft": [dataclasses.asdict(vector) for vector in self.vectors]}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "Context":
        """Returns the context that `as_json` wrote; an empty mapping gives an empty context."""
        features = [
            Feature(**{**feature, "values": tuple(feature["values"]), "edges": tuple(feature["edges"])})
            for feature in fields.get("features", ())
        ]
        return Context(tuple(features), tuple(VectorFeature(**vector) for vector in fields.get("soft", ())))


class RequestContext(NamedTuple):
    """Conditioning inputs of one request, beside the user's id and history."""

    overrides: Mapping[str, str] = {}  # feature -> value, in place of the one in the users table
    withheld: frozenset[str] = frozenset()  # features and vectors that are left out; "all" for all of them
    prompt: str = ""
    offset: np.ndarray | None = None  # float32[width], added to the summary by a taste profile


NO_OVERRIDES = RequestContext()
ALL_WITHHELD = RequestContext(withheld=frozenset({ALL}))

# Encodes histories, catalogue rows int[n] each, as vectors float32[histories, width].
Encode = Callable[[Sequence[np.ndarray]], np.ndarray]


class UserFeatures:
    """Looks up the feature codes and vectors of users. Users are rows of the users table; -1 is not in the table."""

    def __init__(
        self,
        context: Context,
        users: pa.Table | None,
        item_vectors: np.ndarray | None = None,
        encode: Encode | None = None,
    ):
        """Reads the users table. A summary needs `item_vectors` float32[items, width], SASRec's vectors `encode`."""
        self.context, self.item_vectors, self._encode = context, item_vectors, encode
        ids = [] if users is None else users["user_id"].cast(pa.string()).to_pylist()
        self._row = {user_id: row for row, user_id in enumerate(ids)}
        self.codes = np.full((len(ids) + 1, len(context.features)), ABSENT, np.int32)  # the last row: unknown users
        for place, feature in enumerate(context.features):
            if feature.of == "user" and users is not None and feature.name in users.column_names:
                values = users[feature.name]
                if not feature.edges:
                    values = cells.labels(values)
                self.codes[:-1, place] = [feature.code(value) for value in values.to_pylist()]
        self.vectors: dict[int, np.ndarray] = {}
        widths = [vector.width for vector in context.vectors if vector.name == VECTOR]
        if widths and users is not None and VECTOR in users.column_names:
            for row, vector in enumerate(users[VECTOR].to_pylist()):
                if vector is not None and len(vector) == widths[0]:
                    self.vectors[row] = np.asarray(vector, np.float32)

    def row(self, user_id: str) -> int:
        """Returns the row of a user in the users table, -1 for a user who is not in it."""
        return self._row.get(user_id, -1)

    def codes_of(self, user_id: str, request_context: RequestContext) -> np.ndarray:
        """Returns int32[features]: the user's feature codes with the overrides of a request, ABSENT where withheld.

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
        feature: VectorFeature,
        rows: np.ndarray,
        earlier: Sequence[np.ndarray],
        wanted: np.ndarray,
        offsets: Sequence[np.ndarray | None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the vectors of segments, float32[segments, width], and which segments have one, bool[segments].

        `rows` int[segments] are the users, `earlier` the catalogue rows int[n] of their items before the segment, and
        `wanted` bool[segments] tells which to look up. A summary is the mean of the earlier items plus the offset.
        """
        segments = [int(segment) for segment in np.flatnonzero(wanted)]
        found: dict[int, np.ndarray | None]
        if feature.name == VECTOR:
            found = {segment: self.vectors.get(int(rows[segment])) for segment in segments}
        elif feature.name == SUMMARY:
            found = {s: self._summary(earlier[s], offsets[s] if offsets else None) for s in segments}
        else:
            assert self._encode is not None, "SASRec's vectors need its encoder"
            segments = [segment for segment in segments if len(earlier[segment])]
            encoded = self._encode([earlier[segment] for segment in segments]) if segments else ()
            found = dict(zip(segments, encoded, strict=True))
        vectors, present = np.zeros((len(rows), feature.width), np.float32), np.zeros(len(rows), bool)
        for segment, vector in found.items():
            if vector is not None:
                vectors[segment], present[segment] = vector, True
        return vectors, present

    def _summary(self, items: np.ndarray, offset: np.ndarray | None) -> np.ndarray | None:
        """Returns the mean embedding float32[width] of catalogue rows plus the offset; None without both."""
        if not len(items):
            return offset
        assert self.item_vectors is not None, "a summary needs item embeddings"
        mean = self.item_vectors[items].mean(axis=0)
        return mean if offset is None else mean + offset


def learn(
    cfg: config.Context, dataset: Dataset, item_width: int | None = None, sasrec: VectorFeature | None = None
) -> Context:
    """Returns the context that a config asks for, with the values and buckets that the data has.

    `item_width` is the width of the item embeddings, `sasrec` the vectors of SASRec. Raises ConfigError for a column
    that the data lacks, and where the context needs item embeddings or SASRec and gets none.
    """
    users, user_columns = dataset.users, [] if dataset.users is None else dataset.users.column_names
    wanted = (*cfg.user_columns, VECTOR) if cfg.vector else cfg.user_columns
    missing = [f"the users have no {name}" for name in wanted if name not in user_columns]
    item_columns = dataset.catalogue.table.column_names
    missing += [f"the items have no {name}" for name in cfg.item_columns if name not in item_columns]
    if missing:
        there = "no users file" if users is None else f"columns of users: {', '.join(user_columns)}"
        raise config.ConfigError(f"context: {'; '.join(missing)} ({there}). Take them out of the config, or add them.")
    features, vectors = [], []
    if users is not None:
        features += [_user_feature(name, users[name], cfg) for name in cfg.user_columns]
    for name in cfg.item_columns:
        values = dataset.catalogue.labels(name)
        features.append(Feature(name, values=tuple(sorted({value for value in values if value})), of="item"))
    if cfg.time_of_day:
        if not dataset.has_times:
            raise config.ConfigError(
                "context.time_of_day: the log has no times, only an order. Add a column timestamp, or leave it out."
            )
        features.append(Feature(TIME_OF_DAY, edges=HOURS, of="time"))
    if cfg.vector and users is not None:
        widths = [len(vector) for vector in users[VECTOR].to_pylist() if vector is not None]
        vectors.append(VectorFeature(VECTOR, int(np.bincount(widths).argmax()), cfg.soft_tokens))
    if cfg.summary:
        if item_width is None:
            raise config.ConfigError("context.summary needs item embeddings. Run launch/embed_items.py first.")
        vectors.append(VectorFeature(SUMMARY, item_width, cfg.soft_tokens))
    if cfg.sequential:
        if sasrec is None:
            raise config.ConfigError("context.sequential needs SASRec. Run launch/train_sasrec.py first.")
        vectors.append(sasrec)
    return Context(tuple(features), tuple(vectors))


def _user_feature(name: str, column: pa.ChunkedArray, cfg: config.Context) -> Feature:
    """Returns the feature of a column of the users table: numbers are cut at quantiles, rare categories left out."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = np.array([value for value in column.to_pylist() if value is not None], np.float64)
        edges = np.unique(np.quantile(numbers[~np.isnan(numbers)], np.linspace(0, 1, cfg.buckets + 1)[1:-1]))
        return Feature(name, edges=tuple(edges.tolist()))
    values, counts = np.unique([value for value in cells.labels(column).to_pylist() if value], return_counts=True)
    return Feature(name, values=tuple(values[counts >= cfg.min_users].tolist()))


def item_feature_codes(context: Context, catalogue: Catalogue) -> np.ndarray:
    """Returns int32[items, features]: the codes of each item as the target, ABSENT for features not of items."""
    codes = np.full((len(catalogue), len(context.features)), ABSENT, np.int32)
    for place, feature in enumerate(context.features):
        if feature.of == "item":
            codes[:, place] = [feature.code(value) for value in catalogue.labels(feature.name)]
    return codes

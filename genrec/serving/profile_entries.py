"""Entries of taste profiles: their text form, their dates, and the catalogue items that they are about.

An entry is about the items that have a value of a column, one of several values ("|"), or values of several columns at
once (" & "):

    genre=jazz    genre=metal|techno    explicit=true & genre=hip hop    item=m00005    artist="Ada | Co"

Quotation marks are for values that contain such characters: JSON strings, which stand for a whole cell.
"""

import dataclasses
import datetime
import functools
import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.data.filters import SEPARATOR, Condition
from genrec.errors import GenrecError, cut, shown
from genrec.serving import suggestions

KINDS = ("likes", "dislikes", "more_of", "less_of", "blocked")
DENIED = ("dislikes", "blocked")
SIGNS = {"likes": 1.0, "more_of": 1.0, "less_of": -1.0, "dislikes": -1.0, "blocked": -1.0}
SAID, LEARNED = "said", "learned"  # sources: by the user, or from the log
ITEM = "item"  # in the place of a column: an item id
MAX_STRENGTH = 10.0

# Possessive, and from the first of several spaces alone: long texts take linear time.
_NEXT_PART = r"(?<!\s)\s++&\s++(?=[^=&|\"]++=)"
_COLUMN = re.compile(r"[^=]+=")
_QUOTED = re.compile(rf'\s*("(?:[^"\\]|\\.)*")\s*(?=\||$|{_NEXT_PART})', re.DOTALL)
_BARE = re.compile(rf".*?(?=\||$|{_NEXT_PART})", re.DOTALL)
_ENTRY = re.compile(
    r"\s*(?P<kind>[^\s:]*)(?:\s+x(?P<strength>\d+(?:\.\d+)?))?"
    r"(?:\s+for\s+(?P<count>an?|\d{1,4})\s+(?P<unit>day|week|month|year)s?|\s+until\s+(?P<until>[^\s:]+))?"
    r"(?:\s*:\s*|\s+)(?P<about>.*)",
    re.DOTALL,
)
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


class ProfileError(GenrecError):
    """A profile that cannot be read or changed. The message says what to write."""


class Part(NamedTuple):
    """A column, and the values of which an item has at least one."""

    column: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.column}={SEPARATOR.join(map(_written, self.values))}"

    def conditions(self, catalogue: Catalogue) -> list[Condition]:
        """Returns conditions of which an item fulfills at least one if it has one of the values."""
        if self.column == ITEM:
            return [Condition("item_id", "=", self.values)]
        kind = catalogue.column(self.column).type
        text, nested = pa.types.is_string(kind) or pa.types.is_large_string(kind), pa.types.is_nested(kind)
        by_operator: dict[str, list[str]] = {}
        for value in self.values:  # cells may be like "DE|FR"; a value with "|" or outer spaces is a whole cell
            whole = SEPARATOR in value or value != value.strip()
            by_operator.setdefault("~" if nested or (text and not whole) else "=", []).append(value)
        return [Condition(self.column, operator, tuple(values)) for operator, values in by_operator.items()]

    def mask(self, catalogue: Catalogue) -> np.ndarray:
        """Returns bool[items], True for items that have one of the values."""
        masks = [condition.mask(catalogue) for condition in self.conditions(catalogue)]
        return np.logical_or.reduce(masks)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A preference for or against some items. Raises ProfileError for fields that no catalogue could match."""

    kind: str  # one of KINDS
    about: str  # the text form of `parts`; sorted and quoted where needed, so that equal ones compare equal
    since: str  # the date it was made, ISO 8601
    until: str | None = None  # the last date on which it holds; None for no end
    strength: float = 1.0  # scales its effect on the model; items are blocked whatever the strength
    source: str = SAID  # SAID or LEARNED

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ProfileError(f"{shown(self.kind)} is no kind of entry: choose {', '.join(KINDS)}")
        object.__setattr__(self, "about", canonical(self.about))
        since, until = _date("since", self.since), _date("until", self.until or datetime.date.max.isoformat())
        if until < since:
            raise ProfileError(
                f"until {shown(self.until)} is before since {shown(self.since)}: such an entry never held"
            )
        if not 0 < self.strength <= MAX_STRENGTH:
            raise ProfileError(f"strength is {shown(self.strength)}: it must be above 0, at most {MAX_STRENGTH:g}")
        if self.source not in (SAID, LEARNED):
            raise ProfileError(f"source {shown(self.source)}: choose {SAID} or {LEARNED}")

    @staticmethod
    def parse(text: str, today: datetime.date) -> "Entry":
        """Parses "KIND[ xSTRENGTH][ for N days| until DATE]:ABOUT", as "blocked for a week:genre=jazz".

        A space may stand for the colon. Units are days, weeks, months of 30 and years of 365 days. An entry holds up to
        and including its last day, so never for less than the time given.
        """
        found = _ENTRY.fullmatch(text)
        column = "" if found is None else found["about"].partition("=")[0]
        if found is None or ":" in column or column.startswith(("for ", "until ")):
            raise ProfileError(
                f"{shown(text)}: write KIND:COLUMN=VALUE, KIND one of {', '.join(KINDS)}, and after it, if wanted, a "
                'strength and an end: "likes x2:...", "blocked for 3 days:...", "blocked until 2024-01-31:..."'
            )
        until = found["until"]
        if found["count"]:
            count = int(found["count"]) if found["count"].isdecimal() else 1
            try:
                until = (today + datetime.timedelta(count * _DAYS[found["unit"]])).isoformat()
            except OverflowError:
                raise ProfileError(
                    f"{shown(text)}: ends after the year {datetime.MAXYEAR}; leave the end out"
                ) from None
        strength = float(found["strength"] or 1)
        return Entry(found["kind"], found["about"], today.isoformat(), until, strength)

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The columns with their values: the entry is about items that fulfill all of them."""
        return _parts(self.about)

    @property
    def denies(self) -> bool:
        """True if the items must not be recommended."""
        return self.kind in DENIED

    @property
    def items(self) -> tuple[str, ...]:
        """The item ids of an entry that is about items by their ids alone, else none."""
        return self.parts[0].values if len(self.parts) == 1 and self.parts[0].column == ITEM else ()

    def holds_on(self, today: datetime.date) -> bool:
        """Returns whether the entry has not expired."""
        return self.until is None or today <= datetime.date.fromisoformat(self.until)

    def conjunctions(self, catalogue: Catalogue) -> list[tuple[Condition, ...]]:
        """Returns conjunctions of conditions; the entry is about the items that fulfill at least one of them."""
        return list(itertools.product(*(part.conditions(catalogue) for part in self.parts)))

    def rows(self, catalogue: Catalogue) -> np.ndarray:
        """Returns the catalogue rows int64[n] of the items that the entry is about, ascending."""
        if self.items:
            return np.array(sorted(catalogue.index[item] for item in self.items if item in catalogue.index), np.int64)
        return np.flatnonzero(np.logical_and.reduce([part.mask(catalogue) for part in self.parts]))

    def check(self, catalogue: Catalogue) -> None:
        """Raises ProfileError, with the nearest of what there is, unless each value and all at once match items."""
        for part in self.parts:
            try:
                self._check_part(part, catalogue)
            except DataError as problem:  # such as a text for a column of numbers
                raise ProfileError(f"{self.kind} {cut(str(part))}: {problem}") from problem
        if len(self.parts) > 1 and not len(self.rows(catalogue)):
            *rest, last = self.parts
            rows = np.flatnonzero(np.logical_and.reduce([part.mask(catalogue) for part in rest]))
            near = ""
            if len(rows) and last.column != ITEM:
                near = suggestions.nearest(" ".join(last.values), suggestions.distinct(last.column, catalogue, rows))
                near = near and f"; of {last.column} beside the rest{near}"
            raise ProfileError(
                f"{self.kind}: no item in the catalogue has {cut(self.about)}, all of it at once, so that this entry "
                f"has no effect{near}"
            )

    def _check_part(self, part: Part, catalogue: Catalogue) -> None:
        if part.column == ITEM:
            for item in part.values:
                if item not in catalogue.index:
                    near = suggestions.nearest_item(item, catalogue)
                    raise ProfileError(f"{self.kind}: no item {shown(item)} in the catalogue;{near}")
            return
        if part.column not in catalogue.table.column_names:
            near = suggestions.nearest(part.column, catalogue.table.column_names)
            raise ProfileError(f"{self.kind}: no column {shown(part.column)} in the catalogue;{near}")
        for value in part.values:
            if not Part(part.column, (value,)).mask(catalogue).any():
                near = suggestions.nearest(value, suggestions.distinct(part.column, catalogue))
                raise ProfileError(
                    f"{self.kind}: no item in the catalogue has {part.column} {shown(value)}, so that this entry has "
                    f"no effect{near and ';'}{near}"
                )

    def as_json(self) -> dict[str, object]:
        """Returns the fields for JSON, without an end or a strength that the entry does not have."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None and (name, value) != ("strength", 1)}

    @staticmethod
    def from_json(fields: Mapping[str, object]) -> "Entry":
        """Returns the entry that `as_json` wrote; raises ProfileError for missing, unknown and mistyped fields."""
        names = {field.name for field in dataclasses.fields(Entry)}
        missing, unknown = {"kind", "about", "since"} - fields.keys(), fields.keys() - names
        if missing or unknown:
            what = f"without {' and '.join(sorted(missing))}" if missing else f"with {shown(sorted(unknown)[0])}"
            raise ProfileError(f"{shown(dict(fields))} is an entry {what}")
        texts = {}
        for name in sorted(names & fields.keys() - {"strength"}):
            value = fields[name]
            if name == "until" and value is None:
                continue
            if not isinstance(value, str):
                raise ProfileError(f"{name} is {shown(value)}, not text")
            texts[name] = value
        strength = fields.get("strength", 1.0)
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
            raise ProfileError(f"strength is {shown(strength)}, not a number")
        return Entry(
            texts["kind"],
            texts["about"],
            texts["since"],
            texts.get("until"),
            float(strength),
            texts.get("source", SAID),
        )


def canonical(about: str) -> str:
    """Returns the text form in which equal descriptions of items are equal; raises ProfileError for another text."""
    return " & ".join(map(str, _parts(about)))


def _parts(about: str) -> tuple[Part, ...]:
    found, place = [], 0
    while column := _COLUMN.match(about, place):
        values, place = [], column.end()
        while True:
            value, place = _value(about, place)
            values.append(value)
            if about[place : place + 1] != SEPARATOR:
                break
            place += 1
        found.append(Part(column[0][:-1].strip(), tuple(sorted(set(values)))))
        if not (joint := re.compile(_NEXT_PART).match(about, place)):
            break
        place = joint.end()
    complete = found and place == len(about) and all(part.column and all(part.values) for part in found)
    if not complete or re.search("[\ud800-\udfff]", "".join(map(str, found))):
        raise ProfileError(
            f"about {shown(about)}: write COLUMN=VALUE, such as genre=jazz, genre=jazz|folk for any of several values, "
            f"explicit=true & genre=metal for items with both, or {ITEM}=ITEM_ID"
        )
    return tuple(sorted(set(found)))


def _value(text: str, place: int) -> tuple[str, int]:
    """Returns the value that begins at a place, and the place of what follows it."""
    if quoted := _QUOTED.match(text, place):
        try:
            return str(json.loads(quoted[1], strict=False)), quoted.end()
        except ValueError:  # no JSON string: the value itself has quotation marks
            pass
    bare = _BARE.match(text, place)
    assert bare is not None  # it matches the empty text
    return bare[0].strip(), bare.end()


def _written(value: str) -> str:
    """Returns a value as `_value` reads it, quoted where needed."""
    plain = value == value.strip() and value.isprintable() and not set(value) & set('&|="')
    return value if plain else json.dumps(value, ensure_ascii=False)


def _date(field: str, text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as problem:
        raise ProfileError(f"{field} {shown(text)} is no date: write it like 2024-01-31") from problem

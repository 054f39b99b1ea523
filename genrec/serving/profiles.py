"""Taste profiles: explicit preferences of a user, in a small JSON file that people can read and edit.

    {"user": "u000017",
     "entries": [{"kind": "likes", "about": "genre=jazz", "since": "2024-01-31"},
                 {"kind": "blocked", "about": "artist=Ada Costa", "since": "2024-02-02"}]}

Entries become words of the prompt, and move the soft token of the summary towards what is liked and away from what
is not. Items that match a `blocked` or `dislikes` entry are also denied: they are never returned.
"""

import dataclasses
import datetime
import difflib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import files, printing, tables
from genrec.data.dataset import Catalogue
from genrec.data.filters import SEPARATOR, Condition
from genrec.errors import GenrecError, cut, shown
from genrec.input_pipeline import prompts

KINDS = ("likes", "dislikes", "more_of", "less_of", "blocked")
DENIED = ("dislikes", "blocked")
SIGNS = {"likes": 1.0, "more_of": 1.0, "less_of": -1.0, "dislikes": -1.0, "blocked": -1.0}
PHRASES = {"likes": "more {}", "more_of": "more {}", "less_of": "less {}", "dislikes": "no {}", "blocked": "no {}"}
ITEM = "item"  # in the place of a column: an item id
FORM = "A profile is a JSON object with user and entries, each with kind, about and since, all of them text."
SUGGESTED_FROM = 100_000  # values of a column among which the nearest are looked for


class ProfileError(GenrecError):
    """A profile that cannot be read or changed. The message says what to write."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A preference for or against the items that have a value of a catalogue column, or one item."""

    kind: str  # one of KINDS
    about: str  # COLUMN=VALUE, or item=ITEM_ID
    since: str  # a date, ISO 8601

    @property
    def column(self) -> str:
        return self.about.partition("=")[0]

    @property
    def value(self) -> str:
        return self.about.partition("=")[2]


@dataclasses.dataclass(frozen=True)
class Profile:
    """The preferences of a user, at most one entry for each COLUMN=VALUE."""

    user: str
    entries: tuple[Entry, ...] = ()

    def with_entry(self, kind: str, about: str, since: str | None = None) -> "Profile":
        """Returns the profile with a further entry, which replaces an earlier one about the same."""
        entry = Entry(kind, about, since or datetime.date.today().isoformat())
        _check(entry)
        return Profile(self.user, (*(e for e in self.entries if e.about != about), entry))

    def without(self, about: str) -> "Profile":
        """Returns the profile without the entry about COLUMN=VALUE; raises ProfileError if there is none."""
        kept = tuple(entry for entry in self.entries if entry.about != about)
        if len(kept) == len(self.entries):
            known = cut(", ".join(entry.about for entry in self.entries)) or "no entries"
            raise ProfileError(f"the profile of {shown(self.user)} has no entry about {shown(about)}; it has {known}")
        return Profile(self.user, kept)

    def as_json(self) -> str:
        """Returns the text of a profile file."""
        fields = {"user": self.user, "entries": [dataclasses.asdict(entry) for entry in self.entries]}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "the profile") -> "Profile":
        """Parses the text of a profile file; raises ProfileError, which names `where`, if it is malformed."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise ProfileError(f"{where}: not JSON ({cut(str(problem))}). {FORM}") from problem
        _check_fields(fields, ("user", "entries"), where)
        if not isinstance(fields["entries"], list):
            raise ProfileError(f"{where}: entries is {shown(fields['entries'])}, not a list. {FORM}")
        entries = []
        for number, entry in enumerate(fields["entries"], start=1):
            place = f"{where}, entry {number}"
            _check_fields(entry, ("kind", "about", "since"), place)
            entries.append(Entry(**entry))
            _check(entries[-1], f"{place}: ")
        return Profile(fields["user"], tuple(entries))

    def save(self, path: epath.PathLike) -> None:
        """Writes the profile file; raises ProfileError if that is not possible."""
        try:
            files.write_text(path, self.as_json())
        except OSError as problem:
            raise ProfileError(f"{path}: the profile cannot be written here ({problem.strerror}).") from problem

    @staticmethod
    def load(path: epath.PathLike) -> "Profile":
        """Reads a profile file; raises ProfileError if it is missing or malformed."""
        path = epath.Path(path)
        try:
            return Profile.from_json(path.read_bytes().decode(), str(path))
        except FileNotFoundError:
            raise ProfileError(f"{path}: no profile here. tools/taste_profile.py makes one.") from None
        except (OSError, UnicodeDecodeError) as problem:
            reason = "it is no text" if isinstance(problem, UnicodeDecodeError) else problem.strerror
            raise ProfileError(f"{path}: cannot be read as a profile ({reason}). {FORM}") from problem

    def checked(self, catalogue: Catalogue) -> "Profile":
        """Returns the profile itself; raises ProfileError for an entry that no item of the catalogue matches.

        The message has the nearest items, columns or values.
        """
        for entry in self.entries:
            if entry.column == ITEM:
                if entry.value not in catalogue.index:
                    near = _nearest(entry.value, catalogue.item_ids)
                    raise ProfileError(f"{entry.kind}: no item {shown(entry.value)} in the catalogue{near}")
            elif entry.column not in catalogue.table.column_names:
                near = _nearest(entry.column, catalogue.table.column_names)
                raise ProfileError(f"{entry.kind}: no column {shown(entry.column)} in the catalogue{near}")
            elif not len(_rows(entry, catalogue)):
                cells = catalogue.column(entry.column).to_pylist()
                near = _nearest(entry.value, itertools.chain.from_iterable(map(_values, cells)))
                raise ProfileError(
                    f"{entry.kind}: no item in the catalogue has {entry.column} {shown(entry.value)}, so that this "
                    f"entry has no effect{near}"
                )
        return self

    def denied(self, catalogue: Catalogue) -> frozenset[int]:
        """Returns the catalogue rows of items that must not be recommended."""
        rows = [_rows(entry, catalogue) for entry in self.entries if entry.kind in DENIED]
        return frozenset(int(row) for found in rows for row in found)

    def phrases(self, catalogue: Catalogue, roles: Sequence[tuple[str, str]]) -> list[str]:
        """Returns a prompt phrase for each entry, such as "more jazz" or "like TITLE".

        `roles` are the columns that prompts are made of, with their roles; entries about other columns have no phrase.
        """
        role_of, found = dict(roles), []
        for entry in self.entries:
            if entry.column == ITEM:
                title = catalogue.titles[catalogue.index[entry.value]]
                found.append(f"like {title}" if SIGNS[entry.kind] > 0 else f"no {title}")
            elif entry.column in role_of:
                found.append(PHRASES[entry.kind].format(prompts.surface_form(role_of[entry.column], entry.value)))
        return found

    def offset(self, catalogue: Catalogue, item_vectors: np.ndarray) -> np.ndarray | None:
        """Returns the offset float32[width] of the summary vector, or None if no entry matches an item.

        Each entry adds the difference between the mean embedding of its items and that of the catalogue, times its
        sign. `item_vectors` float32[items, width] are the item embeddings.
        """
        signs = [(SIGNS[entry.kind], _rows(entry, catalogue)) for entry in self.entries]
        if not any(len(rows) for _, rows in signs):
            return None
        # Summed in float64: numpy adds the rows one by one, and float32 drifts over millions of them.
        mean = item_vectors.mean(axis=0, dtype=np.float64)
        moves = [sign * (item_vectors[rows].mean(axis=0, dtype=np.float64) - mean) for sign, rows in signs if len(rows)]
        return np.sum(moves, axis=0).astype(np.float32)

    def as_text(self, catalogue: Catalogue) -> str:
        """Returns a line for people for each entry, with its effect."""
        rows = []
        for entry in self.entries:
            name = catalogue.titles[catalogue.index[entry.value]] if entry.column == ITEM else entry.about
            count = len(_rows(entry, catalogue))
            what = f"{count} items are never returned" if entry.kind in DENIED else f"taste: {count} items"
            rows.append([entry.kind, name, f"since {entry.since}", what])
        return f"{printing.one_line(self.user)}: {len(self.entries)} entries\n{tables.text(rows, align='l')}".rstrip()


NO_PROFILE = Profile("")


def from_history(user: str, history: np.ndarray, catalogue: Catalogue, columns: Sequence[str], since: str) -> Profile:
    """Returns a first profile: for each column a `likes` entry for the most frequent value of a history int[n].

    A value counts if it occurs at least 3 times, and in a quarter of the history.
    """
    profile = Profile(user)
    for column in columns:
        cells = catalogue.column(column).to_pylist()
        values, counts = np.unique([value for item in history for value in _values(cells[item])], return_counts=True)
        if len(counts) and counts.max() >= max(3, 0.25 * len(history)):
            profile = profile.with_entry("likes", f"{column}={values[counts.argmax()]}", since)
    return profile


def _rows(entry: Entry, catalogue: Catalogue) -> np.ndarray:
    if entry.column == ITEM:
        return np.array([catalogue.index[entry.value]])
    kind = catalogue.column(entry.column).type
    several = pa.types.is_string(kind) or pa.types.is_large_string(kind)  # cells may be like "DE|FR"
    if SEPARATOR in entry.value or entry.value != entry.value.strip():  # the value is a whole cell
        several = False
    operator = "~" if several or pa.types.is_nested(kind) else "="
    return np.flatnonzero(Condition(entry.column, operator, (entry.value,)).mask(catalogue))


def _values(cell: object) -> Iterator[str]:
    """Yields the values of a cell as an entry names them: those of a list, or separated by "|", one by one."""
    if isinstance(cell, list):
        for one in cell:
            yield from _values(one)
    elif isinstance(cell, str):
        yield from filter(None, map(str.strip, cell.split(SEPARATOR)))
    elif cell is not None:
        yield str(cell).lower() if isinstance(cell, bool) else str(cell)


def _nearest(wanted: str, known: Iterable[str]) -> str:
    """Returns the end of a message: the values that resemble `wanted`, or some of them if none does."""
    by_case = {value.casefold(): value for value in itertools.islice(known, SUGGESTED_FROM)}
    near = difflib.get_close_matches(wanted.casefold(), by_case)
    names = ", ".join(shown(by_case[value]) for value in near or sorted(by_case)[:3])
    return f"; {'the nearest are' if near else 'there are, for instance,'} {names}" if names else ""


def _check_fields(value: object, names: Sequence[str], where: str) -> None:
    """Raises ProfileError unless `value` is an object of JSON with these fields, all of them text but for entries."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise ProfileError(f"{where}: {shown(value)} is no object with {' and '.join(names)}. {FORM}")
    for name in names:
        if name != "entries" and not isinstance(value[name], str):
            raise ProfileError(f"{where}: {name} is {shown(value[name])}, not text. {FORM}")


def _check(entry: Entry, where: str = "") -> None:
    """Raises ProfileError, which begins with `where`, for an entry that no catalogue could match."""
    if entry.kind not in KINDS:
        raise ProfileError(f"{where}{shown(entry.kind)} is no kind of entry: choose {', '.join(KINDS)}")
    if not re.fullmatch("[^=]+=[^\ud800-\udfff]+", entry.about):
        raise ProfileError(
            f"{where}about {shown(entry.about)}: write COLUMN=VALUE, such as genre=jazz, or {ITEM}=ITEM_ID"
        )
    try:
        datetime.date.fromisoformat(entry.since)
    except ValueError as problem:
        raise ProfileError(f"{where}since {shown(entry.since)} is no date: write it like 2024-01-31") from problem

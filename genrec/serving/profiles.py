"""Taste profiles: explicit preferences of a user, in a small JSON file that people can read and edit.

    {"user": "u000017",
     "entries": [{"kind": "likes", "about": "genre=jazz", "since": "2024-01-31"},
                 {"kind": "blocked", "about": "artist=Ada Costa", "since": "2024-02-02"}]}

Entries become words of the prompt, and move the soft token of the summary towards what is liked and away from what
is not. Items that match a `blocked` or `dislikes` entry are also denied: they are never returned.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Sequence

import numpy as np
from etils import epath

from genrec import files, tables
from genrec.data.dataset import Catalogue
from genrec.data.filters import Condition
from genrec.errors import GenrecError
from genrec.input_pipeline import prompts

KINDS = ("likes", "dislikes", "more_of", "less_of", "blocked")
DENIED = ("dislikes", "blocked")
SIGNS = {"likes": 1.0, "more_of": 1.0, "less_of": -1.0, "dislikes": -1.0, "blocked": -1.0}
PHRASES = {"likes": "more {}", "more_of": "more {}", "less_of": "less {}", "dislikes": "no {}", "blocked": "no {}"}
ITEM = "item"  # in the place of a column: an item id


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
            raise ProfileError(f"the profile of {self.user} has no entry about {about!r}")
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
            entries = tuple(Entry(**entry) for entry in fields["entries"])
            profile = Profile(str(fields["user"]), entries)
        except (ValueError, KeyError, TypeError) as problem:
            raise ProfileError(
                f"{where}: not a profile ({problem}). It is a JSON object with user and entries, each with kind, "
                "about and since."
            ) from problem
        for entry in entries:
            _check(entry)
        return profile

    def save(self, path: epath.PathLike) -> None:
        """Writes the profile file."""
        files.write_text(path, self.as_json())

    @staticmethod
    def load(path: epath.PathLike) -> "Profile":
        """Reads a profile file; raises ProfileError if it is missing or malformed."""
        path = epath.Path(path)
        if not path.exists():
            raise ProfileError(f"{path}: no profile here. tools/taste_profile.py makes one.")
        return Profile.from_json(path.read_text(), str(path))

    def checked(self, catalogue: Catalogue) -> "Profile":
        """Returns the profile itself; raises ProfileError for an entry about an unknown column or item."""
        for entry in self.entries:
            if entry.column == ITEM:
                if entry.value not in catalogue.index:
                    raise ProfileError(f"{entry.kind}: no item {entry.value!r} in the catalogue")
            elif entry.column not in catalogue.table.column_names:
                known = ", ".join(catalogue.table.column_names)
                raise ProfileError(f"{entry.kind}: no column {entry.column!r} in the catalogue ({known})")
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
        mean = item_vectors.mean(axis=0)
        moves = [sign * (item_vectors[rows].mean(axis=0) - mean) for sign, rows in signs if len(rows)]
        return np.sum(moves, axis=0).astype(np.float32)

    def as_text(self, catalogue: Catalogue) -> str:
        """Returns a line for people for each entry, with its effect."""
        rows = []
        for entry in self.entries:
            name = catalogue.titles[catalogue.index[entry.value]] if entry.column == ITEM else entry.about
            count = len(_rows(entry, catalogue))
            what = f"{count} items are never returned" if entry.kind in DENIED else f"taste: {count} items"
            rows.append([entry.kind, name, f"since {entry.since}", what])
        return f"{self.user}: {len(self.entries)} entries\n{tables.text(rows, align='l')}".rstrip()


NO_PROFILE = Profile("")


def from_history(user: str, history: np.ndarray, catalogue: Catalogue, columns: Sequence[str], since: str) -> Profile:
    """Returns a first profile: for each column a `likes` entry for the most frequent value of a history int[n].

    A value counts if it occurs at least 3 times, and in a quarter of the history.
    """
    profile = Profile(user)
    for column in columns:
        cells = catalogue.column(column).to_pylist()
        values, counts = np.unique([str(v) for item in history if (v := cells[item]) is not None], return_counts=True)
        if len(counts) and counts.max() >= max(3, 0.25 * len(history)):
            profile = profile.with_entry("likes", f"{column}={values[counts.argmax()]}", since)
    return profile


def _rows(entry: Entry, catalogue: Catalogue) -> np.ndarray:
    if entry.column == ITEM:
        return np.array([catalogue.index[entry.value]])
    return np.flatnonzero(Condition(entry.column, "=", (entry.value,)).mask(catalogue))


def _check(entry: Entry) -> None:
    if entry.kind not in KINDS:
        raise ProfileError(f"{entry.kind!r} is no kind of entry: choose {', '.join(KINDS)}")
    if not re.fullmatch(r"[^=]+=.+", entry.about):
        raise ProfileError(f"{entry.about!r}: write COLUMN=VALUE, such as genre=jazz, or {ITEM}=ITEM_ID")
    try:
        datetime.date.fromisoformat(entry.since)
    except ValueError as problem:
        raise ProfileError(f"since {entry.since!r} is no date: write it like 2024-01-31") from problem

"""What a user lets the system know of their taste: a small JSON file that people can read and edit.

    {"user": "u000017",
     "entries": [{"kind": "likes", "about": "genre=jazz", "since": "2024-01-31"},
                 {"kind": "blocked", "about": "artist=Ada Costa", "since": "2024-02-02"}]}

Likes and prompts for more or less of something are taste: they become words of the prefix, and move the soft token of
the summary towards what is liked. What is blocked or disliked is a rule: it is never returned.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Sequence

import numpy as np
from etils import epath

from genrec import files
from genrec.data.dataset import Catalogue
from genrec.data.filters import Condition
from genrec.errors import GenrecError
from genrec.input_pipeline import prompts

KINDS = ("likes", "dislikes", "more_of", "less_of", "blocked")
NEVER = ("dislikes", "blocked")
TOWARDS = {"likes": 1.0, "more_of": 1.0, "less_of": -1.0, "dislikes": -1.0, "blocked": -1.0}
ITEM = "item"  # in the place of a column: an item id
SPOKEN = {"likes": "more {}", "more_of": "more {}", "less_of": "less {}", "dislikes": "no {}", "blocked": "no {}"}


class ProfileError(GenrecError):
    """A profile that cannot be read or changed. The message says what to write."""


@dataclasses.dataclass(frozen=True)
class Entry:
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
    user: str
    entries: tuple[Entry, ...] = ()

    def with_entry(self, kind: str, about: str, since: str | None = None) -> "Profile":
        """With one more entry; what was said before of the same thing is replaced."""
        entry = Entry(kind, about, since or datetime.date.today().isoformat())
        _check(entry)
        return Profile(self.user, (*(e for e in self.entries if e.about != about), entry))

    def without(self, about: str) -> "Profile":
        """Without the entries about something; raises ProfileError where there are none."""
        kept = tuple(entry for entry in self.entries if entry.about != about)
        if len(kept) == len(self.entries):
            raise ProfileError(f"the profile of {self.user} says nothing about {about!r}")
        return Profile(self.user, kept)

    def as_json(self) -> str:
        fields = {"user": self.user, "entries": [dataclasses.asdict(entry) for entry in self.entries]}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "the profile") -> "Profile":
        """Raises ProfileError for what is no profile, with what is wrong."""
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
        files.write_text(path, self.as_json())

    @staticmethod
    def load(path: epath.PathLike) -> "Profile":
        """Raises ProfileError where there is none."""
        path = epath.Path(path)
        if not path.exists():
            raise ProfileError(f"{path}: no profile here. tools/taste_profile.py makes one.")
        return Profile.from_json(path.read_text(), str(path))

    def checked(self, catalogue: Catalogue) -> "Profile":
        """The same; raises ProfileError where an entry is about a column or an item that does not exist."""
        for entry in self.entries:
            if entry.column == ITEM:
                if entry.value not in catalogue.index:
                    raise ProfileError(f"{entry.kind}: no item {entry.value!r} in the catalogue")
            elif entry.column not in catalogue.table.column_names:
                known = ", ".join(catalogue.table.column_names)
                raise ProfileError(f"{entry.kind}: no column {entry.column!r} in the catalogue ({known})")
        return self

    def deny(self, catalogue: Catalogue) -> frozenset[int]:
        """Catalogue rows that are never returned."""
        rows = [_rows(entry, catalogue) for entry in self.entries if entry.kind in NEVER]
        return frozenset(int(row) for found in rows for row in found)

    def words(self, catalogue: Catalogue, roles: Sequence[tuple[str, str]]) -> list[str]:
        """What the prefix says, "more jazz" and the like: of columns that prompts know, and of titles."""
        known, said = dict(roles), []
        for entry in self.entries:
            if entry.column == ITEM:
                title = catalogue.titles[catalogue.index[entry.value]]
                said.append({1.0: f"like {title}"}.get(TOWARDS[entry.kind], f"no {title}"))
            elif entry.column in known:
                said.append(SPOKEN[entry.kind].format(prompts.spoken(known[entry.column], entry.value)))
        return said

    def offset(self, catalogue: Catalogue, item_vectors: np.ndarray) -> np.ndarray | None:
        """float32[width]: from the middle of the catalogue towards what is liked; None where nothing is said.

        `item_vectors` float32[items, width] are the item embeddings.
        """
        middle, moves = item_vectors.mean(axis=0), []
        for entry in self.entries:
            if len(rows := _rows(entry, catalogue)):
                moves.append(TOWARDS[entry.kind] * (item_vectors[rows].mean(axis=0) - middle))
        return np.sum(moves, axis=0).astype(np.float32) if moves else None

    def readable(self, catalogue: Catalogue) -> str:
        """For people: each entry with what it does."""
        lines = [f"{self.user}: {len(self.entries)} entries"]
        for entry in self.entries:
            name = catalogue.titles[catalogue.index[entry.value]] if entry.column == ITEM else entry.about
            count = len(_rows(entry, catalogue))
            what = f"{count} items are never returned" if entry.kind in NEVER else f"taste: {count} items"
            lines.append(f"  {entry.kind:9} {name:40} since {entry.since}   {what}")
        return "\n".join(lines)


def learned(user: str, history: np.ndarray, catalogue: Catalogue, columns: Sequence[str], since: str) -> Profile:
    """A first profile, of what a history (catalogue rows) has most of: one entry a column, where it is common."""
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

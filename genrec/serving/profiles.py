"""Taste profiles: explicit preferences of a user, in a small JSON file that people can read and edit.

    {"user": "u000017",
     "entries": [{"kind": "likes", "about": "genre=jazz", "since": "2024-01-31", "strength": 0.4, "source": "learned"},
                 {"kind": "blocked", "about": "explicit=true & genre=hip hop", "since": "2024-02-02",
                  "until": "2024-02-09", "source": "said"}]}

Entries (`genrec.serving.profile_entries`) become words of the prompt, and move the soft token of the summary towards
what is liked and away from what is not. Items that match a `blocked` or `dislikes` entry are also denied: they are
never returned.
"""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from genrec import files, printing, tables
from genrec.data.dataset import Catalogue
from genrec.data.filters import Filter
from genrec.errors import cut, shown
from genrec.input_pipeline import prompts
from genrec.serving.profile_entries import LEARNED, SAID, SIGNS, Entry, Part, ProfileError, canonical
from genrec.serving.suggestions import values_of

PHRASES = {"likes": "more {}", "more_of": "more {}", "less_of": "less {}", "dislikes": "no {}", "blocked": "no {}"}
FORM = "A profile is a JSON object with user and entries, each with kind, about and since, all of them text."


class Phrase(NamedTuple):
    """The words of an entry in a prompt."""

    text: str
    strength: float
    negative: bool = False


@dataclasses.dataclass(frozen=True)
class Profile:
    """The preferences of a user, at most one entry about the same items."""

    user: str
    entries: tuple[Entry, ...] = ()

    def with_entry(self, kind: str, about: str, since: str | None = None) -> "Profile":
        """Returns the profile with a further entry that the user said; see `with_entries`."""
        return self.with_entries(Entry(kind, about, since or datetime.date.today().isoformat()))

    def with_entries(self, *entries: Entry) -> "Profile":
        """Returns the profile with further entries, which replace earlier ones about the same items.

        What is learned never replaces what the user said.
        """
        profile = self
        for new in entries:
            earlier = [entry for entry in profile.entries if entry.about == new.about]
            if new.source == SAID or all(entry.source != SAID for entry in earlier):
                kept = (entry for entry in profile.entries if entry.about != new.about)
                profile = Profile(self.user, (*kept, new))
        return profile

    def with_text(self, text: str) -> "Profile":
        """Returns the profile with the entry that a text such as "blocked for a week:genre=jazz" describes."""
        return self.with_entries(Entry.parse(text, datetime.date.today()))

    def without(self, about: str) -> "Profile":
        """Returns the profile without the entry about these items; raises ProfileError if there is none."""
        wanted = canonical(about)
        kept = tuple(entry for entry in self.entries if entry.about != wanted)
        if len(kept) == len(self.entries):
            known = cut(", ".join(entry.about for entry in self.entries)) or "no entries"
            raise ProfileError(f"the profile of {shown(self.user)} has no entry about {shown(about)}; it has {known}")
        return Profile(self.user, kept)

    def without_learned(self) -> "Profile":
        """Returns the profile with the entries alone that the user said."""
        return Profile(self.user, tuple(entry for entry in self.entries if entry.source != LEARNED))

    def holding(self, today: datetime.date) -> "Profile":
        """Returns the profile with the entries alone that have not expired."""
        kept = tuple(entry for entry in self.entries if entry.holds_on(today))
        return self if len(kept) == len(self.entries) else Profile(self.user, kept)

    def as_json(self) -> str:
        """Returns the text of a profile file."""
        fields = {"user": self.user, "entries": [entry.as_json() for entry in self.entries]}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "the profile") -> "Profile":
        """Parses the text of a profile file; raises ProfileError, which names `where`, if it is malformed."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise ProfileError(f"{where}: not JSON ({cut(str(problem))}). {FORM}") from problem
        if not isinstance(fields, dict) or set(fields) != {"user", "entries"}:
            raise ProfileError(f"{where}: {shown(fields)} is no object with user and entries. {FORM}")
        user, found = fields["user"], fields["entries"]
        if not isinstance(user, str):
            raise ProfileError(f"{where}: user is {shown(user)}, not text. {FORM}")
        if not isinstance(found, list):
            raise ProfileError(f"{where}: entries is {shown(found)}, not a list. {FORM}")
        entries: dict[str, Entry] = {}
        for number, one in enumerate(found, start=1):
            place = f"{where}, entry {number}"
            if not isinstance(one, dict):
                raise ProfileError(f"{place}: {shown(one)} is no object. {FORM}")
            try:
                entry = Entry.from_json(one)
            except ProfileError as problem:
                raise ProfileError(f"{place}: {problem}. {FORM}") from problem
            if entry.about in entries:
                raise ProfileError(f"{place}: an earlier one is about {shown(entry.about)} too. Delete one of them.")
            entries[entry.about] = entry
        return Profile(user, tuple(entries.values()))

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
            entry.check(catalogue)
        return self

    def denied(self, catalogue: Catalogue) -> frozenset[int]:
        """Returns the catalogue rows of items that must not be recommended."""
        return frozenset(int(row) for entry in self.entries if entry.denies for row in entry.rows(catalogue))

    def restrict(self, item_filter: Filter, catalogue: Catalogue) -> Filter:
        """Returns the filter that also refuses the denied items.

        Values of columns stay conditions, so that they hold for items that a live catalogue adds later.
        """
        denied = [entry for entry in self.entries if entry.denies]
        items = {catalogue.index[item] for entry in denied for item in entry.items if item in catalogue.index}
        refused = [one for entry in denied if not entry.items for one in entry.conjunctions(catalogue)]
        return dataclasses.replace(
            item_filter, deny=item_filter.deny | items, deny_where=(*item_filter.deny_where, *refused)
        )

    def phrases(self, catalogue: Catalogue, roles: Sequence[tuple[str, str]]) -> list[Phrase]:
        """Returns prompt phrases of the entries, such as "more jazz" or "like TITLE", for each of several values.

        `roles` are the columns that prompts are made of, with their roles; entries about other columns have no phrase,
        nor have those against items with values of several columns: words would refuse each of the values.
        """
        role_of, found = dict(roles), []
        for entry in self.entries:
            negative = SIGNS[entry.kind] < 0
            if entry.items:
                titles = [catalogue.titles[row] for row in entry.rows(catalogue)]
                texts = [f"no {title}" if negative else f"like {title}" for title in titles]
            elif any(part.column not in role_of for part in entry.parts):
                continue
            elif len(entry.parts) == 1:
                ((column, values),) = entry.parts
                texts = [PHRASES[entry.kind].format(prompts.surface_form(role_of[column], value)) for value in values]
            elif not negative and all(len(part.values) == 1 for part in entry.parts):
                pairs = sorted(((role_of[column], value) for column, (value,) in entry.parts), key=_place)
                words = [prompts.FRAGMENTS[role].format(prompts.surface_form(role, value)) for role, value in pairs]
                texts = [PHRASES[entry.kind].format(" ".join(words))]
            else:
                continue
            found += [Phrase(text, entry.strength, negative) for text in texts]
        return found

    def offset(self, catalogue: Catalogue, item_vectors: np.ndarray) -> np.ndarray | None:
        """Returns the offset float32[width] of the summary vector, or None if no entry matches an item.

        Each entry adds the difference between the mean embedding of its items and that of the catalogue, times its
        sign and strength. `item_vectors` float32[items, width] are the item embeddings.
        """
        signs = [(SIGNS[entry.kind] * entry.strength, entry.rows(catalogue)) for entry in self.entries]
        if not any(len(rows) for _, rows in signs):
            return None
        # Summed in float64: numpy adds the rows one by one, and float32 drifts over millions of them.
        mean = item_vectors.mean(axis=0, dtype=np.float64)
        moves = [sign * (item_vectors[rows].mean(axis=0, dtype=np.float64) - mean) for sign, rows in signs if len(rows)]
        return np.sum(moves, axis=0).astype(np.float32)

    def as_text(self, catalogue: Catalogue, today: datetime.date | None = None) -> str:
        """Returns a line for people for each entry, with its effect."""
        today = today or datetime.date.today()
        rows = []
        for entry in self.entries:
            matching = entry.rows(catalogue)
            titles = [catalogue.titles[row] for row in matching] if entry.items else []
            items = printing.counted(len(matching), "item")
            effect = f"{items} never returned" if entry.denies else f"taste: {items}"
            end = "" if entry.until is None else f"until {entry.until}"
            if not entry.holds_on(today):
                effect, end = "no effect", f"expired after {entry.until}"
            strength = "" if entry.strength == 1 else f"strength {entry.strength:g}"
            about = ", ".join(titles) or entry.about
            rows.append([entry.kind, about, f"{entry.source} {entry.since}", end, strength, effect])
        used = [[cell for place, cell in enumerate(row) if any(one[place] for one in rows)] for row in rows]
        heading = f"{printing.one_line(self.user)}: {printing.counted(len(self.entries), 'entry')}"
        return f"{heading}\n{tables.text(used, align='l')}".rstrip()


NO_PROFILE = Profile("")


def from_history(user: str, history: np.ndarray, catalogue: Catalogue, columns: Sequence[str], since: str) -> Profile:
    """Returns a first profile: for each column a learned `likes` for the most frequent value of a history int[n].

    A value counts if it occurs at least 3 times, and in a quarter of the history, which is the strength of the entry.
    """
    profile = Profile(user)
    for column in columns:
        cells = catalogue.column(column).to_pylist()
        values, counts = np.unique([value for item in history for value in values_of(cells[item])], return_counts=True)
        if len(counts) and counts.max() >= max(3, 0.25 * len(history)):
            strength = min(1.0, round(float(counts.max() / len(history)), 2))
            about = str(Part(column, (str(values[counts.argmax()]),)))
            profile = profile.with_entries(Entry("likes", about, since, strength=strength, source=LEARNED))
    return profile


def _place(attribute: tuple[str, str]) -> int:
    """Returns the place of a (role, value) in a phrase."""
    return prompts.ORDER[attribute[0]]

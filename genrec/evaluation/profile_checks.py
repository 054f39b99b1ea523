"""Checks of taste profiles: whether lists have items that random profiles deny, under random prompts.

What a profile denies is decided here from the cells of the catalogue one by one, independently of the filters.
"""

import dataclasses
import datetime
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.decoding import loaded_model
from genrec.input_pipeline.prompts import PromptSampler
from genrec.progress import progress
from genrec.serving.engine import Engine, Options, Recommendations
from genrec.serving.profile_entries import ITEM, KINDS, Entry, Part
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request, sample_split
from genrec.serving.suggestions import values_of

COLUMNS = 12  # of the catalogue, at most, that profiles are about
MOST_VALUES = 3  # of a column in an entry
TOP = 10
BATCH = 128  # requests of a search


class DenialOracle:
    """Tells by the values of single items what a profile denies."""

    def __init__(self, catalogue: Catalogue, columns: Sequence[str]):
        self.item_ids, self.columns = catalogue.item_ids, tuple(columns)
        self._values = {
            name: [frozenset(values_of(cell)) for cell in catalogue.column(name).to_pylist()] for name in columns
        }

    def values(self, column: str, item: int) -> frozenset[str]:
        """Returns the values of an item, a catalogue row, in a column."""
        return frozenset([self.item_ids[item]]) if column == ITEM else self._values[column][item]

    def denies(self, profile: Profile, item: int, today: datetime.date) -> bool:
        """Returns whether an item must not be recommended."""
        return any(
            entry.kind in ("blocked", "dislikes")
            and (entry.until is None or entry.until >= today.isoformat())
            and all(self.values(column, item) & set(values) for column, values in entry.parts)
            for entry in profile.entries
        )

    def violations(
        self, profiles: Sequence[Profile], found: Sequence[Recommendations], today: datetime.date
    ) -> dict[str, int]:
        """Returns how many items of the lists their profiles deny."""
        pairs = [(one, int(item)) for one, listed in zip(profiles, found, strict=True) for item in listed.items]
        wrong = sum(self.denies(profile, item, today) for profile, item in pairs)
        return {"lists": len(found), "items": len(pairs), "violations": wrong}


def columns_of(catalogue: Catalogue, fewest: int = 2) -> list[str]:
    """Returns the first COLUMNS columns that have a value of several items: attributes, not texts and vectors."""
    found = []
    for name in catalogue.table.column_names:
        if name not in ("item_id", "source_row", "vector"):
            values = [value for cell in catalogue.column(name).to_pylist() for value in values_of(cell)]
            if len(values) >= fewest * len(set(values)) > 0:
                found.append(name)
    return found[:COLUMNS]


def random_profile(oracle: DenialOracle, likely: np.ndarray, random: np.random.Generator) -> Profile:
    """Returns one to four entries of any kind, most of them against, about items of which many are `likely` int[n]."""
    today = datetime.date.today()
    profile = Profile("u")
    for _ in range(random.integers(1, 5)):
        item = int(random.choice(likely)) if random.random() < 0.7 else int(random.integers(len(oracle.item_ids)))
        named = [name for name in oracle.columns if oracle.values(name, item)]
        parts = [
            _part(oracle, str(name), item, random)
            for name in random.permutation(named)[: random.choice((1, 1, 2, 3))]
            if random.random() < 0.9
        ]
        kind = str(random.choice((*KINDS, "blocked", "blocked", "dislikes")))
        begun = today - datetime.timedelta(int(random.integers(1, 9)))
        end = today + datetime.timedelta(int(random.integers(-1, 3))) if random.random() < 0.3 else None
        profile = profile.with_entries(
            Entry(
                kind,
                " & ".join(map(str, parts or [_part(oracle, ITEM, item, random)])),
                begun.isoformat(),
                None if end is None else end.isoformat(),
                float(random.choice((0.5, 1, 2))),
            )
        )
    return profile


def _part(oracle: DenialOracle, column: str, item: int, random: np.random.Generator) -> Part:
    """Returns a value of an item in a column, and some of other items."""
    others = random.integers(len(oracle.item_ids), size=random.integers(MOST_VALUES))
    own = sorted(oracle.values(column, item))
    more = [value for other in others for value in sorted(oracle.values(column, int(other)))]
    return Part(column, tuple(sorted({str(random.choice(own)), *more[: MOST_VALUES - 1]})))


def random_prompt(sampler: PromptSampler, profile: Profile, random: np.random.Generator) -> str:
    """Returns a prompt that asks for what a profile's entry is about, any other prompt, or none."""
    kind = random.random()
    if kind < 0.5:
        parts = [part for entry in profile.entries for part in entry.parts if part.column in sampler.members]
        if parts:
            column, values = parts[int(random.integers(len(parts)))]
            return sampler.positive(column, values[0], random)
    if kind < 0.8:
        return sampler.for_item(int(random.integers(len(sampler.titles))), np.zeros(0, np.int64), random)
    return ""


def measure(
    catalogue: Catalogue,
    sampler: PromptSampler | None,
    users: Sequence[Request],
    recommend: Callable[[Sequence[Request]], Sequence[Recommendations]],
    profiles: int,
    seed: int = 0,
) -> dict[str, int]:
    """Returns the `DenialOracle.violations` of random profiles, with random prompts if there is a `sampler`.

    Each is of one of `users`, in turn, and mostly against items that are recommended without a profile.
    """
    random, oracle = np.random.default_rng(seed), DenialOracle(catalogue, columns_of(catalogue))
    likely = [one.items if len(one.items) else np.arange(len(catalogue)) for one in recommend(users)]
    requests = []
    for number in range(profiles):
        place = number % len(users)
        profile = random_profile(oracle, likely[place], random)
        prompt = "" if sampler is None else random_prompt(sampler, profile, random)
        requests.append(dataclasses.replace(users[place], profile=profile, prompt=prompt))
    return oracle.violations([one.profile for one in requests], recommend(requests), datetime.date.today())


def evaluate(
    workdir: epath.PathLike, split: str, checkpoint: str, profiles: int, beams: int, seed: int = 0
) -> dict[str, int]:
    """Returns the violations of `profiles` random profiles, 0 for one of each user of the split.

    For errors see `loaded_model.load`.
    """
    loaded = loaded_model.load(workdir, checkpoint)
    catalogue, columns = loaded.dataset.catalogue, tuple(loaded.prompts.get("columns", ()))
    users = sample_split(loaded.dataset.split(split), profiles)
    # Without rules: they would leave nothing where a prompt asks for what is denied.
    engine = Engine(loaded, Options(top=TOP, beams=beams), BATCH, rules=False)

    def recommend(requests: Sequence[Request]) -> list[Recommendations]:
        found: list[Recommendations] = []
        for start in progress(range(0, len(requests), BATCH), "profiles"):
            some = list(requests[start : start + BATCH])
            found += engine.recommend(some + some[:1] * (BATCH - len(some)))[: len(some)]
        return found

    sampler = PromptSampler(config.Prompts(columns=columns), catalogue) if columns else None
    return measure(catalogue, sampler, users, recommend, profiles or len(users), seed)

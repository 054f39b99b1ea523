"""Prompts for several values, and against some, in phrases from a file: what they ask for is known exactly.

A line of the file is a phrase; {genre} stands for a value of a column that is asked for, {one media_type} for its
singular, and {!genre} for one that is refused.
"""

import collections
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from genrec.data.errors import DataError
from genrec.errors import shown
from genrec.input_pipeline.prompts import FRAGMENTS, HELD_OUT, ORDER, PromptSampler, surface_form

PLACE = re.compile(r"\{(!|one )?(\w+)\}")
TRIES = 200  # draws of an item until its values fill a list


class Asked(NamedTuple):
    """Values, by column, that a prompt asks for and that it refuses."""

    wanted: Mapping[str, str]
    refused: Mapping[str, str]


class Paraphrase(NamedTuple):
    """A phrase with places for values."""

    text: str

    @property
    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Returns the columns whose values are asked for, and those whose values are refused."""
        places = PLACE.findall(self.text)
        wanted = tuple(dict.fromkeys(name for sign, name in places if sign != "!"))
        return wanted, tuple(dict.fromkeys(name for sign, name in places if sign == "!"))

    @property
    def label(self) -> str:
        """Returns what it asks for in short, such as "mood + genre, not artist"."""
        wanted, refused = self.columns
        return ", ".join([*([" + ".join(wanted)] if wanted else []), *(f"not {name}" for name in refused)])

    def filled(self, asked: Asked, roles: Mapping[str, str]) -> str:
        """Returns the phrase with values; `roles` are those of the columns."""

        def form(place: re.Match) -> str:
            sign, name = place.groups()
            value = (asked.refused if sign == "!" else asked.wanted)[name]
            return surface_form(roles[name], value, singular=sign == "one ")

        return PLACE.sub(form, self.text)


def read(path: epath.PathLike, prompts: PromptSampler) -> list[Paraphrase]:
    """Returns the phrases of a file, without empty lines and comments (#).

    Raises DataError for a file that cannot be read, and for a phrase without a value or of a column without prompts.
    """
    try:
        lines = epath.Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: cannot be read ({problem}). Give a text file with a phrase a line.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        phrase = Paraphrase(line.strip())
        unknown = [name for names in phrase.columns for name in names if name not in prompts.members]
        if unknown or not PLACE.search(line) or "{" in PLACE.sub("", line):
            raise DataError(
                f"{path}, line {number}: {shown(line.strip())}: a phrase needs values in braces, such as {{genre}}, "
                f"{{!genre}} or {{one genre}}, of the columns {', '.join(prompts.members)}."
            )
        found.append(phrase)
    return found


def held_out(prompts: PromptSampler) -> dict[str, list[Paraphrase]]:
    """Returns phrases of held-out templates for two values at once, and for one but not another."""
    columns = [(name, role) for name, role in prompts.columns if name in prompts.members]
    two, but_not = [], []
    for (one, role), (other, other_role) in itertools.permutations(columns, 2):
        if ORDER[role] <= ORDER[other_role] and columns.index((one, role)) != columns.index((other, other_role)):
            parts = [FRAGMENTS[role].replace("{}", f"{{{one}}}"), FRAGMENTS[other_role].replace("{}", f"{{{other}}}")]
            two += [Paraphrase(template.replace("{}", " ".join(parts))) for template in HELD_OUT.combined]
        for wanted, refused in zip(itertools.cycle(HELD_OUT.positive[role]), HELD_OUT.negative, strict=False):
            first = wanted.replace("{}", f"{{{one}}}").rstrip("?")
            but_not.append(Paraphrase(f"{first}, {refused.replace('{}', f'{{!{other}}}')}"))
    return {"two values": two, "a value, not another": but_not} if len(columns) > 1 else {}


class ValueSampler:
    """Draws values that occur together."""

    def __init__(self, prompts: PromptSampler, fewest: int):
        """`fewest` items fulfill what is drawn."""
        self._prompts, self._fewest = prompts, fewest

    def fulfilling(self, asked: Asked) -> np.ndarray:
        """Returns bool[items]: the items that have all values asked for, and none that are refused."""
        holds = np.ones(len(self._prompts.titles), bool)
        for name, value in asked.wanted.items():
            holds &= self._has(name, value)
        for name, value in asked.refused.items():
            holds &= ~self._has(name, value)
        return holds

    def _has(self, name: str, value: str) -> np.ndarray:
        """Returns bool[items]: the items that have a value, which some may not have at all."""
        found = np.zeros(len(self._prompts.titles), bool)
        if value in self._prompts.members[name]:
            found[self._prompts.members[name][value]] = True
        return found

    def draw(self, wanted: Sequence[str], refused: Sequence[str], random: np.random.Generator) -> Asked | None:
        """Returns values of the columns `wanted` that an item has, and of `refused` the most frequent beside them.

        No value follows from the others. Returns None if no such values were found.
        """
        for _ in range(TRIES):
            item = int(random.integers(len(self._prompts.titles)))
            values = {name: of_item[0] for name in wanted if (of_item := self._prompts.values[name][item])}
            asked = Asked(values, {})
            if len(values) < len(wanted) or not self._independent(values):
                continue
            for name in refused:
                beside = np.flatnonzero(self.fulfilling(asked))
                counts = collections.Counter(value for row in beside for value in self._prompts.values[name][row])
                if len(counts) < 2:
                    break
                asked = Asked(values, {**asked.refused, name: counts.most_common(1)[0][0]})
            if len(asked.refused) == len(refused) and self.fulfilling(asked).sum() >= self._fewest:
                return asked
        return None

    def _independent(self, values: Mapping[str, str]) -> bool:
        """Returns whether fewer items have all values than have any of them left out."""
        together = self.fulfilling(Asked(values, {})).sum()
        for name in values if len(values) > 1 else ():
            others = {other: value for other, value in values.items() if other != name}
            if self.fulfilling(Asked(others, {})).sum() == together:
                return False
        return True

"""Errors in the user's data, collected so that one run reports all of them."""

import dataclasses
from collections.abc import Iterable, Sequence

from genrec.errors import CELL, GenrecError, cut

EXAMPLES = 3  # shown for each kind of problem


class DataError(GenrecError):
    """Error in the data. The message says what is wrong, where, and what to do."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One kind of problem in one column of one file."""

    where: str  # file and column
    what: str
    remedy: str
    count: int  # rows; 0 where it was checked for and not found
    examples: tuple[str, ...]  # such as "line 7: 'B12'", without the end of a long cell

    def __str__(self) -> str:
        shown = "; ".join(self.examples)
        if self.count > len(self.examples) and self.examples:
            shown += "; ..."
        rows = f" ({self.count:,} row{'s' if self.count != 1 else ''})" if self.examples else ""
        return f"{self.where}: {self.what}{rows}{': ' + shown if shown else ''}. {self.remedy}"


@dataclasses.dataclass
class Problems:
    """Collector of problems, which `raise_if_any` raises as one `DataError`."""

    kinds: list[Problem] = dataclasses.field(default_factory=list)

    def add(self, where: str, what: str, remedy: str, *, count: int = 1, examples: Sequence[str] = ()) -> None:
        """Adds one kind of problem in one column of one file.

        For instance, `add("log.csv, column item_id", "unknown items", "Add them to items.csv.", count=2,
        examples=["line 7: 'B12'"])` reads "log.csv, column item_id: unknown items (2 rows): line 7: 'B12'; ... Add them
        to items.csv."
        """
        shown = tuple(map(cut, examples[:EXAMPLES]))
        self.kinds.append(Problem(cut(where), cut(what, 2 * CELL), cut(remedy, 2 * CELL), count, shown))

    @property
    def found(self) -> list[Problem]:
        """The kinds of problems that some row has."""
        return [kind for kind in self.kinds if kind.count]

    def raise_if_any(self) -> None:
        """Raises `DataError`, with all problems in its message, if there are any."""
        if self.found:
            kinds = f"{len(self.found)} problem{'s' if len(self.found) != 1 else ''}"
            raise DataError(
                f"{kinds} in the data; nothing was written.\n" + "\n".join(f"- {problem}" for problem in self.found)
            )


def merge(parts: Iterable[Problems]) -> Problems:
    """Returns the problems of a table from those of its parts, given in the order of the rows."""
    merged: dict[tuple[str, str, str], Problem] = {}
    for problem in (kind for part in parts for kind in part.kinds):
        key = (problem.where, problem.what, problem.remedy)
        if key in merged:
            before = merged[key]
            examples = (*before.examples, *problem.examples)[:EXAMPLES]
            problem = dataclasses.replace(problem, count=before.count + problem.count, examples=examples)
        merged[key] = problem
    return Problems(list(merged.values()))

"""What is wrong with a user's data, collected so that one run names everything there is to repair."""

import dataclasses
from collections.abc import Sequence

EXAMPLES = 3  # shown of each kind of problem


class DataError(ValueError):
    """The data cannot be used as it is. The message says what is wrong, where, and what to do."""


@dataclasses.dataclass
class Problems:
    """Collects problems; `raise_if_any` turns them into one `DataError`."""

    found: list[str] = dataclasses.field(default_factory=list)

    def add(self, where: str, what: str, remedy: str, *, count: int = 1, examples: Sequence[str] = ()) -> None:
        """Records one kind of problem in one column of one file.

        For instance `add("log.csv, column item_id", "unknown items", "Add them to items.csv.", count=2,
        examples=["line 7: 'B12'"])` reads "log.csv, column item_id: unknown items (2 rows): line 7: 'B12'; ... Add them
        to items.csv."
        """
        shown = "; ".join(examples[:EXAMPLES])
        if count > len(examples[:EXAMPLES]) and examples:
            shown += "; ..."
        rows = f" ({count:,} row{'s' if count != 1 else ''})" if examples else ""
        self.found.append(f"{where}: {what}{rows}{': ' + shown if shown else ''}. {remedy}")

    def raise_if_any(self) -> None:
        if self.found:
            kinds = f"{len(self.found)} problem{'s' if len(self.found) != 1 else ''}"
            raise DataError(
                f"{kinds} in the data; nothing was written.\n" + "\n".join(f"- {line}" for line in self.found)
            )

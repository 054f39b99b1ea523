"""Declarations of settings: default, documentation and allowed values of a dataclass field, in one place.

    steps: int = setting(4000, "training steps", at_least=1)

The type is that of the annotation: bool, int, float, str, or a tuple of one of the last three. `genrec.settings_check`
checks values, and `genrec.script_flags` makes a flag of each field.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from typing import TypeVar, cast, get_args, get_origin

LARGEST = 2**31 - 1  # of numbers that declare no maximum: what is larger is a slip of the pen
PATH = "a path"

T = TypeVar("T")
# A boundary: comparison, its word, and whether a value is within it.
BOUNDS = {
    "at_least": ("at least", lambda value, bound: value >= bound),
    "above": ("above", lambda value, bound: value > bound),
    "at_most": ("at most", lambda value, bound: value <= bound),
    "below": ("below", lambda value, bound: value < bound),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Meaning of a field of settings, and its allowed values; for tuples, those of its elements."""

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    also: tuple[int, ...] = ()  # allowed numbers beside the range
    choices: tuple[str, ...] = ()
    text: str = ""  # what a text without choices is: PATH, "a column of the items"
    pattern: str = ""  # a regular expression that a text matches as a whole
    fewest: int = 0  # elements of a tuple

    def problem(self, kind: object, value: object) -> str:
        """Returns what is allowed, with the nearest choice, if `value` is not; an empty text if it is.

        `kind` is the type of the field.
        """
        if get_origin(kind) is tuple:
            if not isinstance(value, tuple) or len(value) < self.fewest:
                return f"give {self.allowed(kind)}"
            wrong = [one for one in value if self.problem(get_args(kind)[0], one)]
            return f"give {self.allowed(kind)}{nearest(wrong[0], self.choices)}" if wrong else ""
        if kind is str:
            allowed = isinstance(value, str) and self._is_meant(value)
        elif kind is bool:
            allowed = isinstance(value, bool)
        else:
            numbers = (int,) if kind is int else (int, float)
            allowed = type(value) in numbers and self._is_within(cast(float, value))  # a bool is no number
        return "" if allowed else f"give {self.allowed(kind)}{nearest(value, self.choices)}"

    def _is_meant(self, text: str) -> bool:
        if self.choices:
            return text in self.choices
        return not self.pattern or re.fullmatch(self.pattern, text) is not None

    def _is_within(self, number: float) -> bool:
        if number in self.also:
            return True
        if math.isinf(number) and number not in (self.at_least, self.at_most):
            return False
        bounds = ((is_within, getattr(self, name)) for name, (_, is_within) in BOUNDS.items())
        return not math.isnan(number) and all(
            is_within(number, bound) for is_within, bound in bounds if bound is not None
        )

    def allowed(self, kind: object) -> str:
        """Returns the allowed values in words, for a field of type `kind`."""
        if get_origin(kind) is tuple:
            element = self.allowed(get_args(kind)[0])
            return f"a tuple of {f'{self.fewest} or more' if self.fewest else 'any number'}, each {element}"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if kind is bool:
            return "true or false"
        if kind is str:
            return self.text or "a text"
        limits = [
            f"{words} {getattr(self, name)}" for name, (words, _) in BOUNDS.items() if getattr(self, name) is not None
        ]
        if self.at_least is not None and self.at_most is not None:
            limits = [f"from {self.at_least} to {self.at_most}"]
        also = "".join(f", or {number}" for number in self.also)
        return " ".join(["a whole number" if kind is int else "a number", " and ".join(limits)]).strip() + also

    def parse(self, kind: object, text: str) -> object:
        """Returns the value that `text` writes; raises ValueError with the allowed values if it writes none."""
        try:
            value = kind(text) if kind in (int, float) else text
        except ValueError:
            value = text
        if problem := self.problem(kind, value):
            raise ValueError(problem)
        return value


def setting(
    default: T,
    help_text: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    also: tuple[int, ...] = (),
    choices: tuple[str, ...] = (),
    text: str = "",
    pattern: str = "",
    fewest: int = 0,
) -> T:
    """Returns the dataclass field of a setting; see `Setting`. Numbers are at most `LARGEST` by default."""
    first = default[0] if isinstance(default, tuple) and default else default
    if type(first) in (int, float) and at_most is None and below is None:
        at_most = LARGEST
    declared = Setting(
        help_text,
        at_least=at_least,
        above=above,
        at_most=at_most,
        below=below,
        also=also,
        choices=choices,
        text=text,
        pattern=pattern,
        fewest=fewest,
    )
    # A field, of which the dataclass makes an attribute of the type of its default.
    return dataclasses.field(default=default, metadata={"setting": declared})


def nearest(value: object, names: Sequence[str]) -> str:
    """Returns a question about the name that is nearest to `value`; an empty text if none is near."""
    found = difflib.get_close_matches(str(value), names, 1)
    return f". Did you mean {found[0]}?" if found else ""

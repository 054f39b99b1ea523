"""A conversation at a terminal: prompt after prompt, with what changed and why."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Filter
from genrec.serving.engine import Recommendations, Search
from genrec.serving.explanations import Explainer
from genrec.serving.profiles import KINDS, Profile
from genrec.serving.requests import Request

HELP = """Say what you would like to hear, or
  :hear 3             choose number 3 of the list: it joins the history
  :why 3              why number 3 is there
  :likes genre=jazz   also :dislikes :more_of :less_of :blocked; item=ID for one item
  :forget genre=jazz  takes that back
  :tell country=DE    another country, a time_of_day ...; :tell country= leaves it out
  :profile            what is known of the taste
  :prompt               without a prompt again
  :quit"""


class Turn(NamedTuple):
    request: Request
    found: Recommendations


class Conversation:
    """Keeps history, prompt and profile between turns."""

    def __init__(
        self,
        search: Search,
        request: Request,
        ask: Callable[[str], str],
        say: Callable[[str], None],
        wanted: Filter = EVERYTHING,
    ):
        """`ask` reads a line after a prompt and raises EOFError when there are no more; `say` prints.

        All lists pass the filter `wanted`.
        """
        self._search, self._explainer = search, Explainer(search)
        self._request = dataclasses.replace(request, profile=request.profile or Profile(request.name))
        self._ask, self._say, self._wanted = ask, say, wanted
        self._last: Turn | None = None

    def run(self) -> Profile:
        """Until the user leaves, even by an interrupt; returns the profile as it is then."""
        try:
            self._say(HELP)
            self._recommend()
            while (line := self._ask("> ").strip()) != ":quit":
                try:
                    self._turn(line)
                except ValueError as problem:  # ours, with what to do; the conversation goes on
                    self._say(str(problem))
        except (EOFError, KeyboardInterrupt):
            pass
        return self._request.profile

    def _turn(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        request = self._request
        match command:
            case "":
                return
            case ":hear":
                item = self._number(argument)
                request = dataclasses.replace(request, history=np.append(request.history, item))
            case ":why":
                self._say(self._explainer.readable(self._last.request, [self._number(argument)], reasons=10))
                return
            case ":profile":
                self._say(request.profile.readable(self._search.catalogue))
                return
            case ":tell":
                name, _, value = argument.partition("=")
                self._search.loaded.tokenizer.context.check([name])
                request = dataclasses.replace(request, context_overrides={**request.context_overrides, name: value})
            case ":forget":
                request = dataclasses.replace(request, profile=request.profile.without(argument))
            case ":prompt":
                request = dataclasses.replace(request, prompt=argument)
            case _ if command[1:] in KINDS and command[0] == ":":
                profile = request.profile.with_entry(command[1:], argument).checked(self._search.catalogue)
                request = dataclasses.replace(request, profile=profile)
            case _ if command[0] == ":":
                self._say(HELP)
                return
            case _:
                request = dataclasses.replace(request, prompt=line)
        self._recommend(request)

    def _number(self, text: str) -> int:
        """The catalogue row of a place of the last list."""
        items = self._last.found.items
        if not text.isdigit() or not 1 <= int(text) <= len(items):
            raise DataError(f"say which of the list, 1 to {len(items)}")
        return int(items[int(text) - 1])

    def _recommend(self, request: Request | None = None) -> None:
        """The next list; only when there is one does the request take the place of the one before."""
        request = request or self._request
        found = self._search([request], self._wanted)[0]
        before = {} if self._last is None else {int(item): place for place, item in enumerate(self._last.found.items)}
        lines = [self._heading(request)]
        for place, item in enumerate(map(int, found.items)):
            moved = ""
            if before:
                moved = "  new" if item not in before else _moved(before[item] - place)
            lines.append(f"{place + 1:3}. {self._search.catalogue.titles[item]}{moved}")
        if not len(found.items):
            lines.append("nothing fulfils all of this: take back a prompt or a line of the profile")
        gone = [self._search.catalogue.titles[item] for item in before if item not in set(found.items.tolist())]
        if gone:
            lines.append(f"gone: {len(gone)}, such as {gone[0]}")
        if len(found.items):
            lines.append("why the first:")
            lines.append(self._explainer.readable(request, found.items[:1], reasons=3))
        self._request, self._last = request, Turn(request, found)
        self._say("\n".join(lines))

    def _heading(self, request: Request) -> str:
        conditions = self._search.filter_of(request, self._wanted).conditions
        rules = ", ".join(f"{c.column} {c.operator} {' or '.join(c.values)}" for c in conditions)
        prompt = f'"{request.prompt}"' if request.prompt else "no prompt"
        return f"{len(request.history)} items heard, {prompt}" + (f"; as a rule: {rules}" if rules else "")


def _moved(places: int) -> str:
    return "" if places == 0 else f"  {'up' if places > 0 else 'down'} {abs(places)}"

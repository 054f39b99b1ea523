"""Interactive recommendation at a terminal: prompts and commands in, lists with their changes and reasons out."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from genrec import printing
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Filter
from genrec.errors import GenrecError
from genrec.serving.engine import Engine, Recommendations
from genrec.serving.explanations import Explainer
from genrec.serving.profile_entries import KINDS
from genrec.serving.profiles import NO_PROFILE, Profile
from genrec.serving.requests import Request

HELP = """Type a prompt, or a command:
  :hear 3             add item 3 of the list to the history
  :why 3              explain item 3
  :likes genre=jazz   add to the taste profile; also :dislikes :more_of :less_of :blocked; item=ID for one item;
                      :blocked for a week genre=jazz|folk, :likes x2 mood=calm & genre=jazz
  :forget genre=jazz  remove that from the taste profile
  :tell country=DE    set a feature of the request context, such as time_of_day; :tell country= leaves it out
  :profile            show the taste profile
  :prompt             clear the prompt
  :quit"""


class Conversation:
    """A dialog with one user, which keeps history, prompt and profile between turns."""

    def __init__(
        self,
        engine: Engine,
        request: Request,
        read: Callable[[str], str],
        write: Callable[[str], None],
        item_filter: Filter = EVERYTHING,
        save: Callable[[Profile], None] = lambda profile: None,
    ):
        """Starts without a list; `run` shows the first one.

        Args:
          engine: Engine for all lists.
          request: The user's request; its history, prompt and profile are those to start with.
          read: Shows a text, returns a line, and raises EOFError at the end of the input.
          write: Prints a text.
          item_filter: Filter that all lists pass.
          save: Saves the profile; called after each change of it.
        """
        self._engine, self._explainer = engine, Explainer(engine)
        profile = Profile(request.name) if request.profile == NO_PROFILE else request.profile
        self._request = dataclasses.replace(request, profile=profile)
        self._found = Recommendations(np.zeros(0, np.int32), np.zeros(0, np.float32), 0)  # for self._request
        self._read, self._write, self._filter, self._save = read, write, item_filter, save

    def run(self) -> Profile:
        """Runs until the user quits, ends the input or interrupts; returns the profile as it is then."""
        try:
            self._write(HELP)
            self._recommend(self._request)
            while (line := self._read("> ").strip()) != ":quit":
                try:
                    self._turn(line)
                except GenrecError as problem:
                    self._write(str(problem))
        except (EOFError, KeyboardInterrupt):
            pass
        return self._request.profile

    def _turn(self, line: str) -> None:
        if printing.REPLACEMENT in line:
            raise DataError("the line is not UTF-8 text and was ignored: type it again")
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        request = self._request
        match command:
            case "":
                return
            case ":hear":
                request = request.with_event(self._item(argument))
            case ":why":
                self._write(self._explainer.as_text(request, [self._item(argument)], reasons=10))
                return
            case ":profile":
                self._write(request.profile.as_text(self._engine.catalogue))
                return
            case ":tell":
                name, _, value = argument.partition("=")
                self._engine.loaded.tokenizer.context.check([name])
                request = dataclasses.replace(request, context_overrides={**request.context_overrides, name: value})
            case ":forget":
                request = dataclasses.replace(request, profile=request.profile.without(argument))
            case ":prompt":
                request = dataclasses.replace(request, prompt=argument)
            case _ if command[1:] in KINDS and command[0] == ":":
                profile = request.profile.with_text(line[1:])
                self._engine.profile_of(dataclasses.replace(request, profile=profile)).checked(self._engine.catalogue)
                request = dataclasses.replace(request, profile=profile)
            case _ if command[0] == ":":
                self._write(HELP)
                return
            case _:
                request = dataclasses.replace(request, prompt=line)
        self._recommend(request)

    def _item(self, text: str) -> int:
        """Returns the catalogue row at a place of the last list, counted from 1."""
        items = self._found.items
        if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= len(items):
            raise DataError(f"give the number of an item of the list, 1 to {len(items)}")
        return int(items[int(text) - 1])

    def _recommend(self, request: Request) -> None:
        """Shows the list of `request`, which becomes the current request once the search has succeeded."""
        found, titles = self._engine.recommend([request], self._filter)[0], self._engine.catalogue.titles
        before = {int(item): place for place, item in enumerate(self._found.items)}
        lines = [printing.one_line(self._heading(request))]
        for place, item in enumerate(map(int, found.items)):
            moved = ""
            if before:
                moved = "  new" if item not in before else _moved(before[item] - place)
            lines.append(printing.one_line(f"{place + 1:3}. {titles[item]}{moved}"))
        if not len(found.items):
            lines.append("no item passes all filters: change the prompt or remove an entry of the profile")
        gone = [titles[item] for item in before if item not in set(found.items.tolist())]
        if gone:
            lines.append(printing.one_line(f"gone: {len(gone)}, such as {gone[0]}"))
        if len(found.items):
            lines.append("why the first:")
            lines.append(self._explainer.as_text(request, found.items[:1], reasons=3))
        changed = request.profile != self._request.profile
        self._request, self._found = request, found
        self._write("\n".join(lines))
        if changed:
            self._save(request.profile)

    def _heading(self, request: Request) -> str:
        conditions = self._engine.filter_of(request, self._filter).conditions
        rules = ", ".join(f"{c.column} {c.operator} {' or '.join(c.values)}" for c in conditions)
        prompt = f'"{request.prompt}"' if request.prompt else "no prompt"
        return f"{len(request.history)} items heard, {prompt}" + (f"; as a rule: {rules}" if rules else "")


def _moved(places: int) -> str:
    return "" if places == 0 else f"  {'up' if places > 0 else 'down'} {abs(places)}"

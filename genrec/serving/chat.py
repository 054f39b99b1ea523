"""Interactive recommendation at a terminal: prompts and commands in, lists with their changes and reasons out."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from genrec import printing
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Filter
from genrec.errors import GenrecError, shown
from genrec.serving import output, why_not
from genrec.serving.engine import Engine
from genrec.serving.explanations import Explainer
from genrec.serving.profile_entries import KINDS
from genrec.serving.profiles import NO_PROFILE, Profile
from genrec.serving.queries import Recommendations
from genrec.serving.requests import Request

HELP = """Type a prompt, and more lines to refine it. Also: undo, why not X?, not him again, not 3; or a command:
  :CHOSEN 3{}add item 3 of the list to the history
  :why 3              explain item 3
  :why_not X          say why an item, or a value such as podcasts, is not in the list
  :off 2              switch off part 2 of the prompt, as it is understood; :on 2 switches it on again
  :rules off          make no part of the prompt a rule; :rules on
  :likes genre=jazz   add to the taste profile; also :dislikes :more_of :less_of :blocked; item=ID for one item;
                      :blocked for a week genre=jazz|folk, :likes x2 mood=calm & genre=jazz
  :forget genre=jazz  remove that from the taste profile
  :tell country=DE    set a feature of the request context, such as time_of_day; :tell country= leaves it out
  :profile            show the taste profile
  :prompt             clear the prompt; :prompt X begins another one
  :undo               go back to before the last line
  :quit"""
_UNDO = re.compile(r"(?:undo|go back)(?:\s+(?:that|it|please))*[.!]?", re.IGNORECASE)
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5}
_THAT = r"that one|this one|that|this|it"
_PLACE = rf"(?:(?:number|item|#)\s*)?\d{{1,9}}|the (?:{'|'.join(_ORDINALS)}|last)(?: one)?"
_WHY = re.compile(rf"why(?:\s+(?P<item>{_PLACE}|{_THAT}))?[\s?!.]*", re.IGNORECASE)
_WHY_NOT = re.compile(
    r"why\s+(?:not|no|isn't|is not)(?:\s+(.+?)|)(?:\s+(?:in|on)\s+the\s+list)?[\s?!.]*", re.IGNORECASE
)
_NOT_ITEM = re.compile(
    rf"(?:not|no|skip|hide)\s+(?P<items>(?:{_PLACE}|{_THAT})(?:(?:\s*[,/&]\s*|\s+)(?:(?:and|or|nor|not)\s+)?(?:{_PLACE}))*)"
    r"(?:[\s,]+(?:again|please))*[.!]?",
    re.IGNORECASE,
)
# "Them" may be things ("podcasts? I hate them"), and "for her" is a listener.
_PERSON = re.compile(
    r"\b(?:(?<!for )(?:him|her)|(?<=by )them|(?<=^not )them|(?:that|this) (?:artist|author|singer|band))\b"
    r"(?=\W*(?:$|again|please|any))",
    re.IGNORECASE,
)


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
        self._denied = item_filter.deny  # before any item is turned down
        self._earlier: list[tuple[Request, Filter]] = []  # before each line that changed something
        self._meant: int | None = None  # the item, a catalogue row, that was last chosen or explained

    def run(self) -> Profile:
        """Runs until the user quits, ends the input or interrupts; returns the profile as it is then."""
        try:
            self._write(self._help)
            self._recommend(self._request, self._filter)
            while (line := self._read("> ").strip()) != ":quit":
                try:
                    self._turn(line)
                except GenrecError as problem:
                    self._write(str(problem))
        except (EOFError, KeyboardInterrupt):
            pass
        return self._request.profile

    @property
    def _help(self) -> str:
        command = f":{self._engine.chosen} 3"
        return HELP.replace(":CHOSEN 3{}", f"{command:20}")

    def _turn(self, line: str) -> None:
        if printing.REPLACEMENT in line:
            raise DataError("the line is not UTF-8 text and was ignored: type it again")
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        request = self._request
        match command:
            case "":
                return
            case ":why" | ":why_not" | ":profile":
                self._write(printing.clean(self._answer(command, argument)))
                return
            case ":undo":
                self._undo()
                return
            case ":tell":
                name, _, value = argument.partition("=")
                self._engine.loaded.tokenizer.context.check([name])
                request = dataclasses.replace(request, context_overrides={**request.context_overrides, name: value})
            case ":forget":
                request = dataclasses.replace(request, profile=request.profile.without(argument))
            case ":prompt":
                request = dataclasses.replace(request, prompt=argument, parts_off=frozenset())
            case ":off" | ":on" | ":rules":
                request = self._switched(command, argument)
            case _ if command[1:] == self._engine.chosen and command[0] == ":":
                self._meant = self._item(argument)
                request = request.with_event(self._meant)
            case _ if command[1:] in KINDS and command[0] == ":":
                profile = request.profile.with_text(line[1:])
                self._engine.profile_of(dataclasses.replace(request, profile=profile)).checked(self._engine.catalogue)
                request = dataclasses.replace(request, profile=profile)
            case _ if command[0] == ":":
                self._write(self._help)
                return
            case _:
                self._say(line)
                return
        self._recommend(request, self._filter)

    def _say(self, line: str) -> None:
        """Takes a line in words: a question, an item that is turned down, or a refinement of the prompt."""
        if _UNDO.fullmatch(line):
            self._undo()
            return
        if asked := _WHY.fullmatch(line):
            self._write(printing.clean(self._explained(self._items(asked["item"] or "that")[0])))
            return
        if asked := _WHY_NOT.fullmatch(line):
            self._write(printing.clean(self._answer(":why_not", self._with_names(asked[1] or ""))))
            return
        if re.fullmatch(_PLACE, line, re.IGNORECASE):
            raise DataError(f"{line}: write :{self._engine.chosen} {line}, why {line}? or not {line}")
        if refused := _NOT_ITEM.fullmatch(line):
            denied = self._filter.deny.union(self._items(refused["items"]))
            self._recommend(self._request, dataclasses.replace(self._filter, deny=denied))
        else:
            self._recommend(self._refined(self._with_names(line)), self._filter)
        self._meant = None  # of the new list, "that" is the first

    def _answer(self, command: str, argument: str) -> str:
        request = self._request
        if command == ":profile":
            return request.profile.as_text(self._engine.catalogue)
        if command == ":why_not":
            return why_not.answer(self._engine, request, self._found, self._filter, argument)
        return self._explained(self._item(argument))

    def _explained(self, item: int) -> str:
        self._meant = item
        return self._explainer.as_text(self._request, [item], reasons=10)

    def _undo(self) -> None:
        if not self._earlier:
            raise DataError("there is nothing to undo")
        self._recommend(*self._earlier[-1])
        del self._earlier[-2:]  # what was undone, and the undoing

    def _refined(self, line: str) -> Request:
        """Returns the request with a further line of the prompt; parts that were switched off stay so."""
        request = self._request
        prompt = f"{request.prompt}\n{line}" if request.prompt else line
        before = self._engine.understand(dataclasses.replace(request, parts_off=frozenset())).parts
        off = {before[number - 1].place for number in request.parts_off}
        longer = dataclasses.replace(request, prompt=prompt, parts_off=frozenset())
        parts = enumerate(self._engine.understand(longer).parts, start=1)
        return dataclasses.replace(longer, parts_off=frozenset(number for number, part in parts if part.place in off))

    def _switched(self, command: str, argument: str) -> Request:
        """Returns the request with a part of the prompt, or all rules, on or off."""
        request = self._request
        if command == ":rules":
            if argument not in ("on", "off"):
                raise DataError(f":rules {shown(argument)}: write :rules on or :rules off")
            return dataclasses.replace(request, rules=argument == "on")
        parts = self._engine.understand(dataclasses.replace(request, parts_off=frozenset())).parts
        if not re.fullmatch(r"\d{1,9}", argument) or not 1 <= int(argument) <= len(parts):
            raise DataError(f"{command}: give the number of a part of the prompt, 1 to {len(parts)}")
        number = {int(argument)}
        off = request.parts_off | number if command == ":off" else request.parts_off - number
        return dataclasses.replace(request, parts_off=off)

    def _that(self) -> int:
        """Returns the item that "that" and "him" refer to: the one last chosen or explained, else the first listed."""
        return self._meant if self._meant is not None else self._item("1")

    def _with_names(self, line: str) -> str:
        """Returns a line with the names of those who made the item that is meant, for "him" and the like."""
        person = _PERSON.search(line)
        if person is None or "by" in self._roles_in(line[: person.start()]):
            return line
        if line.casefold().startswith("not them") and "kind" in self._roles_in(self._request.prompt):
            raise DataError("them: say whom or what you mean")
        creators = self._engine.creators_of(self._that())
        if not creators:
            title = self._engine.catalogue.titles[self._that()]
            raise DataError(f"nobody is named as the maker of {shown(title)}: say whom you mean")
        names = " or ".join(creator if '"' in creator else f'"{creator}"' for creator in creators)
        return _PERSON.sub(lambda found: names, line)

    def _roles_in(self, text: str) -> set[str]:
        """Returns the roles of the values that a text names."""
        return {meaning.role for meaning in self._engine.named_in(text)}

    def _items(self, text: str) -> list[int]:
        """Returns the catalogue rows of items in words: "3", "2 and 5", "the last one", "that"."""
        places = [
            str(len(self._found.items) if found == "last" else _ORDINALS.get(found, found))
            for found in re.findall(rf"\d+|{'|'.join(_ORDINALS)}|last", text.casefold())
        ]
        rest = [self._that()] if re.match(_THAT, text, re.IGNORECASE) else []
        return rest + [self._item(place) for place in places]

    def _item(self, text: str) -> int:
        """Returns the catalogue row at a place of the last list, counted from 1."""
        items = self._found.items
        if not len(items):
            raise DataError("the list is empty: go back (undo), or change the prompt")
        if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= len(items):
            raise DataError(f"give the number of an item of the list, 1 to {len(items)}")
        return int(items[int(text) - 1])

    def _recommend(self, request: Request, item_filter: Filter) -> None:
        """Shows the list of `request`, which becomes the current request once the search has succeeded."""
        found, titles = self._engine.recommend([request], item_filter)[0], self._engine.catalogue.titles
        before = {int(item): place for place, item in enumerate(self._found.items)}
        lines = [printing.one_line(self._heading(request, len(item_filter.deny - self._denied)))]
        lines += self._engine.loaded.tokenizer.context.unknown(request.context_overrides)
        if request.prompt:
            lines.append(output.understanding(self._engine.understand(request)))
        for place, item in enumerate(map(int, found.items)):
            moved = ""
            if before:
                moved = "  new" if item not in before else _moved(before[item] - place)
            lines.append(printing.one_line(f"{place + 1:3}. {titles[item]}{moved}"))
        if shortage := self._engine.shortage(request, found, item_filter):
            lines.append(output.short_list(shortage, self._engine.catalogue, in_chat=True))
        elif not len(found.items):
            lines.append("no item passes all filters: change the prompt or remove an entry of the profile")
        gone = [titles[item] for item in before if item not in set(found.items.tolist())]
        if gone:
            lines.append(printing.one_line(f"gone: {len(gone)}, such as {gone[0]}"))
        if len(found.items):
            lines.append("why the first:")
            lines.append(self._explainer.as_text(request, found.items[:1], reasons=3))
        changed = request.profile != self._request.profile
        if before or self._earlier:
            self._earlier.append((self._request, self._filter))
        self._request, self._filter, self._found = request, item_filter, found
        self._write("\n".join(lines))
        if changed:
            self._save(request.profile)

    def _heading(self, request: Request, turned_down: int) -> str:
        lines = " - ".join(f'"{line}"' for line in request.prompt.split("\n"))
        events = printing.counted(len(request.history), "item")
        down = f", {printing.counted(turned_down, 'item')} turned down" if turned_down else ""
        return f"{events} {self._engine.chosen}, {lines if request.prompt else 'no prompt'}{down}"


def _moved(places: int) -> str:
    return "" if places == 0 else f"  {'up' if places > 0 else 'down'} {abs(places)}"

"""Answers to "why not X?": what excludes an item, or all items with a value, from a list, or how its score compares."""

import dataclasses

import numpy as np

from genrec.data.errors import DataError
from genrec.data.filters import Filter
from genrec.errors import shown
from genrec.serving.engine import Engine
from genrec.serving.prompt_grammar import NOT, ONLY
from genrec.serving.queries import Recommendations
from genrec.serving.requests import Request


def answer(engine: Engine, request: Request, found: Recommendations, item_filter: Filter, wanted: str) -> str:
    """Returns why `wanted`, an item id, a title or values in words, is not in the list `found` of a request.

    `item_filter` is that of the search. Raises DataError if the catalogue has nothing of that name.
    """
    if not wanted.strip(" ?!."):
        raise DataError("why not what? Name an item, a title or a value, such as podcasts")
    rows = _named(engine, wanted)
    titles, listed = engine.catalogue.titles, found.items.tolist()
    places = sorted(listed.index(row) + 1 for row in rows.tolist() if row in listed)
    name = titles[rows[0]] if len(rows) == 1 else f"{wanted} ({len(rows):,} items)"
    if places:
        return f"{name}: in the list, number {', '.join(map(str, places))}"
    reasons, eligible = _excluded(engine, request, item_filter, rows)
    if not len(eligible):
        return f"{name}: excluded by {' and by '.join(reasons)}"
    alone = dataclasses.replace(item_filter, allow=frozenset(eligible.tolist()))
    best = engine.recommend([request], alone)[0]
    if not len(best.items):
        return f"{name}: not reached by the search; a wider one (--beams) may list it"
    some = f"; {len(rows) - len(eligible):,} of them are excluded by {' and by '.join(reasons)}" if reasons else ""
    whose = "its score" if len(rows) == 1 else f"the score of the best of them, {titles[best.items[0]]},"
    score = f"{whose} is {best.scores[0]:.2f}"
    if not len(found.scores):
        return f"{name}: {score}{some}"
    last = float(found.scores[-1])
    if len(found.scores) < engine.options.top or best.scores[0] > last:
        compared = f"the last item of the list has {last:.2f}; the search did not reach it, a wider one (--beams) may"
    else:
        compared = f"below {last:.2f} of the last item of the list"
    return f"{name}: nothing excludes {'it' if len(rows) == 1 else 'all of them'}; {score}, {compared}{some}"


def _named(engine: Engine, wanted: str) -> np.ndarray:
    """Returns the catalogue rows that are meant: of an item id, a title or a part of it, or of values."""
    catalogue, text = engine.catalogue, wanted.strip().strip("\"'").casefold()
    if wanted.strip() in catalogue.index:
        return np.array([catalogue.index[wanted.strip()]])
    titles = [title.casefold() for title in catalogue.titles]
    for named in (
        [row for row, title in enumerate(titles) if title == text],
        engine.rows_of(wanted),
        [row for row, title in enumerate(titles) if text and text in title],
    ):
        if len(named):
            return np.asarray(named)
    raise DataError(f"no item, title or value {shown(wanted)} in the catalogue")


def _excluded(engine: Engine, request: Request, item_filter: Filter, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns what excludes some of the catalogue rows, in words, and the rows that nothing excludes."""
    understood, catalogue = engine.understand(request), engine.catalogue
    passing, reasons = np.ones(len(catalogue), bool), []

    def exclude(mask: np.ndarray, reason: str) -> None:
        nonlocal passing
        if not mask[rows].all():
            reasons.append(reason)
            passing = passing & mask

    for condition in understood.conditions:
        kind = NOT if condition.operator.startswith("!") else ONLY
        about = [part for part in understood.parts if part.rule and part.kind == kind]
        words = [repr(p.words) for p in about if [c.column for c in p.conditions] == [condition.column]]
        exclude(condition.mask(catalogue), f"your words {' and '.join(dict.fromkeys(words))}")
    for part in understood.parts:
        if part.rule and len(part.conditions) > 1:
            refused = np.logical_and.reduce([condition.mask(catalogue) for condition in part.conditions])
            exclude(~refused, f"your words {part.words!r}")
    exclude(item_filter.mask(len(catalogue), catalogue), "the filter of this conversation")
    profile = engine.profile_of(request).checked(catalogue)
    exclude(profile.restrict(Filter(), catalogue).mask(len(catalogue), catalogue), "your profile")
    if engine.options.exclude_history:
        others = np.ones(len(catalogue), bool)
        others[request.history] = False
        exclude(others, "--exclude_history: it is in your history")
    return reasons, rows[passing[rows]]

"""Output of recommendations: a table for people, or lines of JSON for programs."""

import itertools
import json
from collections.abc import Sequence as AbstractSequence

from genrec import printing, tables
from genrec.data.dataset import Catalogue
from genrec.serving.explanations import Explanation
from genrec.serving.queries import Recommendations, Shortage
from genrec.serving.requests import Request
from genrec.serving.understanding import Understanding

TITLE_WIDTH = 48  # characters


def render(
    request: Request,
    found: Recommendations,
    catalogue: Catalogue,
    output: str,
    explanations: AbstractSequence[Explanation] | None = None,
    understood: Understanding | None = None,
    shortage: Shortage | None = None,
) -> str:
    """Returns a "table" and an empty line, or a line of "json" with the `explanations` of the items if given.

    `understood` is what was understood of the prompt, `shortage` says that its rules leave fewer items than asked for.
    """
    if output == "json":
        return as_json(request, found, catalogue, explanations, understood, shortage)
    lines = [table(request, found, catalogue)]
    if understood is not None and understood.prompt:
        lines[:0] = [understanding(understood)]
    if shortage is not None:
        lines.append(short_list(shortage, catalogue))
    return "\n".join(lines) + "\n"


def understanding(understood: Understanding) -> str:
    """Returns what was understood of a prompt, and a line for each part."""
    lines = [f"understood: {understood.as_text()}", *(f"  {line}" for line in understood.as_table())]
    lines += [f"  no part: {line!r} names no value of the catalogue" for line in understood.unknown_lines()]
    return "\n".join(map(printing.one_line, lines))


def short_list(shortage: Shortage, catalogue: Catalogue, in_chat: bool = False) -> str:
    """Returns how many items pass the rules of a prompt and would without each, and the list with some of them off."""
    without = ", ".join(f"{items:,} without part {number}" for number, items in shortage.without.items())
    lines = [f"{printing.counted(shortage.eligible, 'item')} under the rules of the prompt ({without})"]
    if shortage.found is not None:
        numbers = [str(number) for number in shortage.loosened]
        off = ", ".join(f":off {number}" for number in numbers) if in_chat else f"--rules=off:{','.join(numbers)}"
        parts = f"part{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
        lines.append(f"with {parts} as taste rather than as a rule ({off}):")
        lines += [f"  - {catalogue.titles[item]}" for item in shortage.found.items]
    return "\n".join(map(printing.one_line, lines))


def table(request: Request, found: Recommendations, catalogue: Catalogue) -> str:
    """Returns two columns: the last items of the history, and the recommendations with their log-probabilities."""
    history = [_short(catalogue.titles[item]) for item in request.history[::-1][: max(len(found.items), 10)]]
    recommended = [
        (float(score), f"{_short(catalogue.titles[item])}{'  <- target' if item == request.target else ''}")
        for item, score in zip(found.items, found.scores, strict=True)
    ]
    rows = [(title, *(listed or ())) for title, listed in itertools.zip_longest(history, recommended)]
    lines = [f"{printing.one_line(request.name)}: {len(request.history)} items"]
    if request.target is not None:
        lines.append(f"target: {_short(catalogue.titles[request.target])}")
    lines.append(tables.text(rows, ["history, newest first", "score", "recommended"], floats=".2f", align="lrl"))
    if found.certified:
        lines.append(f"the first {found.certified} are certified: no other eligible item is more likely")
    return "\n".join(lines)


def as_json(
    request: Request,
    found: Recommendations,
    catalogue: Catalogue,
    explanations: AbstractSequence[Explanation] | None = None,
    understood: Understanding | None = None,
    shortage: Shortage | None = None,
) -> str:
    """Returns a line of JSON: name, history and target (item ids), recommended (item_id, title, score), certified.

    `explanations` add to each item `because` (reasons in words), `reasons` (pairs of an input and the change of the
    log-probability without it), `sum_of_changes`, and `joint_change` (without all inputs at once). A prompt adds
    `understood`, a `shortage` how many items pass its rules, and the list with some of them off.
    """
    more: list[dict[str, object]] = [{} for _ in found.items]
    for extra, one in zip(more, explanations or (), strict=False):
        extra["because"] = [reason.words for reason in one.stated]
        extra["reasons"] = [[reason.name, round(reason.change, 5)] for reason in one.reasons]
        extra["sum_of_changes"], extra["joint_change"] = round(one.total, 5), round(one.joint, 5)
    fields: dict[str, object] = {
        "name": request.name,
        "history": [catalogue.item_ids[item] for item in request.history],
        "target": None if request.target is None else catalogue.item_ids[request.target],
        "recommended": [{**one, **extra} for one, extra in zip(_listed(found, catalogue), more, strict=True)],
        "certified": found.certified,
    }
    if understood is not None and understood.prompt:
        fields["understood"] = understood.as_json()
    if shortage is not None:
        fields["shortage"] = {
            "eligible": shortage.eligible,
            "without": {str(number): items for number, items in shortage.without.items()},
            "loosened": list(shortage.loosened),
            "recommended": [] if shortage.found is None else _listed(shortage.found, catalogue),
        }
    return printing.escape_json(json.dumps(fields, ensure_ascii=False))


def _listed(found: Recommendations, catalogue: Catalogue) -> list[dict[str, object]]:
    return [
        {"item_id": catalogue.item_ids[item], "title": catalogue.titles[item], "score": round(float(score), 5)}
        for item, score in zip(found.items, found.scores, strict=True)
    ]


def _short(title: str) -> str:
    title = " ".join(title.split())
    return title if len(title) <= TITLE_WIDTH else title[: TITLE_WIDTH - 3] + "..."

"""Output of recommendations: a table for people, or lines of JSON for programs."""

import itertools
import json
from collections.abc import Sequence as AbstractSequence

from genrec import printing, tables
from genrec.data.dataset import Catalogue
from genrec.serving.engine import Recommendations
from genrec.serving.explanations import Explanation
from genrec.serving.requests import Request

TITLE_WIDTH = 48  # characters


def render(
    request: Request,
    found: Recommendations,
    catalogue: Catalogue,
    output: str,
    explanations: AbstractSequence[Explanation] | None = None,
) -> str:
    """Returns a "table" and an empty line, or a line of "json" with the `explanations` of the items if given."""
    if output == "json":
        return as_json(request, found, catalogue, explanations)
    return table(request, found, catalogue) + "\n"


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
) -> str:
    """Returns a line of JSON: name, history and target (item ids), recommended (item_id, title, score), certified.

    `explanations` add to each item `because` (reasons in words), `reasons` (pairs of an input and the change of the
    log-probability without it), `sum_of_changes`, and `joint_change` (without all inputs at once).
    """
    more: list[dict[str, object]] = [{} for _ in found.items]
    for fields, one in zip(more, explanations or (), strict=False):
        fields["because"] = [reason.words for reason in one.stated]
        fields["reasons"] = [[reason.name, round(reason.change, 5)] for reason in one.reasons]
        fields["sum_of_changes"], fields["joint_change"] = round(one.total, 5), round(one.joint, 5)
    line = json.dumps(
        {
            "name": request.name,
            "history": [catalogue.item_ids[item] for item in request.history],
            "target": None if request.target is None else catalogue.item_ids[request.target],
            "recommended": [
                {
                    "item_id": catalogue.item_ids[item],
                    "title": catalogue.titles[item],
                    "score": round(float(score), 5),
                    **fields,
                }
                for item, score, fields in zip(found.items, found.scores, more, strict=True)
            ],
            "certified": found.certified,
        },
        ensure_ascii=False,
    )
    return printing.escape_json(line)


def _short(title: str) -> str:
    title = " ".join(title.split())
    return title if len(title) <= TITLE_WIDTH else title[: TITLE_WIDTH - 3] + "..."

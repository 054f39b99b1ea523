"""What tools/recommend.py does with requests: prints lists, explanations, or has a conversation."""

import dataclasses
from collections.abc import Callable, Sequence

from etils import epath

from genrec.data import tasks
from genrec.data.errors import DataError
from genrec.decoding.filters import Filter
from genrec.decoding.profiles import Profile
from genrec.decoding.trained import Trained
from genrec.decoding.writing import Writer
from genrec.evaluation.conversation import Conversation
from genrec.evaluation.explanations import Explainer
from genrec.evaluation.recommendations import Options, Request, Search, shown


def said(context: Sequence[str], wish: str, profile: epath.PathLike | None) -> Callable[[Request], Request]:
    """Gives requests what the user says: features as NAME=VALUE, a wish in words, the path of a taste profile.

    Raises DataError for what is no NAME=VALUE, ProfileError for what is no profile.
    """
    for text in context:
        if "=" not in text:
            raise DataError(f"context {text!r}: write NAME=VALUE, such as country=DE")
    given = dict(text.split("=", 1) for text in context)
    known = None if profile is None else Profile.load(profile)
    return lambda request: dataclasses.replace(request, given=given, wish=wish, profile=known)


def answer(
    trained: Trained, requests: Sequence[Request], options: Options, wanted: Filter, output: str, explain: bool
) -> None:
    """Prints what is recommended for each request, as "table" or "json", and why."""
    search = Search(trained, options, len(requests))
    explainer = Explainer(search)
    writer = Writer(trained) if explain and trained.writes else None
    for request, found in zip(requests, search(requests, wanted), strict=True):
        reasons = explainer.explain(request, found.items) if explain and output == "json" else None
        print(shown(request, found, trained.dataset.catalogue, output, reasons))
        if explain and output != "json":
            if writer and len(request.history):
                print(f"  the taste in the model's words: {writer.write(tasks.TASTE, [request.history])[0]}")
            print(explainer.readable(request, found.items) + "\n")


def converse(
    trained: Trained, requests: Sequence[Request], options: Options, wanted: Filter, path: epath.PathLike | None
) -> None:
    """Talks with the user of the one request at the terminal; the profile is kept at `path`, where one is given."""
    if len(requests) != 1:
        raise DataError(f"a conversation is with one user, not {len(requests)}: give --users=1 or --user=ID")
    profile = Conversation(Search(trained, options), requests[0], input, print, wanted).run()
    if path is not None:
        profile.save(path)

"""The commands of tools/recommend.py and tools/taste_profile.py: lists, explanations, a conversation, profiles."""

import dataclasses
import datetime
from collections.abc import Callable, Sequence

from etils import epath

from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.filters import Filter
from genrec.decoding.loaded_model import LoadedModel
from genrec.decoding.text_generation import TextGenerator
from genrec.input_pipeline import tasks
from genrec.serving.chat import Conversation
from genrec.serving.engine import Options, Search
from genrec.serving.explanations import Explainer
from genrec.serving.output import shown
from genrec.serving.profiles import Profile, ProfileError, learned
from genrec.serving.requests import Request, find_users


def said(context: Sequence[str], prompt: str, profile: epath.PathLike | None) -> Callable[[Request], Request]:
    """Gives requests what the user says: features as NAME=VALUE, a prompt in words, the path of a taste profile.

    Raises DataError for what is no NAME=VALUE, ProfileError for what is no profile.
    """
    for text in context:
        if "=" not in text:
            raise DataError(f"context {text!r}: write NAME=VALUE, such as country=DE")
    overrides = dict(text.split("=", 1) for text in context)
    known = None if profile is None else Profile.load(profile)
    return lambda request: dataclasses.replace(request, context_overrides=overrides, prompt=prompt, profile=known)


def answer(
    loaded: LoadedModel, requests: Sequence[Request], options: Options, wanted: Filter, output: str, explain: bool
) -> None:
    """Prints what is recommended for each request, as "table" or "json", and why."""
    search = Search(loaded, options, len(requests))
    explainer = Explainer(search)
    writer = TextGenerator(loaded) if explain and loaded.writes else None
    for request, found in zip(requests, search(requests, wanted), strict=True):
        reasons = explainer.explain(request, found.items) if explain and output == "json" else None
        print(shown(request, found, loaded.dataset.catalogue, output, reasons))
        if explain and output != "json":
            if writer and len(request.history):
                print(f"  the taste in the model's words: {writer.write(tasks.TASTE, [request.history])[0]}")
            print(explainer.readable(request, found.items) + "\n")


def converse(
    loaded: LoadedModel, requests: Sequence[Request], options: Options, wanted: Filter, path: epath.PathLike | None
) -> None:
    """Talks with the user of the one request at the terminal; the profile is kept at `path`, where one is given."""
    if len(requests) != 1:
        raise DataError(f"a conversation is with one user, not {len(requests)}: give --users=1 or --user=ID")
    profile = Conversation(Search(loaded, options), requests[0], input, print, wanted).run()
    if path is not None:
        profile.save(path)


def edit(
    workdir: epath.PathLike,
    path: epath.PathLike,
    user: str,
    add: Sequence[str],
    remove: Sequence[str],
    columns: Sequence[str],
) -> str:
    """Changes the profile at `path`, which is made from the history of `user` where there is none; returns it to read.

    `add` are KIND:COLUMN=VALUE, `remove` COLUMN=VALUE; a new profile speaks of those of `columns` that there are. It is
    written when all changes are right. Raises ProfileError for one that is not, DataError for an unknown user.
    """
    path, dataset = epath.Path(path), Dataset(epath.Path(workdir) / "dataset")
    catalogue = dataset.catalogue
    if path.exists():
        profile = Profile.load(path)
        if user not in ("", profile.user):
            raise ProfileError(f"{path}: is the profile of {profile.user}, not of {user}")
    elif user:
        request = find_users(dataset.split("test"), [user])[0]
        there = [column for column in columns if column in catalogue.table.column_names]
        profile = learned(user, request.history, catalogue, there, datetime.date.today().isoformat())
    else:
        raise ProfileError(f"{path}: no profile here. Say whose to make: --user=ID")
    for about in remove:
        profile = profile.without(about)
    for text in add:
        kind, _, about = text.partition(":")
        profile = profile.with_entry(kind, about)
    profile.checked(catalogue).save(path)
    return profile.readable(catalogue)

"""The commands behind tools/recommend.py and tools/taste_profile.py: recommendations, a dialog, profiles."""

import contextlib
import dataclasses
import datetime
import importlib
import re
from collections.abc import Callable, Sequence

from absl import logging
from etils import epath

from genrec import printing
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.filters import Filter
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.decoding.text_generation import TextGenerator
from genrec.errors import shown
from genrec.input_pipeline import tasks
from genrec.serving import output, profiles
from genrec.serving.chat import Conversation
from genrec.serving.engine import Engine, Options
from genrec.serving.explanations import Explainer
from genrec.serving.profile_entries import ProfileError
from genrec.serving.profiles import NO_PROFILE, Profile
from genrec.serving.requests import Request, find_users
from genrec.serving.search_programs import EncodedSearcher


def conditioning(
    context: Sequence[str], prompt: str, profile: epath.PathLike | None, rules: str = "on"
) -> Callable[[Request], Request]:
    """Returns a function that adds context overrides (NAME=VALUE), a prompt and a profile (a path) to a request.

    `rules` of the prompt are "on", "off", or "off:1,3" without the parts of these numbers. Raises DataError if an
    override is no NAME=VALUE, or `rules` is none of these, ProfileError if the profile is missing or malformed.
    """
    for text in context:
        if "=" not in text:
            raise DataError(f"context {shown(text)}: write NAME=VALUE, such as country=DE")
    overrides = dict(text.split("=", 1) for text in context)
    known = NO_PROFILE if profile is None else Profile.load(profile)
    if not re.fullmatch(r"on|off|off:\d{1,4}(,\d{1,4})*", rules):
        raise DataError(
            f"rules {shown(rules)}: write on, off, or off:1,3 for the parts of the prompt that are to be off"
        )
    off = frozenset(map(int, re.findall(r"\d+", rules)))
    return lambda request: dataclasses.replace(
        request, context_overrides=overrides, prompt=prompt, profile=known, rules=rules != "off", parts_off=off
    )


def print_recommendations(
    loaded: LoadedGenerator,
    requests: Sequence[Request],
    options: Options,
    item_filter: Filter,
    output_format: str,
    explain: bool,
) -> None:
    """Prints the ranked list of each request as "table" or "json", with explanations if `explain`."""
    engine = engine_of(loaded, options, len(requests))
    explainer = Explainer(engine)
    generator = TextGenerator(loaded) if explain and loaded.generates_texts else None
    for problem in dict.fromkeys(
        one for r in requests for one in loaded.tokenizer.context.unknown(r.context_overrides)
    ):
        logging.warning("%s.", problem)
    for request, found in zip(requests, engine.recommend(requests, item_filter), strict=True):
        reasons = explainer.explain(request, found.items) if explain and output_format == "json" else None
        understood, shortage = engine.understand(request), engine.shortage(request, found, item_filter)
        printing.show(output.render(request, found, engine.catalogue, output_format, reasons, understood, shortage))
        if explain and output_format != "json":
            if generator and len(request.history):
                taste = generator.generate(tasks.TASTE, [request.history])[0]
                printing.show(f"  the taste in the model's words: {printing.one_line(taste)}")
            printing.show(explainer.as_text(request, found.items) + "\n")


def engine_of(loaded: LoadedGenerator, options: Options, requests: int) -> Engine:
    """Returns an engine whose lists are, bit by bit, those of a bundle of the model."""
    searcher = EncodedSearcher.of_model(loaded, requests, max(options.beams, options.top), options.top)
    return Engine(loaded, options, requests, searcher=searcher)


def chat(
    loaded: LoadedGenerator,
    requests: Sequence[Request],
    options: Options,
    item_filter: Filter,
    path: epath.PathLike | None,
) -> None:
    """Runs a conversation for the only request at the terminal.

    Saves the profile at `path`, unless it is None, after each change of it and at the end.
    """
    if len(requests) != 1:
        raise DataError(f"--interactive is for one user, got {len(requests)}: give --users=1 or --user=ID")
    printing.replace_undecodable_input()
    with contextlib.suppress(ImportError):  # not on Windows
        importlib.import_module("readline")  # gives `input` line editing, and the lines before

    def save(profile: Profile) -> None:
        if path is not None:
            profile.save(path)

    save(Conversation(engine_of(loaded, options, 1), requests[0], input, printing.show, item_filter, save).run())


def edit_profile(
    workdir: epath.PathLike,
    path: epath.PathLike,
    user: str,
    add: Sequence[str],
    remove: Sequence[str],
    columns: Sequence[str],
    without_learned: bool = False,
) -> str:
    """Edits the profile file at `path` and returns it as text; if missing, makes it from the test history of `user`.

    `add` are as `Entry.parse` reads them, `remove` are COLUMN=VALUE; a new profile is about those of `columns` that the
    catalogue has; `without_learned` removes what was learned. The file is written only if all edits are valid. Raises
    ProfileError for an invalid edit, DataError for an unknown user.
    """
    path, dataset = epath.Path(path), Dataset(epath.Path(workdir) / "dataset")
    catalogue = dataset.catalogue
    if path.exists():
        profile = Profile.load(path)
        _check_user(path, profile, user)
    elif user:
        history = find_users(dataset.split("test"), [user])[0].history
        there = [column for column in columns if column in catalogue.table.column_names]
        profile = profiles.from_history(user, history, catalogue, there, datetime.date.today().isoformat())
    else:
        raise ProfileError(f"{path}: no profile here. Give --user=ID to make one.")
    if without_learned:
        profile = profile.without_learned()
    for about in remove:
        profile = profile.without(about)
    for text in add:
        profile = profile.with_text(text)
    profile.holding(datetime.date.today()).checked(catalogue)
    profile.save(path)
    return profile.as_text(catalogue)


def export_profile(path: epath.PathLike, to: epath.PathLike) -> str:
    """Writes all that the profile file at `path` holds to a new file, which is a profile too; returns a message.

    Raises ProfileError if there is a file already.
    """
    profile = Profile.load(path)
    if epath.Path(to).exists():
        raise ProfileError(f"{to}: there is a file already. Choose another path, or delete it first.")
    profile.save(to)
    entries = printing.counted(len(profile.entries), "entry")
    return f"{to}: a copy of the profile of {printing.one_line(profile.user)}, {entries}"


def delete_profile(path: epath.PathLike, user: str = "") -> str:
    """Deletes a profile file, readable or not, and returns a message.

    Raises ProfileError if there is none, or if it is not that of `user`, unless empty.
    """
    path = epath.Path(path)
    if user:
        _check_user(path, Profile.load(path), user)
    try:
        path.unlink()
    except FileNotFoundError:
        raise ProfileError(f"{path}: no profile here.") from None
    except OSError as problem:
        raise ProfileError(f"{path}: cannot be deleted ({problem.strerror}).") from problem
    return f"{path}: deleted"


def _check_user(path: epath.Path, profile: Profile, user: str) -> None:
    if user not in ("", profile.user):
        raise ProfileError(f"{path}: is the profile of {shown(profile.user)}, not of {shown(user)}")

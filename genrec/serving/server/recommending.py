"""Endpoints of lists, scores and explanations."""

import asyncio
import datetime
import functools
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from genrec.data.filters import EVERYTHING, Filter
from genrec.errors import shown
from genrec.ranking.lists import GENERATOR
from genrec.serving.profiles import NO_PROFILE, Profile
from genrec.serving.requests import Request, catalogue_rows, with_allow_deny
from genrec.serving.served_engine import Options, PreparedQuery, Query
from genrec.serving.server.batching import Found, SupersededError
from genrec.serving.server.endpoint import Answer, Call, answer
from genrec.serving.server.problems import ProblemError, problem_of
from genrec.serving.server.service import Answering, Service
from genrec.serving.store.store import Known

T = TypeVar("T")
RANKER = "ranker"  # a model that scores items, as the generator
TOP = 10  # items of a list, by default
EXPLAINING = 10.0  # seconds that explanations have beside the deadline: they score without each input
SECOND = 1_000_000  # microseconds
OPTIONS = frozenset(("top", "exclude_history", "guidance", "temperature", "top_p", "seed", "max_share", "share_of"))
WHOLE = frozenset(("top", "seed"))  # whole numbers, which JSON may write as 10.0
# Fields that the generator alone reads.
CONDITIONING = ("prompt", "rules", "context", "guidance", "temperature", "top_p", "seed", "max_share", "share_of")


@functools.lru_cache(maxsize=4096)
def _options(given: tuple[tuple[str, Any], ...]) -> Options:
    return Options(**dict(given))


@functools.lru_cache(maxsize=4096)
def _conditions(texts: tuple[str, ...]) -> Filter:
    return Filter.parse(texts)


@functools.lru_cache(maxsize=1024)
def _profile(text: str) -> Profile:
    return Profile.from_json(text)


def profile_text(user: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the JSON of a profile with entries, of today where they name no date."""
    today = datetime.date.today().isoformat()
    return json.dumps({"user": user, "entries": [{"since": today, **entry} for entry in entries]})


def request_of(answering: Answering, fields: Mapping[str, Any], known: Known | None) -> Request:
    """Returns the request of the fields of api.REQUEST, with what is known of its user.

    Raises GenrecError for unknown items and malformed profiles, ProblemError for a user of whom nothing is known.
    """
    user, ids, catalogue = fields.get("user"), fields.get("history"), answering.engine.catalogue
    history, ages, profile = np.zeros(0, np.int32), None, NO_PROFILE
    if "profile" in fields:
        profile = _profile(profile_text(user or "", fields["profile"]["entries"]))
    elif known is not None and known.profile is not None:
        profile = _profile(known.profile.text)
    if ids is not None:
        history = catalogue_rows(catalogue, ids)
    elif known is not None:
        if not known.events and known.profile is None and "profile" not in fields:
            raise ProblemError(
                404,
                f"there are no events and no profile of the user {shown(user)}. Send events to /v1/events, or give a "
                "history, which may be empty.",
            )
        there = [(catalogue.index[one.item_id], one.time) for one in known.events if one.item_id in catalogue.index]
        now = time.time_ns() // 1000
        history = np.array([row for row, _ in there], np.int32)
        ages = np.array([max(0, now - moment) // SECOND for _, moment in there], np.int64)
    rules = fields.get("rules", "on")
    return Request(
        "given items" if user is None else user,
        history,
        ages=ages,
        context_overrides={name: _text(value) for name, value in fields.get("context", {}).items()},
        prompt=fields.get("prompt", ""),
        profile=profile,
        rules=rules != "off",
        parts_off=frozenset(map(int, re.findall(r"\d+", rules))),
    )


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def filter_of(answering: Answering, fields: Mapping[str, Any]) -> Filter:
    """Returns the filter of the fields of api.REQUEST; raises GenrecError for unknown items and malformed ones."""
    found = _conditions(tuple(fields["filters"])) if fields.get("filters") else EVERYTHING
    if "allow" not in fields and not fields.get("deny"):
        return found
    return with_allow_deny(found, answering.engine.catalogue, fields.get("allow"), fields.get("deny", ()))


def prepare(answering: Answering, fields: Mapping[str, Any], known: Known | None) -> PreparedQuery:
    """Returns the query of the fields of api.REQUEST; raises GenrecError where that cannot be answered."""
    source = _source(answering, fields)
    request = request_of(answering, fields, known)
    given = {"top": min(TOP, answering.engine.card.beams)} | {name: fields[name] for name in OPTIONS & fields.keys()}
    given |= {name: int(given[name]) for name in WHOLE & given.keys()}
    options = _options(tuple(sorted(given.items())))
    return answering.engine.prepare(Query(request, options, filter_of(answering, fields), source))


def _source(answering: Answering, fields: Mapping[str, Any]) -> str:
    """Returns the source of a list; raises ProblemError if the bundle does not have it, or if it reads too little."""
    source: str = fields.get("source", GENERATOR)
    if source == GENERATOR:
        return source
    if source not in (known := answering.engine.sources):
        raise ProblemError(422, f"this bundle has no source {source}; it has {', '.join(known)}")
    if unread := [name for name in CONDITIONING if fields.get(name)]:
        raise ProblemError(422, f"{source} reads no {unread[0]}: leave it out, or leave out source")
    return source


async def _known(service: Service, fields: Mapping[str, Any]) -> Known | None:
    """Returns what the store has of the user of a request; None if that is not needed."""
    if "user" not in fields or fields.keys() >= {"history", "profile"}:
        return None
    return await service.reader.known(fields["user"], 0 if "history" in fields else service.settings.history_events)


async def _prepared(service: Service, answering: Answering, fields: Mapping[str, Any]) -> PreparedQuery:
    """Prepares a query; in another thread if it has words, entries or lists, which take longer to understand."""
    known = await _known(service, fields)
    if fields.keys() & {"prompt", "profile", "allow", "deny"} or (known is not None and known.profile is not None):
        return await service.in_thread(prepare, answering, fields, known)
    return prepare(answering, fields, known)


def _deadline(service: Service, fields: Mapping[str, Any], start: float) -> float:
    return start + fields.get("deadline_ms", service.settings.deadline_ms) / 1000


async def _again_if_superseded(run: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await run()
        except SupersededError:  # another bundle answers from now on
            await asyncio.sleep(0)


async def _list(service: Service, fields: Mapping[str, Any], start: float) -> str:
    """Returns the JSON of the answer to one request."""

    async def search() -> str:
        answering, deadline = service.answering, _deadline(service, fields, start)
        answering.batcher.admit(deadline)  # before any work: many are refused when there is too much of it
        prepared = await _prepared(service, answering, fields)
        found = await answering.batcher.search(prepared, deadline)
        return _rendered(answering, prepared.query.request, fields, found)

    return await _again_if_superseded(search)


def _rendered(answering: Answering, request: Request, fields: Mapping[str, Any], found: Found) -> str:
    listing, (ranked, shortage) = answering.listing, found
    parts = [
        f'"user": {json.dumps(fields.get("user"))}, "source": {json.dumps(fields.get("source", GENERATOR))}',
        f'"recommended": {listing.ranked(ranked)}',
        f'"certified": {ranked.certified}, "history_items": {len(request.history)}',
    ]
    if request.prompt:
        parts.append(f'"understood": {json.dumps(answering.engine.understand(request).as_json())}')
    if shortage is not None:
        without = {str(number): items for number, items in shortage.without.items()}
        loosened = "[]" if shortage.found is None else listing.ranked(shortage.found)
        parts.append(
            f'"shortage": {{"eligible": {shortage.eligible}, "without": {json.dumps(without)}, '
            f'"loosened": {json.dumps(list(shortage.loosened))}, "recommended": {loosened}}}'
        )
    return f"{{{', '.join(parts)}}}"


async def recommend(call: Call) -> Answer:
    """Answers /v1/recommend."""
    start, service, requests = time.monotonic(), call.service, call.body["requests"]
    if len(requests) == 1:
        results: Sequence[str | BaseException] = [await _list(service, requests[0], start)]
    else:
        lists = (_list(service, fields, start) for fields in requests)
        results = await asyncio.gather(*lists, return_exceptions=True)
    problems = [_problem(one) for one in results if isinstance(one, BaseException)]
    if len(problems) == len(requests):
        raise problems[0]
    texts = [
        f'{{"problem": {json.dumps(_problem(one).fields(call.request_id))}}}' if isinstance(one, BaseException) else one
        for one in results
    ]
    body = f'{{"bundle": {service.answering.json}, "results": [{", ".join(texts)}]}}'
    return Answer(body.encode())


def _problem(error: BaseException) -> ProblemError:
    """Returns the problem of one of several requests; raises errors that are the server's."""
    if isinstance(error, Exception) and (found := problem_of(error)) is not None:
        return found
    raise error


async def score(call: Call) -> Answer:
    """Answers /v1/score."""

    def compute(answering: Answering, request: Request, rows: np.ndarray) -> tuple[str, np.ndarray]:
        model, engine = _scorer(answering, call.body), answering.engine
        return model, (engine.rank if model == RANKER else engine.score)(request, rows.tolist())

    answering, _, (model, scores) = await _of_items(call, "score", compute)
    listed = sorted(zip(call.body["items"], scores.tolist(), strict=True), key=lambda one: -one[1])
    scored = [{"item_id": item_id, "score": round(value, 5)} for item_id, value in listed]
    return answer({"bundle": answering.fields, "model": model, "scores": scored})


def _scorer(answering: Answering, fields: Mapping[str, Any]) -> str:
    """Returns the model that scores items: RANKER or GENERATOR; raises ProblemError if it cannot."""
    model = fields.get("model", RANKER if answering.engine.has_ranker else GENERATOR)
    if model == GENERATOR:
        return model
    if not answering.engine.has_ranker:
        raise ProblemError(
            422,
            "this bundle has no ranker: leave model out, or run launch/train_sasrec.py and export it again.",
        )
    if unread := [name for name in ("prompt", "context", "profile") if fields.get(name)]:
        raise ProblemError(
            422, f'the ranker reads no {unread[0]}: leave it out, or give "model": "generator", which reads it.'
        )
    return model


async def explain(call: Call) -> Answer:
    """Answers /v1/explain."""

    def compute(answering: Answering, request: Request, rows: np.ndarray) -> list[dict[str, object]]:
        return [
            {
                "because": [reason.words for reason in one.stated],
                "reasons": [[reason.name, round(reason.change, 5)] for reason in one.reasons],
                "sum_of_changes": round(one.total, 5),
                "joint_change": round(one.joint, 5),
                "in_words": one.in_words(),
            }
            for one in answering.engine.explain(request, rows.tolist())
        ]

    answering, rows, found = await _of_items(call, "explain", compute)
    catalogue = answering.engine.catalogue
    named = [{"item_id": catalogue.item_ids[row], "title": catalogue.titles[row]} for row in rows.tolist()]
    explanations = [{**name, **one} for name, one in zip(named, found, strict=True)]
    return answer({"bundle": answering.fields, "explanations": explanations})


def _rows(answering: Answering, item_ids: Sequence[str]) -> np.ndarray:
    """Returns the catalogue rows int[n] of items; raises GenrecError for an unknown one, ProblemError for a removed."""
    engine = answering.engine
    rows = catalogue_rows(engine.catalogue, item_ids)
    if removed := engine.removed.intersection(rows.tolist()):
        item_id = next(one for one, row in zip(item_ids, rows.tolist(), strict=True) if row in removed)
        raise ProblemError(422, f"items: {shown(item_id)} was removed from the catalogue. Leave it out.")
    return rows


async def _of_items(
    call: Call, name: str, compute: Callable[[Answering, Request, np.ndarray], T]
) -> tuple[Answering, np.ndarray, T]:
    """Returns what is computed for a request and items, on the device."""
    start, service, fields = time.monotonic(), call.service, call.body

    async def run() -> tuple[Answering, np.ndarray, T]:
        known, answering = await _known(service, fields), service.answering
        request = await service.in_thread(request_of, answering, fields, known)
        rows = _rows(answering, fields["items"])
        work = functools.partial(compute, answering, request, rows)
        deadline = _deadline(service, fields, start + (EXPLAINING if name == "explain" else 0))
        found = await answering.batcher.call(name, work, deadline)
        return answering, rows, found

    return await _again_if_superseded(run)

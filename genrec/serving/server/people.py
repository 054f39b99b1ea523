"""Endpoints of users: events, profiles, and all that is known of one."""

import datetime
import re

from genrec.errors import shown
from genrec.serving.profiles import Profile
from genrec.serving.requests import catalogue_rows
from genrec.serving.server.endpoint import Answer, Call, answer
from genrec.serving.server.problems import ProblemError
from genrec.serving.server.recommending import profile_text
from genrec.serving.server.service import Answering
from genrec.serving.store.errors import ConflictError
from genrec.serving.store.store import Event

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND, DAY = datetime.timedelta(microseconds=1), datetime.timedelta(days=1)


async def append(call: Call) -> Answer:
    """Answers POST /v1/events."""
    body, now = call.body, datetime.datetime.now(datetime.UTC)
    catalogue_rows(call.service.answering.engine.catalogue, [one["item_id"] for one in body["events"]])
    events = [Event(one["item_id"], _microseconds(one.get("time"), now)) for one in body["events"]]
    count = await call.service.in_thread(call.service.store.append, body["user"], events, body.get("key"))
    return answer({"user": body["user"], "events": count})


def _microseconds(text: str | None, now: datetime.datetime) -> int:
    """Returns the time of an event, in microseconds since 1970; raises ProblemError if it is none, or in the future."""
    time = now
    if text is not None:
        try:
            time = datetime.datetime.fromisoformat(text)
            time = time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            raise ProblemError(422, f"{shown(text)} is no time: write it like 2024-01-31T12:00:00Z") from None
        if time > now + DAY:
            raise ProblemError(422, f"the time {shown(text)} is in the future")
    return (time - EPOCH) // MICROSECOND


async def events(call: Call) -> Answer:
    """Answers GET /v1/users/{user}/events."""
    service, user = call.service, call.path["user"]
    found = await service.in_thread(service.store.events, user, call.query["last"])
    if not found:
        raise ProblemError(404, f"there are no events of the user {shown(user)}")
    catalogue = service.answering.engine.catalogue
    listed = [{"item_id": one.item_id, "time": (EPOCH + one.time * MICROSECOND).isoformat()} for one in found]
    for one in listed:
        if (row := catalogue.index.get(one["item_id"])) is not None:
            one["title"] = catalogue.titles[row]
    return answer({"user": user, "events": listed})


async def users(call: Call) -> Answer:
    """Answers GET /v1/users."""
    service = call.service
    if not service.settings.user_list:
        raise ProblemError(404, "this server does not list its users")
    found = await service.in_thread(service.store.users, call.query["limit"])
    return answer({"users": [{"user": user, "events": count} for user, count in found]})


async def delete_user(call: Call) -> Answer:
    """Answers DELETE /v1/users/{user}."""
    deleted = await call.service.in_thread(call.service.store.delete_user, call.path["user"])
    return answer({"events": deleted.events, "profile": deleted.profile})


def _described(answering: Answering, text: str, version: int) -> Answer:
    """Returns the answer with a profile, of its JSON."""
    profile = Profile.from_json(text)
    fields = {
        "user": profile.user,
        "version": version,
        "entries": [entry.as_json() for entry in profile.entries],
        "text": profile.as_text(answering.engine.catalogue).splitlines()[1:],
    }
    return answer(fields, ETag=f'"{version}"')


async def profile(call: Call) -> Answer:
    """Answers GET /v1/profiles/{user}."""
    service, user = call.service, call.path["user"]

    def read() -> Answer:
        if (found := service.store.profile(user)) is None:
            raise ProblemError(404, f"there is no profile of the user {shown(user)}")
        return _described(service.answering, found.text, found.version)

    return await service.in_thread(read)


async def put_profile(call: Call) -> Answer:
    """Answers PUT /v1/profiles/{user}."""
    service, user, expected = call.service, call.path["user"], _expected(call)
    if call.body.get("user", user) != user:
        raise ProblemError(422, f"the profile is of the user {shown(call.body['user'])}, not of {shown(user)}")

    def write() -> Answer:
        text = _checked(Profile.from_json(profile_text(user, call.body["entries"])), service.answering)
        try:
            version = service.store.put_profile(user, text, expected)
        except ConflictError as error:
            raise ProblemError(412, str(error)) from None
        return _described(service.answering, text, version)

    return await service.in_thread(write)


async def patch_profile(call: Call) -> Answer:
    """Answers PATCH /v1/profiles/{user}."""
    service, user, written = call.service, call.path["user"], list[str]()

    def change(text: str | None) -> str:
        changed = Profile(user) if text is None else Profile.from_json(text)
        for about in call.body.get("remove", ()):
            changed = changed.without(about)
        for one in call.body.get("add", ()):
            if isinstance(one, str):
                changed = changed.with_text(one)
            else:
                changed = changed.with_entries(*Profile.from_json(profile_text(user, [one])).entries)
        written.append(_checked(changed, service.answering))
        return written[-1]

    def write() -> Answer:
        version = service.store.update_profile(user, change)
        return _described(service.answering, written[-1], version)

    return await service.in_thread(write)


async def delete_profile(call: Call) -> Answer:
    """Answers DELETE /v1/profiles/{user}."""
    user = call.path["user"]
    if not await call.service.in_thread(call.service.store.delete_profile, user):
        raise ProblemError(404, f"there is no profile of the user {shown(user)}")
    return Answer(status=204)


def _checked(profile: Profile, answering: Answering) -> str:
    """Returns the JSON of a profile; raises ProfileError for entries that hold and that no item matches."""
    profile.holding(datetime.date.today()).checked(answering.engine.catalogue)
    return profile.as_json()


def _expected(call: Call) -> int | None:
    """Returns the version that the profile must have, by If-Match; 0 for none, by If-None-Match: *."""
    if call.headers.get(b"if-none-match", b"").strip() == b"*":
        return 0
    given = call.headers.get(b"if-match", b"*").decode("latin-1").strip()
    if given == "*":
        return None
    if (found := re.fullmatch(r'"(\d{1,18})"', given)) is None:
        raise ProblemError(412, f"If-Match: {shown(given)} is no ETag of a profile")
    return int(found[1]) or -1

"""Schemas of the bodies of requests and answers (JSON Schema 2020-12); what a client sends is checked against them.

The OpenAPI document (`genrec.serving.server.openapi`) has the same objects, so that it cannot differ from the code.
"""

from typing import Any

from genrec.ranking.lists import GENERATOR
from genrec.serving.bundle import SOURCES

Schema = dict[str, Any]

MOST_REQUESTS = 64  # of a call of /v1/recommend
MOST_ITEMS = 1000  # of a list that is asked for or sent
MOST_EXPLAINED = 50
LONGEST_TEXT = 10_000  # characters
LONGEST_PROMPT = 2000  # to understand a longer one would keep all others waiting


def _text(description: str = "", longest: int = LONGEST_TEXT, shortest: int = 0, **more: Any) -> Schema:
    found = {"type": "string", "minLength": shortest, "maxLength": longest, **more}
    return {**found, "description": description} if description else found


def _number(description: str, kind: str = "number", **limits: Any) -> Schema:
    return {"type": kind, "description": description, **limits}


def _list(of: Schema, most: int = MOST_ITEMS, least: int = 0, description: str = "") -> Schema:
    found: Schema = {"type": "array", "items": of, "minItems": least, "maxItems": most}
    return {**found, "description": description} if description else found


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def ref(name: str) -> Schema:
    """Returns a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


ID = _text(longest=1000, shortest=1)
USER = _text("A user; their stored events are the history, and their stored profile applies.", 1000, 1)
CELL: Schema = {"description": "A cell of the catalogue."}
DEADLINE = _number("Time to answer in, in milliseconds.", "integer", minimum=1, maximum=600_000)
CONTEXT: Schema = {
    "type": "object",
    "maxProperties": 100,
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "Values of features of the request or the user, by name, such as country.",
}
ENTRY = _object(
    ("kind", "about"),
    kind={"enum": ["likes", "dislikes", "more_of", "less_of", "blocked"]},
    about=_text("COLUMN=VALUE, or item=ITEM_ID.", shortest=1),
    since=_text("A date, ISO 8601; today by default.", 10),
    until={"type": ["string", "null"], "maxLength": 10, "description": "The last date on which it holds."},
    strength=_number("Scales its effect.", exclusiveMinimum=0, maximum=100),
    source={"enum": ["said", "learned"]},
)
PROFILE = _object(("entries",), user=_text(longest=1000), entries=_list(ref("Entry")))
_REQUEST = {
    "user": USER,
    "history": _list(ID, 2000, description="Item ids, oldest first, in place of the stored events."),
    "prompt": _text("What the user asks for, in words.", LONGEST_PROMPT),
    "rules": _text(
        "Rules of the prompt: on, off, or off:1,3 without some parts.",
        100,
        pattern=r"^(on|off(:[0-9]{1,4}(,[0-9]{1,4})*)?)$",
    ),
    "context": CONTEXT,
    "filters": _list(_text(shortest=1), 100, description="Conditions such as media_type=podcast."),
    "allow": _list(ID, 10_000, description="The only items that may be returned."),
    "deny": _list(ID, 10_000, description="Items that may not be returned."),
    "exclude_history": {"type": "boolean", "description": "Whether items of the history may not be returned."},
    "top": _number("Number of items.", "integer", minimum=1, maximum=MOST_ITEMS),
    "guidance": _number(
        "Guidance strength of the prompt: 0 ignores it, 1 is plain conditioning.", minimum=0, maximum=100
    ),
    "temperature": _number("Sampling temperature; 0 returns the most likely items.", minimum=0, maximum=100),
    "top_p": _number("Nucleus sampling; needs a temperature.", exclusiveMinimum=0, maximum=1),
    "seed": _number("Sampling seed.", "integer", minimum=0, maximum=2**31 - 1),
    "max_share": _number("Maximum share of the list with the same value of share_of.", exclusiveMinimum=0, maximum=1),
    "share_of": _text("Column for max_share; empty takes the code of the first level.", 1000),
    "profile": {**ref("Profile"), "description": "In place of the stored one."},
    "deadline_ms": DEADLINE,
}
SOURCE: Schema = {
    "enum": [GENERATOR, *SOURCES],
    "description": "What makes the list: the generator, or a baseline of the bundle (/version names those it has), "
    "which reads the history alone; filters, and entries of the profile that block, hold for each.",
}
ITEM = _object(("item_id", "title", "attributes"), item_id=ID, title={"type": "string"}, attributes={"type": "object"})
LISTED = _object(
    ("item_id", "title", "attributes", "score"),
    **ITEM["properties"],
    score=_number("Log-probability, after guidance; a score of its own of another source."),
)
PROBLEM = _object(
    ("type", "title", "status", "detail", "request_id"),
    type={"type": "string"},
    title={"type": "string"},
    status={"type": "integer"},
    detail={"type": "string"},
    request_id={"type": "string"},
)
BUNDLE = _object(("fingerprint", "version"), fingerprint={"type": "string"}, version={"type": "string"})
COUNT: Schema = {"type": "integer", "minimum": 0}
UNDERSTOOD: Schema = {"type": "object", "description": "What was understood of the prompt: text, english, parts."}
SHORTAGE = _object(
    ("eligible", "without", "loosened", "recommended"),
    eligible={**COUNT, "description": "Items that pass all rules of the prompt."},
    without={"type": "object", "description": "Items that pass without a rule, by its number."},
    loosened=_list(COUNT, description="Rules that are taste in the list."),
    recommended=_list(ref("Listed")),
)
RESULT = _object(
    ("user", "source", "recommended", "certified", "history_items"),
    user={"type": ["string", "null"]},
    source={"enum": [GENERATOR, *SOURCES], "description": "What made the list."},
    recommended=_list(ref("Listed")),
    certified={**COUNT, "description": "How many first items are proven to be the most likely."},
    understood=UNDERSTOOD,
    shortage=SHORTAGE,
    history_items={**COUNT, "description": "Events of the history that the catalogue has."},
)
EXPLANATION = _object(
    ("item_id", "title", "because", "reasons", "sum_of_changes", "joint_change", "in_words"),
    item_id=ID,
    title={"type": "string"},
    because=_list({"type": "string"}),
    reasons=_list(_list({"type": ["string", "number"]}, 2, 2), 100_000),
    sum_of_changes={"type": "number"},
    joint_change={"type": "number"},
    in_words={"type": "string"},
)
COLUMN = _object(
    ("name", "type", "values"),
    name={"type": "string"},
    type={"enum": ["text", "number", "boolean", "time", "list"]},
    values=_list(_object(("value", "items"), value={"type": ["string", "number", "boolean"]}, items=COUNT)),
)
EVENT = _object(("item_id",), item_id=ID, time=_text("ISO 8601; UTC where it names no zone; now by default.", 40))
STORED_EVENT = _object(("item_id", "time"), item_id=ID, time={"type": "string"}, title={"type": "string"})
STORED_PROFILE = _object(
    ("user", "version", "entries", "text"),
    user={"type": "string"},
    version={"type": "integer"},
    entries=_list(ref("Entry"), 100_000),
    text=_list({"type": "string"}, 100_000, description="A line for each entry."),
)

COMPONENTS: dict[str, Schema] = {
    "Entry": ENTRY,
    "Profile": PROFILE,
    "Request": _object((), **_REQUEST, source=SOURCE),
    "Item": ITEM,
    "Listed": LISTED,
    "Problem": PROBLEM,
    "Bundle": BUNDLE,
    "Result": RESULT,
    "Failed": _object(("problem",), problem=ref("Problem")),
}

# Bodies of requests.
RECOMMEND = _object(("requests",), requests=_list(ref("Request"), MOST_REQUESTS, 1))
SCORE = _object(
    ("items",),
    **{name: _REQUEST[name] for name in ("user", "history", "context", "prompt", "profile", "deadline_ms")},
    items=_list(ID, least=1),
    model={
        "enum": ["ranker", "generator"],
        "description": "The ranker, which reads the user and the history alone, or the generator, whose scores are "
        "log-probabilities. By default the ranker, if the bundle has one.",
    },
)
EXPLAIN = _object(("items",), **_REQUEST, items=_list(ID, MOST_EXPLAINED, 1))
PUT_ITEM = _object(
    ("fields",),
    fields={"type": "object", "maxProperties": 1000, "description": "Cells by column, texts among them."},
    vector=_list({"type": "number"}, 65_536, 1, "In place of the texts, of the width of the embeddings."),
)
PATCH_ITEM = _object(("fields",), fields={"type": "object", "minProperties": 1, "maxProperties": 1000})
EVENTS = _object(
    ("user", "events"),
    user=ID,
    events=_list(EVENT, 1000, 1),
    key=_text("Idempotency key: the same one appends once.", 1000, 1),
)
PATCH_PROFILE = _object(
    (),
    add=_list({"anyOf": [_text("Such as blocked for a week:genre=jazz.", shortest=1), ref("Entry")]}),
    remove=_list(_text("What an entry is about.", shortest=1)),
)
RELOAD = _object((), bundle=_text("Folder of the bundle; by default the one that is served.", 4096, 1))

# Bodies of answers.
RECOMMENDED = _object(
    ("bundle", "results"),
    bundle=ref("Bundle"),
    results=_list({"oneOf": [ref("Result"), ref("Failed")]}, MOST_REQUESTS),
)
SCORED = _object(
    ("bundle", "model", "scores"),
    bundle=ref("Bundle"),
    model={"enum": ["ranker", "generator"], "description": "Which model the scores are of."},
    scores=_list(_object(("item_id", "score"), item_id=ID, score={"type": "number"})),
)
EXPLAINED = _object(("bundle", "explanations"), bundle=ref("Bundle"), explanations=_list(EXPLANATION))
ITEMS = _object(("items",), items=_list(ref("Item")))
APPENDED = _object(("user", "events"), user={"type": "string"}, events=COUNT)
USER_EVENTS = _object(("user", "events"), user={"type": "string"}, events=_list(STORED_EVENT, 10_000))
DELETED = _object(("events", "profile"), events=COUNT, profile={"type": "boolean"})
COLUMNS = _object(("columns",), columns=_list(COLUMN, 100_000))
USERS = _object(("users",), users=_list(_object(("user", "events"), user={"type": "string"}, events=COUNT)))
VERSION = _object(
    ("genrec", "bundle", "prompts", "sources", "metrics"),
    genrec={"type": "string"},
    bundle=ref("Bundle"),
    prompts={"type": "boolean", "description": "Whether the model takes prompts."},
    sources=_list({"type": "string"}, description="Sources of lists that requests may name."),
    metrics={"type": "object"},
)
STATE = _object(("status",), status={"type": "string"}, store={"type": "string"})
RELOADED = _object(("bundle",), bundle=ref("Bundle"))

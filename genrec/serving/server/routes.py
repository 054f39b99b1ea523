"""The operations of the server, by path and method."""

from genrec.serving.server import api, items, operations, people, recommending
from genrec.serving.server.endpoint import Operation, Parameter

LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000}
METRICS = "text/plain; version=0.0.4; charset=utf-8"

OPERATIONS: dict[str, dict[str, Operation]] = {
    "/v1/recommend": {
        "POST": Operation(
            "Recommend items for users or histories, several in one call",
            recommending.recommend,
            {200: api.RECOMMENDED},
            (404, 503, 504),
            body=api.RECOMMEND,
            cancelable=True,
        )
    },
    "/v1/score": {
        "POST": Operation(
            "Score given items for a user or a history, by the ranker or the generator",
            recommending.score,
            {200: api.SCORED},
            (404, 503, 504),
            body=api.SCORE,
            cancelable=True,
        )
    },
    "/v1/explain": {
        "POST": Operation(
            "Explain items for a user or a history by the inputs of the model",
            recommending.explain,
            {200: api.EXPLAINED},
            (404, 503, 504),
            body=api.EXPLAIN,
            cancelable=True,
        )
    },
    "/v1/items": {
        "GET": Operation(
            "Search items by the beginning of a word of their titles",
            items.search,
            {200: api.ITEMS},
            (503,),
            parameters=(
                Parameter("prefix", {"type": "string", "maxLength": 200}, "", "Beginning of a word, or of several."),
                Parameter("limit", LIMIT, 20, "Most items."),
            ),
        )
    },
    "/v1/items/{item_id}": {
        "GET": Operation("Get an item", items.item, {200: api.ref("Item")}, (404, 503)),
        "PUT": Operation(
            "Add or replace an item",
            items.put,
            {200: api.ref("Item"), 201: api.ref("Item")},
            (404, 503),
            body=api.PUT_ITEM,
            admin=True,
        ),
        "PATCH": Operation(
            "Change attributes of an item",
            items.patch,
            {200: api.ref("Item")},
            (404, 503),
            body=api.PATCH_ITEM,
            admin=True,
        ),
        "DELETE": Operation("Remove an item", items.remove, {204: None}, (404, 503), admin=True),
    },
    "/v1/columns": {
        "GET": Operation("List the columns that filters may name", items.columns, {200: api.COLUMNS}, (503,))
    },
    "/v1/events": {
        "POST": Operation(
            "Append events to the history of a user",
            people.append,
            {200: api.APPENDED},
            (409, 503),
            body=api.EVENTS,
        )
    },
    "/v1/users": {
        "GET": Operation(
            "List users who have events",
            people.users,
            {200: api.USERS},
            (404, 503),
            parameters=(Parameter("limit", LIMIT, 100, "Most users."),),
        )
    },
    "/v1/users/{user}/events": {
        "GET": Operation(
            "Get the last events of a user, oldest first",
            people.events,
            {200: api.USER_EVENTS},
            (404, 503),
            parameters=(Parameter("last", {**LIMIT, "maximum": 10_000}, 50, "Most events."),),
        )
    },
    "/v1/users/{user}": {
        "DELETE": Operation("Delete all that is known of a user", people.delete_user, {200: api.DELETED}, (503,))
    },
    "/v1/profiles/{user}": {
        "GET": Operation("Get the taste profile of a user", people.profile, {200: api.STORED_PROFILE}, (404, 503)),
        "PUT": Operation(
            "Write the whole taste profile of a user",
            people.put_profile,
            {200: api.STORED_PROFILE},
            (412, 503),
            body=api.PROFILE,
            headers={
                "If-Match": "ETag that the profile must have, else 412.",
                "If-None-Match": "* if there must be none, else 412.",
            },
        ),
        "PATCH": Operation(
            "Add and remove entries of a taste profile",
            people.patch_profile,
            {200: api.STORED_PROFILE},
            (503,),
            body=api.PATCH_PROFILE,
        ),
        "DELETE": Operation("Delete the taste profile of a user", people.delete_profile, {204: None}, (404, 503)),
    },
    "/v1/reload": {
        "POST": Operation(
            "Answer with another bundle, without losing a request",
            operations.reload,
            {200: api.RELOADED},
            (409, 503),
            body=api.RELOAD,
            admin=True,
        )
    },
    "/health/live": {
        "GET": Operation(
            "Tell whether the server works", operations.live, {200: api.STATE, 503: api.STATE}, is_open=True
        )
    },
    "/health/ready": {
        "GET": Operation(
            "Tell whether the server answers requests", operations.ready, {200: api.STATE, 503: api.STATE}, is_open=True
        )
    },
    "/metrics": {
        "GET": Operation(
            "Get metrics for Prometheus",
            operations.metrics,
            {200: {"type": "string"}},
            is_open=True,
            content_type=METRICS,
        )
    },
    "/version": {
        "GET": Operation("Get versions and metrics", operations.version, {200: api.VERSION}, (503,), is_open=True)
    },
}

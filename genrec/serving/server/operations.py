"""Endpoints to operate the server: health, metrics, version, another bundle."""

import genrec
from genrec.serving.server.endpoint import Answer, Call, answer
from genrec.serving.store.errors import StoreUnavailable


async def live(call: Call) -> Answer:
    """Answers /health/live: whether restarting the server would not help."""
    alive = call.service.is_alive
    return answer({"status": "live" if alive else "the device does not answer"}, 200 if alive else 503)


async def ready(call: Call) -> Answer:
    """Answers /health/ready.

    Without the store, requests with a history are still answered, and all replicas share it: the state tells of it,
    and the server stays ready.
    """
    service = call.service
    state = "ready" if service.is_ready else "draining" if service.draining else "starting"
    try:
        await service.in_thread(service.store.ping)
        store = "available"
    except StoreUnavailable:
        store = "unavailable"
    return answer({"status": state, "store": store}, 200 if service.is_ready else 503)


async def metrics(call: Call) -> Answer:
    """Answers /metrics."""
    return Answer(call.service.metrics.text())


async def version(call: Call) -> Answer:
    """Answers /version."""
    answering = call.service.answering
    engine = answering.engine
    metrics = dict(engine.card.metrics.get("metrics", {}))
    fields = {"genrec": genrec.__version__, "bundle": answering.fields, "prompts": engine.takes_prompts}
    return answer({**fields, "sources": engine.sources, "metrics": metrics})


async def reload(call: Call) -> Answer:
    """Answers POST /v1/reload."""
    answering = await call.service.reload(call.body.get("bundle", ""))
    return answer({"bundle": answering.fields})

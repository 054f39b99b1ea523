"""The OpenAPI document (3.1) of the server, made of what the endpoints check."""

import http
import re
from collections.abc import Mapping
from typing import Any

import genrec
from genrec.serving.server import api
from genrec.serving.server.endpoint import Operation
from genrec.serving.server.problems import CONTENT_TYPE

WITH_BODY = (400, 408, 413, 415, 422)  # problems of every operation with a body


def document(operations: Mapping[str, Mapping[str, Operation]]) -> dict[str, Any]:
    """Returns the document of operations by path and method."""
    paths = {
        path: {method.lower(): _operation(path, one) for method, one in methods.items()}
        for path, methods in operations.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "genrec",
            "version": genrec.__version__,
            "description": "Recommendations of generative retrieval, with prompts, filters and taste profiles.",
        },
        "paths": paths,
        "components": {
            "schemas": api.COMPONENTS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": api.ID} for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += [
        {
            "name": one.name,
            "in": "query",
            "description": one.description,
            "schema": {**one.schema, "default": one.default},
        }
        for one in operation.parameters
    ]
    parameters += [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in operation.headers.items()
    ]
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.run.__module__.rpartition('.')[2]}_{operation.run.__name__}",
        "parameters": parameters,
        "responses": _answers(path, operation),
    }
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": operation.body}}}
    if operation.is_open:
        found["security"] = []
    return found


def _answers(path: str, operation: Operation) -> dict[str, Any]:
    statuses = {*operation.problems, 400, 405, 422, *(() if operation.body is None else WITH_BODY)}
    statuses |= {404} if "{" in path else set()
    statuses |= set() if operation.is_open else {401, 403, 429}
    problem = {CONTENT_TYPE: {"schema": api.ref("Problem")}}
    found: dict[int, dict[str, Any]] = {
        status: {"description": http.HTTPStatus(status).phrase, "content": problem} for status in statuses
    }
    for status, schema in operation.answers.items():
        found[status] = {"description": http.HTTPStatus(status).phrase}
        if schema is not None:
            found[status]["content"] = {operation.content_type.partition(";")[0]: {"schema": schema}}
    return {str(status): found[status] for status in sorted(found)}

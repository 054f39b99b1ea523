import re

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi import checks
from stub_engine import serving

from genrec.serving.server import app, openapi
from genrec.serving.server.routes import OPERATIONS


def makes_no_mistake(context, response, case) -> None:
    assert response.status_code != 500  # deadlines may pass


CHECKS = [
    makes_no_mistake,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
RELOAD = "/v1/reload"  # of bundles that are folders

schema = schemathesis.openapi.from_dict(openapi.document(OPERATIONS))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(f"sqlite:///{tmp_path_factory.mktemp('openapi')}/store.sqlite", max_body=1 << 25) as found:
        yield found


@schema.exclude(path=RELOAD).parametrize()
@hypothesis.settings(max_examples=6, deadline=None, derandomize=True, database=None)
def test_the_server_does_what_the_document_says(served, case):
    case.call_and_validate(base_url=str(served.client.base_url), checks=CHECKS)


def test_the_document_has_every_operation_that_is_routed(served):
    routed = {
        (re.sub(":path}", "}", route.path), method.lower())
        for route in app.routes(served.service)
        for method in getattr(route.app, "operations", ())
    }
    described = served.client.get("/openapi.json").json()["paths"]
    assert routed - {("/openapi.json", "get")} == {(path, method) for path in described for method in described[path]}


def test_every_operation_has_a_name_of_its_own():
    names = [one["operationId"] for path in openapi.document(OPERATIONS)["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)

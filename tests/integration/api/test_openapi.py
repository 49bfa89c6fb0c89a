"""The service is held to its contract: schemathesis makes up requests from openapi.yaml, good ones and bad ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from session_ops import api
from tests.integration.conftest import prepare
from tests.integration.service_process import TOKEN, ServiceProcess
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    asyncio.run(prepare(redis_server))
    grants = [
        {"caller": caller, "scopes": scopes, "sha256": hashlib.sha256(token.encode()).hexdigest()}
        for caller, scopes, token in (("test", ["read", "write", "admin"], TOKEN), ("reader", ["read"], READER))
    ]
    directory = tmp_path_factory.mktemp("service")
    service = ServiceProcess(directory, redis_server, SESSION_TOKENS=json.dumps(grants)).start()
    yield service
    service.stop()
    service.close()


@pytest.fixture(scope="module")
def storeless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose Redis is away."""
    directory = tmp_path_factory.mktemp("storeless")
    service = ServiceProcess(directory, RedisServer(directory / "redis")).start()
    yield service
    service.stop()
    service.close()


CONFIGURATION = schemathesis.Config.from_dict(
    {
        "auth": {"openapi": {"token": {"bearer": TOKEN}}},
        # A request that fits the schema may still name no session (404), another revision (412), or a value outside the
        # limits that a schema cannot say (422: printable characters, a cursor that the service made). Never 400 or 5xx.
        # One that does not fit may have more attributes than a session can: 413, which schemathesis does not expect.
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "404", "412", "422"]},
            "negative_data_rejection": {
                "expected-statuses": [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
            },
        },
    }
)
CONFORMS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ANSWER_CHECKS = [not_a_server_error, *CONFORMS]
schema = schemathesis.openapi.from_path(Path(api.__file__).with_name("openapi.yaml"), config=CONFIGURATION)


@schema.parametrize()
@settings(
    max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
def test_every_answer_is_one_that_the_contract_names(case: schemathesis.Case[Any], service: ServiceProcess) -> None:
    case.call_and_validate(base_url=service.url, timeout=10)


live = schema.include(path_regex=r"\{session_id\}")


@live.parametrize()
@settings(
    max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
def test_every_answer_about_a_live_session_is_one_that_the_contract_names(
    case: schemathesis.Case[Any], service: ServiceProcess
) -> None:
    # Ids are drawn by the service, so that made-up ones never name a live session.
    session = service.apart.post("/v1/sessions", json={"user_id": "u", "data": {"a": 1}}).json()
    case.path_parameters["session_id"] = session["id"]
    if "If-Match" in case.headers:
        case.headers["If-Match"] = f'"{session["revision"]}"'
    answer = case.call(base_url=service.url, timeout=10)
    assert answer.status_code != 404
    case.validate_response(answer, checks=ANSWER_CHECKS)


# What made-up requests do not meet: a session's own revision and another one, a caller without the scope, a body too
# large, a store that is away
ONE, ALL, USERS = "/v1/sessions/{session_id}", "/v1/sessions", "/v1/users/{user_id}/sessions"
OTHER = '"0123456789abcdef"'
READER = "a token that may only read"


@pytest.mark.parametrize(
    ("path", "method", "given", "status"),
    [
        (ONE, "GET", {"headers": {"If-None-Match": "{etag}"}}, 304),
        (ONE, "GET", {"headers": {"If-None-Match": OTHER}}, 200),
        (ONE, "PATCH", {"headers": {"If-Match": OTHER}, "body": {"data": {"a": 2}}}, 412),
        (
            ONE,
            "PATCH",
            {"headers": {"If-Match": "{etag}", "Prefer": "return=minimal"}, "body": {"data": {"a": None}}},
            204,
        ),
        (ONE, "PUT", {"headers": {"If-Match": OTHER}, "body": {"data": {}}}, 412),
        (ONE, "PUT", {"headers": {"If-Match": "{etag}"}, "body": {"data": {}}}, 200),
        (ONE, "DELETE", {"headers": {"If-Match": OTHER}}, 412),
        (ONE, "DELETE", {"headers": {"If-Match": "{etag}"}}, 204),
        (ONE, "PATCH", {"body": {"data": {"a": "x" * 70_000}}}, 413),
        (ALL, "POST", {"body": {"user_id": "u", "data": {"a": "x" * 140_000}}}, 413),
        (ONE, "PATCH", {"token": READER, "body": {"data": {}}}, 403),
        (ONE, "DELETE", {"token": READER}, 403),
        (ALL, "POST", {"token": READER, "body": {"user_id": "u"}}, 403),
        (USERS, "DELETE", {"token": READER, "path_parameters": {"user_id": "u"}}, 403),
        (ONE, "GET", {"token": "nobody's"}, 401),
    ],
)
def test_what_is_rarely_met_is_answered_as_the_contract_says(
    service: ServiceProcess, path: str, method: str, given: dict[str, Any], status: int
) -> None:
    session = service.apart.post("/v1/sessions", json={"user_id": "u", "data": {"a": 1}}).json()
    etag = f'"{session["revision"]}"'

    known = {"path_parameters": {"session_id": session["id"]} if path == ONE else {}}
    answer = conforming(service, path, method, {**known, **given}, etag)

    assert answer.status_code == status
    if status in {304, 412}:
        assert answer.headers["etag"] == [etag], "the revision that it has now"


def conforming(service: ServiceProcess, path: str, method: str, given: dict[str, Any], etag: str = "") -> Any:
    """The answer to a request, held to the contract."""
    headers = {name: etag if value == "{etag}" else value for name, value in given.get("headers", {}).items()}
    headers["Authorization"] = f"Bearer {given.get('token', TOKEN)}"
    case = schema[path][method].Case(
        path_parameters=given.get("path_parameters", {}),
        headers=headers,
        body=given.get("body", schemathesis.core.NOT_SET),
        media_type="application/json" if "body" in given else None,
    )
    answer = case.call(base_url=service.url, timeout=10)
    case.validate_response(answer, checks=CONFORMS)
    return answer


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        (ALL, "POST", {"user_id": "u"}), (ALL, "GET", None), (ONE, "GET", None), (ONE, "PATCH", {"data": {}}),
        (ONE, "PUT", {"data": {}}), (ONE, "DELETE", None), (ONE + "/touch", "POST", None), (USERS, "DELETE", None),
        ("/v1/sessions/count", "GET", None), ("/v1/statistics", "GET", None), ("/readyz", "GET", None),
    ],
)  # fmt: skip
def test_a_store_that_is_away_is_answered_as_the_contract_says(
    storeless: ServiceProcess, path: str, method: str, body: dict[str, Any] | None
) -> None:
    names = {"user_id": "u", "session_id": "a" * 22}
    given: dict[str, Any] = {"path_parameters": {name: names[name] for name in names if f"{{{name}}}" in path}}
    if body is not None:
        given["body"] = body

    answer = conforming(storeless, path, method, given)

    assert answer.status_code == 503
    assert path == "/readyz" or int(answer.headers["retry-after"][0]) > 0

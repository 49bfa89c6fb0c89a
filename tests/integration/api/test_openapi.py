"""The service is held to its contract: schemathesis makes up requests from openapi.yaml, good ones and bad ones."""

from __future__ import annotations

import asyncio
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import RedisServer


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    asyncio.run(prepare(redis_server))
    service = ServiceProcess(tmp_path_factory.mktemp("service"), redis_server).start()
    yield service
    service.stop()
    service.close()


CONFIGURATION = schemathesis.Config.from_dict(
    {
        "auth": {"openapi": {"token": {"bearer": TOKEN}}},
        # A request that fits the schema may still name no session (404), another revision (412), or a value outside the
        # limits that a schema cannot say (422: printable characters, a cursor that the service made). Never 400 or 5xx.
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "304", "404", "412", "422"]}},
    }
)
ANSWER_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
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

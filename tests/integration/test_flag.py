"""With the flag on, off, or half way, and when it flips in the middle, the API answers the same."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import prepare
from tests.integration.service_process import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from tests.servers import RedisServer

ON, OFF = "USE_REDIS_SESSIONS=true\nSESSION_REDIS_PERCENT=100\n", "USE_REDIS_SESSIONS=false\n"
HALF = "USE_REDIS_SESSIONS=true\nSESSION_REDIS_PERCENT=50\n"
HEADERS = ("content-type", "etag", "location", "allow", "retry-after", "www-authenticate", "preference-applied")
DRAWN = re.compile(r"\b1\d{12}\b|(?<![\w-])(?:[A-Za-z0-9_-]{22}|[0-9a-f]{16}|[0-9a-f]{12}-[0-9a-f]+)(?![\w-])")


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A caller's day: method, path and arguments; {id} and {etag} are the last ones answered."""
    yield "POST", "/v1/sessions", {"json": {"user_id": "ann", "agent_id": "bot", "data": {"a": 1, "b": [None]}}}
    yield "GET", "/v1/sessions/{id}", {}
    yield "GET", "/v1/sessions/{id}", {"headers": {"if-none-match": "{etag}"}}
    yield "PATCH", "/v1/sessions/{id}", {"json": {"data": {"a": None, "c": "x"}}, "headers": {"if-match": "{etag}"}}
    yield "PATCH", "/v1/sessions/{id}", {"json": {"data": {}}, "headers": {"if-match": '"0000000000000000"'}}
    yield "PATCH", "/v1/sessions/{id}", {"json": {"data": {"d": 1}}, "headers": {"prefer": "return=minimal"}}
    yield "PUT", "/v1/sessions/{id}", {"json": {"data": {"only": True}}, "headers": {"if-match": "{etag}"}}
    yield "POST", "/v1/sessions/{id}/touch", {}
    yield "POST", "/v1/sessions", {"json": {"user_id": "ann", "ttl": 60}}
    yield "GET", "/v1/sessions?user_id=ann&limit=1", {}
    yield "GET", "/v1/sessions/count", {}
    yield "DELETE", "/v1/sessions/{id}", {"headers": {"if-match": '"0000000000000000"'}}
    yield "DELETE", "/v1/sessions/{id}", {}
    yield "DELETE", "/v1/sessions/{id}", {}
    yield "GET", "/v1/sessions/{id}", {}
    yield "PATCH", "/v1/sessions/{id}", {"json": {"data": {"a": 1}}}
    yield "POST", "/v1/sessions", {"json": {"user_id": "ann", "data": {"a": "x" * 70_000}}}
    yield "POST", "/v1/sessions", {"json": {"user_id": ""}}
    yield "GET", "/v1/sessions?user=ann", {}
    yield "GET", "/v1/sessions/..%2f", {}
    yield "DELETE", "/v1/users/ann/sessions", {}
    yield "GET", "/v1/statistics", {}


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    file = tmp_path / "flag"
    file.write_text(ON)
    return file


@pytest.fixture
def service(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, flag: Path
) -> Callable[[list[str]], list[str]]:
    """Holds a conversation with a service on an empty store; the flag is set before each request to the next value."""
    running = make_service(ready_redis, SESSION_FLAG_FILE=str(flag)).start()

    def set_flag(value: str) -> None:
        if flag.read_text() != value:
            flag.write_text(value)
            running.signal(signal.SIGHUP)
            assert [running.notified(), running.notified()] == ["RELOADING=1", "READY=1"]

    def talk(flags: list[str]) -> list[str]:
        asyncio.run(prepare(ready_redis))
        last = {"id": "", "etag": ""}
        said: list[str] = []
        for number, (method, path, arguments) in enumerate(requests()):
            set_flag(flags[number % len(flags)])
            headers = {name: value.format(**last) for name, value in arguments.get("headers", {}).items()}
            answer = running.apart.request(method, path.format(**last), json=arguments.get("json"), headers=headers)
            if answer.status_code == 201:
                last["id"] = answer.json()["id"]
            last["etag"] = answer.headers.get("etag", last["etag"])
            said.append(shown(method, path, answer))
        return said

    return talk


def shown(method: str, path: str, answer: httpx.Response) -> str:
    """The answer without what is drawn anew each time."""
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    body = re.sub(r'"cursor":"[^"]+"', '"cursor":"*"', answer.text)
    return DRAWN.sub("*", f"{method} {path}: {answer.status_code} {headers} {body}")


def test_the_flag_changes_no_answer(service: Callable[[list[str]], list[str]]) -> None:
    on = service([ON])

    statuses = {line.split(": ")[1].split()[0] for line in on}
    assert statuses == {"200", "201", "204", "304", "400", "404", "412", "413", "422"}
    for flags in ([OFF], [HALF], [ON, OFF]):
        assert service(flags) == on

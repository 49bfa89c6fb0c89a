"""The readiness gate: waits for the service, says why it is not ready, and forgets what is no longer needed."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.session_releases import Releases
from ansible.module_utils.session_transaction import Transaction
from ansible.module_utils.session_units import ask_ready, wait_ready

from tests.unit.roles.session_service.module_run import load, run_module

READY = {"ready": True, "reasons": [], "stores": {"redis": {"state": "up"}}}
DOWN = {"ready": False, "reasons": ["redis: unreachable"], "stores": {"redis": {"state": "down"}}}


class Service:
    """A service whose `/readyz` gives the answers of a list, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Any] = [READY]
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200 if isinstance(answer, dict) and answer["ready"] else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "environment").write_text("SESSION_GENERATION_PREFIX=1-abc\n")
    return {"root": tmp_path / "root", "configuration": tmp_path / "etc"}


def test_it_waits_until_the_service_is_ready(service: Service) -> None:
    service.answers = [DOWN, DOWN, READY]
    assert wait_ready(service.url, 10)["ready"]


def test_refused_credentials_end_the_wait_early(service: Service) -> None:
    service.answers = [b'{"ready": false, "stores": {"redis": {"state": "down", "reason": "wrong password"}}}']
    began = time.monotonic()
    answer = wait_ready(service.url, 30)
    assert not answer["ready"]
    assert time.monotonic() - began < 5


def test_an_answer_that_is_no_json_is_not_ready(service: Service) -> None:
    service.answers = [b"<html>"]
    assert "no JSON" in ask_ready(service.url, 2)["error"]


def test_it_gives_up_with_reasons_journal_and_next_step(
    service: Service, places: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers = [DOWN]
    module = load("session_readiness")
    monkeypatch.setattr(module, "journal", lambda: "the last line of the journal")
    Transaction(places["configuration"] / ".before").save([], [])
    result = run_module(module, capsys, url=service.url, timeout=0, **places)
    assert result["failed"]
    for part in ("redis: unreachable", "the last line of the journal", "next step"):
        assert part in result["msg"]
    assert Transaction(places["configuration"] / ".before").open


def test_a_ready_service_has_proved_its_release_and_generation(
    service: Service, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    releases = Releases(places["root"])
    (releases.path("half-installed")).mkdir(parents=True)
    Transaction(places["configuration"] / ".before").save([], [])
    module = load("session_readiness")
    foreseen = run_module(module, capsys, check=True, url=service.url, **places)
    assert (foreseen["changed"], foreseen["removed"]) == (True, ["half-installed"])
    assert releases.path("half-installed").exists()
    assert run_module(module, capsys, url=service.url, **places)["changed"]
    assert not releases.path("half-installed").exists()
    assert not Transaction(places["configuration"] / ".before").open
    assert not run_module(module, capsys, url=service.url, **places)["changed"]

    facts = run_module(load("session_host"), capsys, url=service.url, user="nobody", **places)
    assert (facts["prefix"], facts["served"], facts["release"]) == ("1-abc", "1-abc", "")


def test_a_generation_is_served_only_when_redis_answered(
    service: Service, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = [{"ready": True, "stores": {"redis": {"state": "down"}}}]
    result = run_module(load("session_readiness"), capsys, url=service.url, timeout=0, **places)
    assert not result["changed"]
    assert run_module(load("session_host"), capsys, url=service.url, user="nobody", **places)["served"] == ""


UNPREPARED = {"ready": False, "reasons": ["legacy: not prepared"], "stores": {"legacy": {"reason": "schema missing"}}}


def test_a_table_that_is_not_prepared_ends_the_wait_early_with_the_command(
    service: Service, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = [UNPREPARED]
    began = time.monotonic()
    result = run_module(load("session_readiness"), capsys, url=service.url, timeout=30, **places)
    assert time.monotonic() - began < 10
    assert result["failed"]
    assert "run `session-ops migrate prepare`" in result["msg"]
    assert "journal" not in result["msg"], "the service is well, there is nothing to look for"


def test_beside_a_legacy_store_a_host_says_which_generation_it_is_ready_with(
    service: Service, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    release = places["root"] / "releases" / "a"
    release.mkdir(parents=True)
    (places["root"] / "current").symlink_to("releases/a")
    module = load("session_host")
    both = {"redis": {"state": "up"}, "legacy": {"state": "up", "generation": 3}}
    for ready, generation in ((True, 3), (False, 0)):
        service.answers = [{"ready": ready, "reasons": [], "stores": both}]
        facts = run_module(module, capsys, url=service.url, user="nobody", **places)
        assert (facts["ready"], facts["generation"]) == (ready, generation)
    service.answers = [READY]
    assert run_module(module, capsys, url=service.url, user="nobody", **places)["generation"] == 0


def test_a_host_that_is_ready_without_the_fleets_redis_is_waited_for(
    service: Service, places: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def beside(redis: str, state: str) -> dict[str, Any]:
        legacy = {"state": "up", "generation": 1, "redis": redis}
        return {"ready": True, "reasons": ["redis: x"], "stores": {"redis": {"state": state}, "legacy": legacy}}

    module = load("session_readiness")
    monkeypatch.setattr(module, "journal", lambda: "")
    service.answers = [beside("on", "down")]
    assert run_module(module, capsys, url=service.url, timeout=0, **places)["failed"]
    for good in (beside("on", "up"), beside("away", "down"), beside("off", "down")):
        service.answers = [beside("on", "down"), good]
        assert "failed" not in run_module(module, capsys, url=service.url, timeout=10, **places)

"""A session written on one service host is the same session on every other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import httpx

from tests.hosts.addresses import TIMEOUT_SECONDS, ask, base_url

if TYPE_CHECKING:
    from testinfra.host import Host

    from tests.hosts.expectations import Expectations

testinfra_hosts = ["ansible://session_service?sudo=true"]

# Long enough for the round trip, short enough that a session left behind by a broken run is soon gone.
TTL_SECONDS = 120


def test_a_session_written_here_is_read_changed_and_deleted_everywhere(
    host: Host, expected: Expectations, service_hosts: dict[str, Expectations], token: str
) -> None:
    others = {name: base_url(other) for name, other in service_hosts.items()}
    here = base_url(expected)
    word = secrets.token_hex(8)
    body = {"user_id": "host-verification", "agent_id": "verify", "data": {"word": word}, "ttl": TTL_SECONDS}
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        created = client.post(f"{here}/v1/sessions", json=body)
        assert created.status_code == 201, f"{expected['inventory_hostname']} does not create: {created.text}"
        path = f"/v1/sessions/{created.json()['id']}"
        try:
            for name, url in others.items():
                read = client.get(url + path)
                assert read.status_code == 200, f"{name} does not read it: {read.text}"
                assert read.json()["data"] == {"word": word}, f"{name} reads other data"
                changed = client.patch(url + path, json={"data": {name: word}})
                assert changed.status_code == 200, f"{name} does not change it: {changed.text}"
                seen = client.get(here + path).json()["data"]
                assert seen.get(name) == word, f"a change through {name} is not read back here"
                client.patch(here + path, json={"data": {name: None}})
        finally:
            deleted = client.delete(here + path)
        assert deleted.status_code == 204, f"{expected['inventory_hostname']} does not delete: {deleted.text}"
        left = {name: status for name, url in others.items() if (status := client.get(url + path).status_code) != 404}
        assert left == {}, f"hosts that still have a deleted session: {left}"


def test_a_caller_without_a_token_is_refused(expected: Expectations) -> None:
    answer = ask(expected, "/v1/sessions/count")
    assert answer.status_code == 401, "the service answers a caller that it does not know"

"""Where a service host answers the machine that runs the suite, and what it answers there."""

from __future__ import annotations

import httpx
import pytest

from tests.hosts.expectations import Expectations

ANY_ADDRESS = {"0.0.0.0", "::", "*"}
TIMEOUT_SECONDS = 5


def base_url(expected: Expectations) -> str:
    """The host's own URL, past any load balancer: its listen address, or the host's where it listens on all."""
    address = str(expected["session_service_listen_address"])
    if address in ANY_ADDRESS:
        address = str(expected.get("ansible_host", expected["inventory_hostname"]))
    return f"http://{f'[{address}]' if ':' in address else address}:{expected['session_service_port']}"


def ask(expected: Expectations, path: str) -> httpx.Response:
    """GET a path of the host's service without a token; no answer at all fails the test with the address."""
    url = base_url(expected) + path
    try:
        return httpx.get(url, timeout=TIMEOUT_SECONDS, trust_env=False)
    except httpx.TransportError as error:
        pytest.fail(f"{expected['inventory_hostname']} does not answer at {url}: {error}", pytrace=False)

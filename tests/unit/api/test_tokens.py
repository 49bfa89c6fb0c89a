"""Tokens and scopes: who may do what."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from session_ops.api.tokens import Tokens
from session_ops.errors import SettingsError

READS = [("GET", "/v1/sessions"), ("GET", "/v1/sessions/a"), ("GET", "/v1/sessions/count"), ("GET", "/v1/statistics")]
WRITES = [
    ("POST", "/v1/sessions"),
    ("PATCH", "/v1/sessions/a"),
    ("PUT", "/v1/sessions/a"),
    ("DELETE", "/v1/sessions/a"),
    ("POST", "/v1/sessions/a/touch"),
]
ADMINISTRATION = [("DELETE", "/v1/users/u/sessions")]
OPEN = ["/healthz", "/readyz", "/metrics", "/openapi.json"]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("method", "path"), READS + WRITES + ADMINISTRATION)
@pytest.mark.parametrize(
    "authorization", [None, "", "all", "Basic all", "Bearer", "Bearer ", "Bearer wrong", "Bearer  all"]
)
async def test_nothing_is_answered_without_a_known_token(
    client: httpx.AsyncClient, method: str, path: str, authorization: str | None
) -> None:
    del client.headers["authorization"]
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await client.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("token", "allowed", "refused"),
    [("reader", READS, WRITES + ADMINISTRATION), ("writer", WRITES, READS + ADMINISTRATION)],
)
async def test_a_token_opens_its_scopes_and_no_others(
    client: httpx.AsyncClient, token: str, allowed: list[tuple[str, str]], refused: list[tuple[str, str]]
) -> None:
    for method, path in allowed:
        assert (await client.request(method, path, headers=bearer(token))).status_code not in (401, 403)
    for method, path in refused:
        answer = await client.request(method, path, headers=bearer(token))
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_several_tokens_are_valid_at_once(client: httpx.AsyncClient) -> None:
    for token in ("reader", "next"):
        assert (await client.get("/v1/sessions", headers=bearer(token))).status_code == 200


@pytest.mark.parametrize("path", OPEN)
async def test_the_operations_routes_are_open(client: httpx.AsyncClient, path: str) -> None:
    del client.headers["authorization"]
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    digest = hashlib.sha256(b"t").hexdigest()
    tokens = Tokens.from_setting(f'[{{"caller": "c", "scopes": ["read"], "sha256": "{digest}"}}]')
    assert tokens.scopes_of(f"{scheme} t") == frozenset({"read"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hunter2", "SESSION_TOKENS: must be a JSON list"),
        ("{}", "SESSION_TOKENS: Expected `array`"),
        ('[{"caller": "c", "scopes": ["root"], "sha256": ""}]', "SESSION_TOKENS: Invalid enum value 'root'"),
        ('[{"caller": "c", "scopes": [], "sha256": "hunter2"}]', "SESSION_TOKENS: sha256 of caller 'c' must be 64 hex"),
        ('[{"caller": "c", "scopes": [], "sha256": "", "token": "x"}]', "SESSION_TOKENS: Object contains unknown"),
    ],
)
def test_a_wrong_list_of_tokens_is_refused_without_repeating_it(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Tokens.from_setting(text)
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)


def test_no_tokens_means_nobody(client: Any) -> None:
    assert Tokens.from_setting("").scopes_of("Bearer all") is None

"""Sessions over HTTP: what each route answers when all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.unit.fake_repository import FakeRepository

JSON = "application/json"


def path(session: dict[str, Any]) -> str:
    return f"/v1/sessions/{session['id']}"


async def test_create_answers_the_session_its_tag_and_its_path(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/sessions", json={"user_id": "alice", "data": {"theme": "dark"}, "ttl": 60})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == path(body)
    assert answer.headers["etag"] == f'"{body["revision"]}"'
    assert body["data"] == {"theme": "dark"}
    assert body["agent_id"] is None
    assert 60_000 <= body["expires_at"] - body["created_at"] <= 63_000
    assert "version" not in body


async def test_read_answers_what_was_created(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    answer = await client.get(path(session))
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == session


async def test_read_of_a_known_revision_answers_304_without_a_body(
    client: httpx.AsyncClient, session: dict[str, Any]
) -> None:
    tag = f'"{session["revision"]}"'
    for given in (tag, f'"x", W/{tag}', "*"):
        answer = await client.get(path(session), headers={"if-none-match": given})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    answer = await client.get(path(session), headers={"if-none-match": '"x"'})
    assert answer.status_code == 200


async def test_patch_sets_and_removes_single_attributes(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    answer = await client.patch(path(session), json={"data": {"a": None, "c": {"deep": None}}})
    assert answer.status_code == 200
    assert answer.json()["data"] == {"b": 2, "c": {"deep": None}}
    assert answer.json()["revision"] != session["revision"]


async def test_patch_answers_no_body_where_the_caller_prefers_none(
    client: httpx.AsyncClient, session: dict[str, Any]
) -> None:
    answer = await client.patch(path(session), json={"data": {"a": 3}}, headers={"prefer": "return=minimal"})
    read = await client.get(path(session))
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["etag"] == read.headers["etag"]
    assert answer.headers["preference-applied"] == "return=minimal"
    assert read.json()["data"]["a"] == 3


async def test_put_replaces_all_attributes(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    answer = await client.put(path(session), json={"data": {"z": [1]}})
    assert answer.json()["data"] == {"z": [1]}


async def test_touch_slides_the_life_on_and_leaves_the_revision(
    client: httpx.AsyncClient, session: dict[str, Any], repository: FakeRepository
) -> None:
    repository.ahead = 50_000_000
    answer = await client.post(path(session) + "/touch")
    assert answer.status_code == 200
    assert answer.json()["expires_at"] > session["expires_at"]
    assert answer.headers["etag"] == f'"{session["revision"]}"'


async def test_delete_ends_the_session_for_every_route(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    assert (await client.delete(path(session))).status_code == 204
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"data": {}}),
        ("PUT", "", {"data": {}}),
        ("POST", "/touch", None),
        ("DELETE", "", None),
    ):
        answer = await client.request(method, path(session) + suffix, json=body)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:session-ops:problem:session-not-found")


async def test_list_filters_pages_and_orders(client: httpx.AsyncClient) -> None:
    made = [
        (await client.post("/v1/sessions", json={"user_id": user, "agent_id": agent})).json()["id"]
        for user, agent in (("u", "a"), ("u", "b"), ("v", "a"), ("u", "a"))
    ]

    async def ids(**query: Any) -> list[str]:
        answer = await client.get("/v1/sessions", params=query)
        return [session["id"] for session in answer.json()["sessions"]]

    assert set(await ids(user_id="u")) == {made[0], made[1], made[3]}
    assert set(await ids(agent_id="a")) == {made[0], made[2], made[3]}
    assert set(await ids(user_id="u", agent_id="a")) == {made[0], made[3]}
    assert await ids(order="oldest") == (await ids(order="newest"))[::-1]
    first = (await client.get("/v1/sessions", params={"limit": 3})).json()
    second = (await client.get("/v1/sessions", params={"limit": 3, "cursor": first["cursor"]})).json()
    assert second["cursor"] is None
    assert {session["id"] for session in first["sessions"] + second["sessions"]} == set(made)


async def test_count_and_statistics(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    assert (await client.get("/v1/sessions/count")).json() == {"active": 1}
    await client.delete(path(session))
    assert (await client.get("/v1/statistics")).json() == {
        "active": 0,
        "created": 1,
        "expired": 0,
        "deleted": 1,
        "moved": 0,
    }


async def test_revoke_ends_all_sessions_of_a_user(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    other = (await client.post("/v1/sessions", json={"user_id": "bob"})).json()
    assert (await client.delete("/v1/users/alice/sessions")).json() == {"deleted": 1}
    assert (await client.get(path(session))).status_code == 404
    assert (await client.get(path(other))).status_code == 200


async def test_if_match_guards_every_change(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    stale, fresh = '"0123456789abcdef"', f'"{session["revision"]}"'
    for method, body in (("PATCH", {"data": {"a": 5}}), ("PUT", {"data": {}}), ("DELETE", None)):
        for given in (stale, f"W/{fresh}", f'{stale}, "x"', '""', session["revision"], ""):
            answer = await client.request(method, path(session), json=body, headers={"if-match": given})
            assert (answer.status_code, answer.headers["etag"]) == (412, fresh)
    assert (await client.get(path(session))).json()["data"] == session["data"]


async def test_if_match_lets_the_right_revision_through(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    tag = f'"{session["revision"]}"'
    for given in (tag, None, None):
        tags = given or f'"old", {tag}'
        answer = await client.patch(path(session), json={"data": {"a": 5}}, headers={"if-match": tags})
        assert answer.status_code == 200
        tag = answer.headers["etag"]
    assert (await client.delete(path(session), headers={"if-match": "*"})).status_code == 204

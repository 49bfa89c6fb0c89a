"""Callers who mean harm: ids, bodies and headers that no honest client sends, over and over, through every host."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Final
from urllib.parse import quote

from tests.ledger.wire import Host, NoAnswerError, NotSentError

USER: Final = "hostile"
"""Whoever they create a session for; there must never be one."""

IDS: Final = ("\n", "a:b", "{0}", "*?[", "..", "../../etc/passwd", "a\0b", "é", "%s%n", "a" * 4096, "session:1-a:{0}:x")

TOO_LARGE: Final = 10 * 1_048_576


def _created(**changes: object) -> bytes:
    return json.dumps({"user_id": USER, "data": {}, **changes}).encode()


BODIES: Final[tuple[bytes, ...]] = (
    b"",
    b"\0" * 100,
    b"{",
    b'"text"',
    b"[]",
    b"\xff\xfe{}",
    b'{"user_id": "hostile"',
    b'{"user_id": "hostile", "data": {"a": NaN}}',
    b'{"user_id": "hostile", "data": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
    b'{"user_id": "hostile", "data": {"a": ' + b"[" * 100_000 + b"}}",
    _created(user_id=7),
    _created(user_id=f"{USER}\n"),
    _created(user_id=USER * 1000),
    _created(data=[1]),
    _created(data={"a": {"b": "x" * 2_000_000}}),
    _created(ttl=-1),
    _created(ttl="for ever"),
    _created(id="a:b"),
    _created(unknown=1),
    _created(data={"a": "x" * TOO_LARGE}),
)


async def harm(urls: list[str], token: str, seconds: float) -> list[str]:
    """Send all of it through every host until the time is over, once at least; what was not refused, in a line each."""
    hosts = [Host(url, token, timeout=10.0) for url in urls]
    found: Counter[str] = Counter()
    until = time.monotonic() + seconds
    try:
        while True:
            for host in hosts:
                await _all_once(host, found)
            if time.monotonic() > until:
                break
        for host in hosts:
            reply = await host.request("GET", f"/v1/sessions?user_id={USER}&limit=10")
            if reply.status != 200 or json.loads(reply.body)["sessions"]:
                found[f"there are sessions of {USER}: {reply.status} {reply.body[:200]!r}"] += 1
    finally:
        for host in hosts:
            host.close()
    return [f"{what}, {count} times" for what, count in found.items()]


async def _all_once(host: Host, found: Counter[str]) -> None:
    for session_id in IDS:
        path = f"/v1/sessions/{quote(session_id, safe='')}"
        for method, body in (("GET", b""), ("PATCH", b'{"data":{"a":1}}'), ("PUT", b'{"data":{}}'), ("DELETE", b"")):
            await _refused(host, method, path, body, found)
    for body in BODIES:
        await _refused(host, "POST", "/v1/sessions", body, found)
    for query in ("limit=-1", "limit=many", "cursor=%00", "user_id=%0A", "user_id=" + "x" * 4096):
        await _refused(host, "GET", f"/v1/sessions?{query}", b"", found)
    await asyncio.sleep(0)


async def _refused(host: Host, method: str, path: str, body: bytes, found: Counter[str]) -> None:
    try:
        reply = await host.request(method, path, body)
    except (NotSentError, NoAnswerError) as error:
        # A body that is far too large is answered before it has all been sent, and the connection is closed
        if len(body) < TOO_LARGE:
            found[f"{method} {path[:60]} {body[:40]!r}: {error}"] += 1
        return
    if not 400 <= reply.status < 500:
        found[f"{method} {path[:60]} {body[:40]!r}: answered {reply.status}"] += 1

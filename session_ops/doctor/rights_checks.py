"""Whether the service's Redis user may do what it needs, and nothing else: found by trying, without any effect.

Redis looks at the rights before it looks at the arguments, so a command with arguments that cannot work tells whether
it is allowed. The keys below are nobody's: in the place of the partition stands a word.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from session_ops.doctor.findings import Finding, finding
from session_ops.errors import StoreUnavailableError
from session_ops.stores.library import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_ops.stores.connection import Connection

NOBODY: Final = "session:doctor:{doctor}:nobody"
_INDEX: Final = "sessions:doctor:{doctor}:expiry"
_KEY: Final = "generation:doctor:{doctor}"
_OTHER: Final = "other"
NOT_PERMITTED: Final = "not permitted"

NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "fcall": ("no-such-function", "1", _KEY),
    "fcall_ro": (f"{LIBRARY}_guard", "1", _KEY, "*"),
    "get": (_KEY,),
    "info": ("server",),
    "time": (),
    "dbsize": (),
    "hget": (NOBODY, "field"),
    "hmget": (NOBODY, "field"),
    "hgetall": (NOBODY,),
    "hset": (NOBODY, "field", "value", "a field without a value"),
    "hdel": (NOBODY, "field"),
    "hincrby": (NOBODY, "field", "no number"),
    "del": (NOBODY,),
    "exists": (NOBODY,),
    "pexpireat": (NOBODY, "no number"),
    "pexpiretime": (NOBODY,),
    "zadd": (_INDEX, "no number", "member"),
    "zcard": (_INDEX,),
    "zcount": (_INDEX, "0", "1"),
    "zrange": (_INDEX, "0", "0"),
    "zrank": (_INDEX, "member"),
    "zrem": (_INDEX, "member"),
    "zscore": (_INDEX, "member"),
    "set": (_KEY, "value", "XX", "and a word that is none"),
    "wait": ("0", "1"),
}
"""Commands of SERVICE_ACL with arguments that change nothing. Left out is what a connection begins with and what a
transaction is made of: where one of those is not allowed nothing else works either."""

FORBIDDEN: Final[tuple[tuple[str, ...], ...]] = (
    ("EVAL", "return 0", "0"),
    ("SCAN", "0", "COUNT", "1"),
    ("CONFIG", "GET", "maxmemory"),
    ("ACL", "USERS"),
    ("GET", _OTHER),
)
"""What nobody but an administrator needs, as far as trying it does no harm."""


async def rights_findings(connection: Connection, user: str) -> Iterator[Finding]:
    """What the user of this connection may not do and should, and the other way round. Two round trips."""
    needed = await _permitted(connection, [(name, *words) for name, words in NEEDED.items()])
    missing = [name for name, allowed in zip(NEEDED, needed, strict=True) if not allowed]
    wide = await _permitted(connection, FORBIDDEN)
    too_much = [" ".join(words[:2]) for words, allowed in zip(FORBIDDEN, wide, strict=True) if allowed]
    found = []
    if missing:
        found.append(finding("redis-rights-missing", f"{user} may not: {', '.join(missing)}"))
    if too_much:
        found.append(finding("redis-rights-wide", f"{user} may: {', '.join(too_much)}"))
    return iter(found)


async def _permitted(
    connection: Connection, commands: list[tuple[str, ...]] | tuple[tuple[str, ...], ...]
) -> list[bool]:
    answers = await asyncio.gather(*(connection.call(*words) for words in commands), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StoreUnavailableError):
            raise answer
    return [not (isinstance(answer, StoreUnavailableError) and answer.reason == NOT_PERMITTED) for answer in answers]

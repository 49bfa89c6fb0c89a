"""The state of one Redis and of the generation in it: what /readyz, metrics and an operator are told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from session_ops.errors import StoreUnavailableError
from session_ops.records import StoreState
from session_ops.stores.layout import Names
from session_ops.stores.library import LIBRARY, NO_PIN
from session_ops.stores.replies import LOST, NO_LIBRARY, unexpected

if TYPE_CHECKING:
    from session_ops.stores.connection import Connection
    from session_ops.stores.replies import Argument

NO_PREFIX: Final = "no generation prefix"


async def describe(connection: Connection, prefix: str | None, pin: bytes = NO_PIN) -> StoreState:
    """Ask Redis for its state; never raises for a store that is down. One round trip."""
    # Without a prefix any name does: the answer is LOST where the library is there
    generation = Names(prefix or "none", 0).generation
    started = time.monotonic()
    commands: list[tuple[Argument, ...]] = [
        ("FCALL_RO", f"{LIBRARY}_guard", 1, generation, pin),
        ("INFO",),
        ("DBSIZE",),
    ]
    answers = await asyncio.gather(*[connection.call(*command) for command in commands], return_exceptions=True)
    guard, info, keys = answers
    latency = round((time.monotonic() - started) * 1000, 3)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StoreUnavailableError):
            raise answer
    fields = info_fields(info) if isinstance(info, bytes) else {}
    library = _library(guard)
    if not isinstance(guard, list | StoreUnavailableError):
        guard = unexpected(change=False)
    details: dict[str, Any] = {
        "prefix": prefix,
        "mode": guard[0].decode() if isinstance(guard, list) and guard and isinstance(guard[0], bytes) else None,
        "keys": keys if isinstance(keys, int) else None,
        "library": library,
        "role": fields.get("role"),
        "server": "valkey" if "valkey_version" in fields else "redis" if fields else None,
        "version": fields.get("valkey_version") or fields.get("redis_version"),
        "latency_ms": latency if fields else None,
        "used_memory": _number(fields.get("used_memory")),
        "maxmemory": _number(fields.get("maxmemory")),
        "connected_replicas": _number(fields.get("connected_slaves")),
    }
    reason = guard.reason if isinstance(guard, StoreUnavailableError) else None
    if prefix is None and library:
        details["mode"], reason = None, NO_PREFIX
    return StoreState(state="up" if reason is None else "down", reason=reason, details=details)


def _library(guard: Any) -> bool | None:
    """Whether the library is loaded; None where Redis did not say."""
    if not isinstance(guard, StoreUnavailableError) or guard.reason in {LOST, "wrong mode"}:
        return True
    return False if guard.reason == NO_LIBRARY else None


def info_fields(info: bytes) -> dict[str, str]:
    """What INFO has answered, by name."""
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None

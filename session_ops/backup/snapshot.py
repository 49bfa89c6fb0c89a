"""A snapshot of the local Redis by BGSAVE, and what the snapshot must hold.

Never by SYNC: after it a single Redis gives itself another replication id, by which the hosts know it.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hiredis
import msgspec

from session_ops.backup.contents import SESSION, fingerprint
from session_ops.backup.scratch import SpoiltError
from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from session_ops.backup.local import LocalRedis

SAVE_LIMIT: Final = 1_800.0
"""Seconds that a BGSAVE, and what Redis does before it, may take."""
SAMPLE: Final = 200
"""Sessions that are read in the moment of the snapshot: less than a millisecond of Redis' time."""
_CHUNK: Final = 1 << 20
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What was in Redis when the snapshot began: its time (ms), keys, and the fingerprints of some sessions."""

    at: int
    keys: int
    sample: dict[bytes, bytes]
    replication_id: str
    offset: int
    version: str


def whose_turn(redis: LocalRedis) -> str | None:
    """Why this Redis is not the one to back up: it has replicas, or is a replica that does not follow. None: it is."""
    found = redis.info("replication")
    if found["role"] == "master":
        replicas = [value for name, value in found.items() if name.startswith("slave") and "state=online" in value]
        return f"a primary with {len(replicas)} replicas: they are backed up" if replicas else None
    return None if found.get("master_link_status") == "up" else "a replica that is cut off from its primary"


def take_snapshot(redis: LocalRedis, to: Path) -> tuple[Moment, str]:
    """Let Redis save, and bring its file to `to`; the moment it shows, and the file's SHA-256.

    Redis' own file is removed, since it is as large as the data. Raises `PreconditionError`.
    """
    moment = _begin(redis)
    if _await_end(redis)["rdb_last_bgsave_status"] != "ok":
        raise PreconditionError("Redis could not save: its own log says why (journalctl -u redis-server)")
    directory, name = (redis.call("CONFIG", "GET", setting)[1].decode() for setting in ("dir", "dbfilename"))
    saved = Path(directory) / name
    digest = hashlib.sha256()
    with saved.open("rb") as source, os.fdopen(os.open(to, _NEW, 0o600), "wb") as target:
        identity = os.fstat(source.fileno())
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
        os.fsync(target.fileno())
        if saved.stat().st_ino == identity.st_ino:
            saved.unlink()
    return moment, digest.hexdigest()


def _begin(redis: LocalRedis) -> Moment:
    """Start a BGSAVE when Redis is at nothing else, and read in the same breath what it will hold."""
    _await_end(redis)
    limit = time.monotonic() + SAVE_LIMIT
    while True:
        keys = {key for key in redis.many([("RANDOMKEY",)] * SAMPLE) if key and key.startswith(SESSION)}
        reads = [command for key in keys for command in (("HGETALL", key), ("PEXPIRETIME", key))]
        before = [("TIME",), ("INFO", "replication"), ("INFO", "server"), ("DBSIZE",)]
        answers = redis.many([*reads, *before, ("BGSAVE",), ("DBSIZE",)])
        *found, clock, replication, server, count, begun, after = answers
        if not isinstance(begun, hiredis.ReplyError) and b"started" in begun and count == after:
            break
        if time.monotonic() > limit:
            raise PreconditionError(f"Redis does not begin to save: {begun}; see its log")
        time.sleep(0.5)
        _await_end(redis)
    told = _lines(replication) | _lines(server)
    sample = {
        key: fingerprint(key, fields, expires)
        for key, fields, expires in zip(keys, found[::2], found[1::2], strict=True)
        if fields
    }
    return Moment(
        at=int(clock[0]) * 1000 + int(clock[1]) // 1000,
        keys=count,
        sample=sample,
        replication_id=told["master_replid"],
        offset=int(told["master_repl_offset"]),
        version=told["redis_version"],
    )


def _lines(answer: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)


def _await_end(redis: LocalRedis) -> dict[str, str]:
    """Wait until Redis neither saves nor rewrites its append-only file, nor is about to; what it says then."""
    limit = time.monotonic() + SAVE_LIMIT
    busy = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
    while True:
        found = redis.info("persistence")
        if all(found[name] == "0" for name in busy):
            break
        if time.monotonic() > limit:
            raise PreconditionError("Redis still saves, or rewrites its append-only file, after half an hour")
        time.sleep(0.1)
    return found


def check_against(moment: Moment, scratch: LocalRedis) -> int:
    """Compare what a load gave with the moment of the snapshot; how many sampled sessions were compared.

    Raises `SpoiltError`.
    """
    found = scratch.info("persistence")
    loaded, expired = int(found["rdb_last_load_keys_loaded"]), int(found["rdb_last_load_keys_expired"])
    if loaded + expired != moment.keys:
        raise SpoiltError(f"Redis had {moment.keys} keys, its snapshot has {loaded + expired}")
    compared = 0
    for key, expected in moment.sample.items():
        fields, expires = scratch.many([("HGETALL", key), ("PEXPIRETIME", key)])
        if not fields:
            continue  # it has ended since, or the counts would differ
        if fingerprint(key, fields, expires) != expected:
            raise SpoiltError("a session in the snapshot is not the one that Redis had")
        compared += 1
    return compared

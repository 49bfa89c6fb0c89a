"""What a Redis holds, in numbers that two loads of one backup agree in: counts, and sums of fingerprints.

A load leaves out what has expired since, so all counts are kept by the hour in which a key ends. Hours that are over
are not compared.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_ops.backup.local import LocalRedis

HOUR: Final = 3_600_000
NEVER: Final = -1
SESSION: Final = b"session:"
GENERATION: Final = b"generation:"
_ABSENT: Final = -2
"""It has ended between SCAN and here."""
_BATCH: Final = 1_000
_LIMIT: Final = 1 << 128


class Hour(msgspec.Struct, kw_only=True):
    """The keys that Redis forgets in the hour that begins at `begins` (ms), or `NEVER`."""

    begins: int
    keys: int = 0
    sessions: int = 0
    digest: str = f"{0:032x}"


class Generation(msgspec.Struct, frozen=True, order=True):
    """A generation key: its prefix, and the mode in it."""

    prefix: str
    mode: str


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """Records of sessions in any state, other keys, and the generations that have a key."""

    keys: int
    sessions: int
    generations: tuple[Generation, ...]
    hours: tuple[Hour, ...]


def fingerprint(key: bytes, fields: Sequence[bytes], expires: int) -> bytes:
    """Of a session's hash: its name, its fields in any order, and when Redis forgets it (ms)."""
    pairs = sorted(zip(fields[::2], fields[1::2], strict=True))
    digest = hashlib.blake2b(b"%d %d " % (expires, len(key)) + key, digest_size=16)
    for name, value in pairs:
        digest.update(b"%d %d " % (len(name), len(value)) + name + value)
    return digest.digest()


def read_contents(redis: LocalRedis) -> Contents:
    """Count a whole Redis; nobody else may be using it. Two round trips for each thousand keys."""
    hours: dict[int, Hour] = {}
    sums: dict[int, int] = {}
    generations: set[Generation] = set()
    for keys in _keys(redis):
        commands = [("HGETALL", key) if key.startswith(SESSION) else ("TYPE", key) for key in keys]
        answers = redis.many([*commands, *(("PEXPIRETIME", key) for key in keys)])
        for key, found, expires in zip(keys, answers, answers[len(keys) :], strict=False):
            if expires == _ABSENT:
                continue
            begins = expires - expires % HOUR if expires >= 0 else NEVER
            hour = hours.setdefault(begins, Hour(begins=begins))
            hour.keys += 1
            if key.startswith(SESSION):
                hour.sessions += 1
                sums[begins] = (sums.get(begins, 0) + int.from_bytes(fingerprint(key, found, expires))) % _LIMIT
            elif key.startswith(GENERATION):
                prefix = key.removeprefix(GENERATION).rpartition(b":")[0].decode()
                generations.add(Generation(prefix, redis.call("GET", key).decode()))
    for begins, total in sums.items():
        hours[begins].digest = f"{total:032x}"
    return Contents(
        keys=sum(hour.keys for hour in hours.values()),
        sessions=sum(hour.sessions for hour in hours.values()),
        generations=tuple(sorted(generations)),
        hours=tuple(hours[begins] for begins in sorted(hours)),
    )


def _keys(redis: LocalRedis) -> Iterator[list[bytes]]:
    """Every key once: nothing changes meanwhile, so that no key comes twice but by a resize, which `seen` notices."""
    seen: set[bytes] = set()
    cursor: Any = b"0"
    while True:
        cursor, keys = redis.call("SCAN", cursor, "COUNT", _BATCH)
        fresh = [key for key in keys if key not in seen]
        seen.update(fresh)
        if fresh:
            yield fresh
        if cursor == b"0":
            return


def differences(before: Contents, after: Contents, now: int) -> list[str]:
    """What differs between two loads of one backup, of what ends after `now` (ms); at most ten lines."""
    found = []
    if before.generations != after.generations:
        found.append(f"generations {_names(before)} / {_names(after)}")
    of = {hour.begins: hour for hour in before.hours}, {hour.begins: hour for hour in after.hours}
    for begins in sorted({*of[0], *of[1]}):
        if begins != NEVER and begins <= now:
            continue
        one, other = (hours.get(begins, Hour(begins=begins)) for hours in of)
        if one != other:
            what = "keys that stay" if begins == NEVER else f"keys that end after {begins}"
            found.append(f"{what}: {one.keys} with {one.sessions} sessions / {other.keys} with {other.sessions}")
            if (one.keys, one.sessions) == (other.keys, other.sessions):
                found[-1] += ", with other data in them"
    return found[:10]


def _names(contents: Contents) -> str:
    return ", ".join(f"{each.prefix} ({each.mode})" for each in contents.generations) or "none"

"""I4: when the dust has settled, the legacy store's rows and Redis' records say the same of every session that Redis
owns, down to the version and the absolute expiry. Both are read on their own hosts, past the service.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from session_ops.records import Session
from session_ops.stores.layout import unpack_record
from tests.fleet.spoils import ADMINISTRATOR
from tests.ledger.wire import Host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.fleet import Fleet

SOON = 60_000
"""Milliseconds: what expires so soon may be gone from one store when the other is read."""

# The ids and, in hexadecimal, the fields of every record of a generation, a page a call; the first line is the cursor.
PAGE = """
local page = redis.call('SCAN', ARGV[1], 'MATCH', 'session:' .. ARGV[2] .. ':*', 'COUNT', 500)
local lines = {page[1]}
for _, key in ipairs(page[2]) do
  local words = {key}
  for _, field in ipairs(redis.call('HGETALL', key)) do
    words[#words + 1] = '-' .. string.gsub(field, '.', function(c) return string.format('%02x', string.byte(c)) end)
  end
  lines[#lines + 1] = table.concat(words, ' ')
end
return lines
"""

ROWS = """
SELECT json_build_array(
  s.id, s.user_id, s.agent_id, s.data, s.created_at, s.updated_at, s.expires_at, s.revision, s.version, s.ttl)
FROM sessions s, session_control c WHERE NOT s.deleted AND s.owner = 'redis' AND s.generation = c.generation
"""


class Stores(NamedTuple):
    """The live sessions that Redis owns, by id, as each store has them."""

    rows: dict[str, Session]
    records: dict[str, Session]

    def differing(self) -> list[str]:
        """The ids of which the two do not say the same, or of which only one knows."""
        return sorted(
            session_id
            for session_id in self.rows.keys() | self.records.keys()
            if self.rows.get(session_id) != self.records.get(session_id)
        )


@dataclass(frozen=True)
class Agreement:
    """What was compared. `unsettled`: sessions on which the stores did not agree before somebody had written them."""

    compared: int
    unsettled: int
    differ: list[str]
    digests: tuple[str, str]
    """Of all rows and of all records."""

    def problems(self, unanswered: int) -> list[str]:
        """What did not hold. A difference needs a request that was not answered: `unanswered` of them there were."""
        found = [f"I4: the stores do not agree on {session}" for session in self.differ[:5]]
        if not self.compared:
            found.append("I4: there was nothing to compare")
        if self.digests[0] != self.digests[1]:
            found.append(f"I4: the stores differ in {len(self.differ)} of {self.compared} sessions")
        if self.unsettled > unanswered:
            found.append(f"I4: {self.unsettled} sessions were not mirrored, and {unanswered} requests failed")
        return found


async def agree(fleet: Fleet) -> Agreement:
    """Compare the stores of a fleet that nobody uses any more, whose flags are on everywhere.

    A host that died between a step and the next leaves a session half moved, or written and not mirrored, until the
    next who comes: be the next, once, for what differs.
    """
    unsettled = (await _read(fleet)).differing()
    hosts = [Host(url, fleet.token) for url in fleet.urls]
    for session_id in unsettled:
        # A read finishes a move, a write is mirrored with all that was written before it
        await asyncio.gather(*(host.request("GET", f"/v1/sessions/{session_id}") for host in hosts))
        await hosts[0].request("PATCH", f"/v1/sessions/{session_id}", b'{"data":{"settled":true}}')
    for host in hosts:
        host.close()
    stores = await _read(fleet)
    differ = [_told(stores, session_id) for session_id in stores.differing()]
    digests = (_digest(stores.rows.values()), _digest(stores.records.values()))
    return Agreement(len(stores.rows.keys() | stores.records.keys()), len(unsettled), differ, digests)


async def _read(fleet: Fleet) -> Stores:
    _, state = await fleet.healthy(30)
    assert state.prefix is not None
    legacy, redis = fleet.hosts("legacy")[0], fleet.hosts("redis")[0]
    told, now = await asyncio.gather(
        fleet.run(legacy, f"cd /\nrunuser -u postgres -- psql -qAt application <<'SQL'\n{ROWS}\nSQL\n"),
        fleet.run(redis, "date +%s%3N"),
    )
    return compared(told, await fleet.run(redis, _pages(state.prefix)), int(now))


def compared(rows: str, records: str, now: int) -> Stores:
    """What `ROWS` and `PAGE` have told, line by line, of sessions that go on for a while after `now` (ms)."""
    return Stores(_live(map(_row, rows.splitlines()), now), _live(_records(records), now))


def _pages(prefix: str) -> str:
    return f"""{ADMINISTRATOR}
cursor=0
while page=$(redis-cli --no-auth-warning --user administrator EVAL "$(cat <<'LUA'
{PAGE}
LUA
)" 0 "$cursor" '{prefix}'); do
  cursor=$(head -n 1 <<< "$page")
  tail -n +2 <<< "$page"
  [ "$cursor" != 0 ] || break
done
"""


def _row(told: str) -> Session:
    names = (
        "id",
        "user_id",
        "agent_id",
        "data",
        "created_at",
        "updated_at",
        "expires_at",
        "revision",
        "version",
        "ttl",
    )
    return msgspec.convert(dict(zip(names, json.loads(told), strict=True)), Session)


def _records(told: str) -> Iterable[Session]:
    for line in told.splitlines():
        key, *fields = line.split(" ")
        record = unpack_record(key.partition("}:")[2], [bytes.fromhex(field[1:]) for field in fields])
        if record.state == "active":
            yield record.session


def _live(sessions: Iterable[Session], now: int) -> dict[str, Session]:
    return {each.id: each for each in sessions if each.expires_at > now + SOON}


def _told(stores: Stores, session_id: str) -> str:
    def parts(session: Session | None) -> str:
        return "nothing" if session is None else f"version {session.version}, ends {session.expires_at}"

    return f"{session_id[:6]}: row {parts(stores.rows.get(session_id))}; record {parts(stores.records.get(session_id))}"


def _digest(sessions: Iterable[Session]) -> str:
    whole = hashlib.sha256()
    for session in sorted(sessions, key=lambda each: each.id):
        whole.update(json.dumps(msgspec.to_builtins(session), sort_keys=True).encode())
    return whole.hexdigest()[:16]

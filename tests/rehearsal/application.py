"""The application whose sessions are moved: its own table, in its own words, with what such tables have in them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.ledger.sessions import Existing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.fleet import Fleet

SESSIONS_OF_A_USER = 3
TEXT = 400
"""Characters of each session's longest attribute: with it a session is as large as those of docs/performance.md."""

BROKEN = 10
"""Rows that no store but this one can hold: no expiry, or data that is no JSON object."""

ENDED = 100
"""Rows of sessions that have expired and were never cleaned up."""

SETTINGS = {
    "session_service_legacy_table": "app.visits",
    "session_service_legacy_columns": "id=sid,user_id=uid,data=attributes,expires_at=expires",
}

# The application's own sessions that may move: none that was ended by a caller meanwhile, has expired or is broken.
_MOVABLE = "NOT v.deleted AND v.expires > extract(epoch FROM now()) * 1000 AND jsonb_typeof(v.attributes) = 'object'"


@dataclass(frozen=True)
class Count:
    """Of the application's sessions: how many Redis owns, and how many have their home there."""

    owned: int
    at_home: int


class Application:
    """An application with `sessions` live sessions, three a user, and some rows that are none any more."""

    def __init__(self, fleet: Fleet, sessions: int, seed: int) -> None:
        self._fleet = fleet
        self.sessions = sessions
        self._seed = seed

    def existing(self) -> Iterator[Existing]:
        """Its users, in an order that the seed draws, so that callers come to all parts of the table."""
        numbers = list(range(0, self.sessions - SESSIONS_OF_A_USER + 1, SESSIONS_OF_A_USER))
        random.Random(self._seed).shuffle(numbers)  # noqa: S311  (an order, no secret)
        for first in numbers:
            ids = range(first, first + SESSIONS_OF_A_USER)
            yield Existing(_user(first), {_id(number): _attributes(number) for number in ids})

    async def begin(self) -> None:
        """Make the table, as a release made it that knows nothing of this service, and a copy of it to compare with."""
        await self._sql(f"""
DROP SCHEMA IF EXISTS app, rehearsal CASCADE;
CREATE SCHEMA app AUTHORIZATION application;
SET ROLE application;
CREATE TABLE app.visits (sid TEXT PRIMARY KEY, uid TEXT NOT NULL, attributes JSONB NOT NULL, expires BIGINT);
INSERT INTO app.visits
  SELECT 'visit-' || n, 'visitor-' || n / {SESSIONS_OF_A_USER},
    jsonb_build_object('n', n, 'theme', 'dark', 'text', repeat('x', {TEXT})),
    (extract(epoch FROM now()) * 1000)::bigint + 86400000::bigint * (2 + n % 60)
  FROM generate_series(0, {self.sessions - 1}) n;
INSERT INTO app.visits SELECT 'ended-' || n, 'visitor-gone', '{{}}', 1700000000000 FROM generate_series(1, {ENDED}) n;
INSERT INTO app.visits SELECT 'broken-' || n, 'visitor-gone',
    CASE n % 2 WHEN 0 THEN '[1]'::jsonb ELSE '{{}}' END, CASE n % 2 WHEN 0 THEN 4102444800000 END
  FROM generate_series(1, {BROKEN}) n;
RESET ROLE;
CREATE SCHEMA rehearsal;
CREATE TABLE rehearsal.visits AS SELECT * FROM app.visits;
ANALYZE app.visits;
""")

    async def count(self, percent: int) -> Count:
        """Where the sessions are, of which `percent` have their home in Redis."""
        owned, at_home = (
            await self._sql(
                "SELECT count(*) FILTER (WHERE v.owner = 'redis' AND v.generation = c.generation),"
                f" count(*) FILTER (WHERE v.bucket < {percent}) FROM app.visits v, app.session_control c"
                f" WHERE v.sid LIKE 'visit-%' AND {_MOVABLE}"
            )
        ).split("|")
        return Count(int(owned), int(at_home))

    async def put_aside(self) -> int:
        """How many rows are in the quarantine."""
        return int(await self._sql("SELECT count(*) FROM app.session_quarantine"))

    async def changed(self) -> set[str]:
        """The sessions whose row is not what it was: gone, ended, or with another user, attributes or expiry."""
        told = await self._sql(
            "SELECT o.sid FROM rehearsal.visits o LEFT JOIN app.visits v USING (sid) WHERE o.sid NOT LIKE 'ended-%'"
            " AND (v.sid IS NULL OR v.deleted"
            " OR (v.uid, v.attributes, v.expires) IS DISTINCT FROM (o.uid, o.attributes, o.expires))"
        )
        return set(told.split())

    async def _sql(self, text: str) -> str:
        legacy = self._fleet.hosts("legacy")[0]
        psql = "PGOPTIONS=--client-min-messages=warning runuser -u postgres -- psql -qAt -v ON_ERROR_STOP=1 application"
        return (await self._fleet.run(legacy, f"cd /\n{psql} <<'SQL'\n{text}\nSQL\n")).strip()


def _id(number: int) -> str:
    return f"visit-{number}"


def _user(number: int) -> str:
    return f"visitor-{number // SESSIONS_OF_A_USER}"


def _attributes(number: int) -> dict[str, Any]:
    return {"n": number, "theme": "dark", "text": "x" * TEXT}

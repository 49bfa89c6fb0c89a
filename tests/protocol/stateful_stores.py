"""What both stores have of a session, looked at directly, and what it is worth: `value` of docs/ownership.md."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from session_ops.stores.layout import Names, unpack_record
from tests.conftest import administrator_connection

if TYPE_CHECKING:
    from session_ops.owned_access import OwnedStore
    from session_ops.records import Control, Record, Row
    from tests.servers import RedisServer


class Seen(NamedTuple):
    """One look at both stores. `record` is of the generation in force; `alive`: its server and its key are there."""

    control: Control
    row: Row | None
    record: Record | None
    alive: bool

    @property
    def redis_owns(self) -> bool:
        """Whether the row says so."""
        return self.row is not None and self.row.owner == "redis" and self.row.generation == self.control.generation

    @property
    def being_born(self) -> bool:
        """A create on its way to Redis: whoever touches it next finishes that."""
        return self.alive and self.redis_owns and self.record is None and self.version == 1

    @property
    def being_ended(self) -> bool:
        """A delete on its way to the legacy store: nobody was told, and a reader finishes it before it answers."""
        ended = self.alive and self.redis_owns and self.record is not None and self.record.state == "deleted"
        return ended and self.row is not None and not self.row.deleted

    @property
    def version(self) -> int:
        """The row's."""
        return 0 if self.row is None else self.row.session.version

    def value(self) -> dict[str, Any] | None:
        """What a read must answer now, in mode mirror."""
        row, record = self.row, self.record
        if row is None or row.deleted:
            return None
        session = row.session
        if self.alive and self.redis_owns:
            if self.being_born:
                return None
            if record is not None and record.session.version >= session.version:
                if record.state == "deleted":
                    return None
                session = record.session if record.filled else session
        return session.data if session.expires_at > time.time() * 1000 else None


class Stores:
    """Looks at a fleet's stores, past every host. `auditor` reads the legacy store and serves nobody."""

    def __init__(self, server: RedisServer, auditor: OwnedStore) -> None:
        self._administrator = administrator_connection(server)
        self._auditor = auditor

    async def look(self, session_id: str) -> Seen:
        """Both stores at rest."""
        control, row, _ = await self._auditor.steps.get(session_id)
        row = row and msgspec.structs.replace(row, now=0)  # when it was looked at makes no difference
        if control.prefix is None or control.pin is None:
            return Seen(control, row, None, alive=False)
        names = Names(control.prefix, 0)
        replication = (await self._administrator.call("INFO", "replication")).decode()
        key = await self._administrator.call("GET", names.generation)
        if f"master_replid:{control.pin}" not in replication or key is None:
            return Seen(control, row, None, alive=False)
        fields = await self._administrator.call("HGETALL", names.session_key(session_id))
        return Seen(control, row, unpack_record(session_id, fields) if fields else None, alive=True)

    async def close(self) -> None:
        """Close the connection."""
        await self._administrator.close()

    async def poison(self, session_ids: list[str]) -> None:
        """Make every record of an older generation say what nobody has written: whoever reads it shows that."""
        control = await self._auditor.control_store.read()
        for prefix in control.old_prefixes:
            for session_id in session_ids:
                key = Names(prefix, 0).session_key(session_id)
                if await self._administrator.call("EXISTS", key):
                    await self._administrator.call("HSET", key, "k0", '"of an older generation"', change=True)


class Watch:
    """Invariants 3 and 4 of section 13, over all looks at the sessions of a run."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], Any] = {}
        self._records: dict[tuple[str, str], Any] = {}

    def check(self, session_id: str, seen: Seen) -> None:
        """Raise AssertionError where the look breaks one."""
        row, record, control = seen.row, seen.record, seen.control
        if record is not None and record.state == "active":
            assert row is not None, f"{session_id}: Redis has a session that the legacy store does not know"
            assert seen.redis_owns, f"{session_id}: active in Redis, but its row says {row}"
            assert row.session.version <= record.session.version, f"{session_id}: the row is ahead of its owner"
        if row is not None:
            now = (row.session.version, row.session.expires_at, None if row.deleted else row.session.data)
            self._compare(session_id, self._rows, (session_id, row.generation), now)
        if record is not None and control.prefix is not None:
            worth = record.session.data if record.filled and record.state != "deleted" else None
            now = (record.session.version, record.session.expires_at, worth)
            self._compare(session_id, self._records, (session_id, control.prefix), now)

    @staticmethod
    def _compare(session_id: str, known: dict[Any, Any], key: Any, now: Any) -> None:
        before = known.get(key)
        known[key] = now
        if before is None:
            return
        assert now[:2] >= before[:2], f"{session_id}: went back from {before} to {now}"
        assert now[1] >= before[1], f"{session_id}: its expiry went back"
        assert now[0] > before[0] or now[2] == before[2], f"{session_id}: two data of one version, {before} and {now}"

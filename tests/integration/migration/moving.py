"""An application whose sessions are to be moved: a prepared table of its own, a real Redis, and movers over both."""

from __future__ import annotations

import itertools
import socket
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec

from session_ops.bump import bump
from session_ops.migration.audit import Audit
from session_ops.migration.mover import Mover, Outcome
from session_ops.migration.quarantine import Quarantine
from session_ops.migration.runs import RunStore
from session_ops.migration.validation import Validator
from session_ops.owned_access import OwnedStore
from session_ops.settings import Flag
from session_ops.stores.layout import Names, unpack_record
from session_ops.stores.legacy_columns import read_columns
from session_ops.stores.legacy_database import Database
from session_ops.stores.legacy_moves import Moves
from tests.conftest import administrator_connection, service_connection
from tests.integration.migration.application import COLUMNS
from tests.owned import as_administrator, load_functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.migration.application import Application
    from tests.servers import RedisServer

LEASE = 3.0
_pids = itertools.count(4_000_001)  # above any process: dead


class Migration:
    """`application` is prepared by `open`; its columns go by other names than ours."""

    def __init__(self, application: Application, server: RedisServer) -> None:
        self.application = application
        self.server = server
        self.address = f"127.0.0.1:{server.port}"
        self._made: list[OwnedStore] = []
        self.store = self.host()

    def host(self, flag: Flag | None = None, **settings: Any) -> OwnedStore:
        """Another process' view of both stores."""
        wanted = flag or Flag(True, 100)
        store = OwnedStore(
            service_connection(self.server, deadline=5.0),
            Database(self.application.url, deadline=8.0),  # for a machine that is busy with other tests
            lambda: wanted,
            table=self.application.table,
            columns=read_columns(COLUMNS),
            lease=LEASE,
            **settings,
        )
        self._made.append(store)
        return store

    async def open(self, rows: int = 0) -> Self:
        """Make and prepare the table, and begin the first generation in an empty Redis."""
        await as_administrator(self.server, "FLUSHALL")
        await load_functions(self.server)
        await self.application.make(rows)
        await self.application.prepare()
        await self.bump()
        return self

    async def bump(self) -> None:
        """Begin the next generation, without the wait: nobody here holds a lease for long."""
        store = self.store.control_store
        seen = await store.read()
        connection = self.store.connection
        await bump(store, seen, target=connection, address=self.address, partitions=1, lease=0.0, lost=True)

    async def want(self, percent: int, *canaries: str, on: bool = True) -> None:
        """What the stage row wants."""
        ids = msgspec.json.encode(canaries).decode()
        await self.sql(f"UPDATE session_stage SET use_redis = {on}, percent = {percent}, canary_ids = '{ids}'")

    async def sql(self, *statements: str) -> Sequence[Any]:
        """Statements on the control tables and on `visits`."""
        namespace = self.application.namespace
        names = ("stage", "steps", "control", "lock", "runs", "run_samples", "slices", "quarantine", "hosts")
        for name in names if namespace else ():
            statements = tuple(one.replace(f" session_{name}", f" {namespace}.session_{name}") for one in statements)
        return await self.application.sql(*statements)

    def mover(self, store: OwnedStore | None = None, *, me: str | None = None, **settings: Any) -> Mover:
        """A mover; of a process that is dead by the time somebody asks, unless `me` says otherwise."""
        store = store or self.store
        moves = Moves(store.database, store.schema, store.control_schema)
        me = me or f"ann@{socket.gethostname()}:{next(_pids)}"
        return Mover(store, RunStore(store, moves, me), moves, lease=LEASE, **settings)

    def validator(self, store: OwnedStore | None = None, **settings: Any) -> Validator:
        """A validation that looks again at once."""
        store = store or self.store
        moves = Moves(store.database, store.schema, store.control_schema)
        return Validator(store, moves, **{"lease": LEASE, "pauses": (0.01, 0.05), **settings})

    def runs(self, me: str = "ann@elsewhere:1") -> RunStore:
        """The runs as another operator sees them."""
        moves = Moves(self.store.database, self.store.schema, self.store.control_schema)
        return RunStore(self.store, moves, me)

    async def move(self, **settings: Any) -> Outcome:
        """A whole run."""
        return await self.mover().run(**settings)

    @property
    def quarantine(self) -> Quarantine:
        """The rows that are put aside."""
        return Quarantine(self.store)

    @property
    def audit(self) -> Audit:
        """The audit, as ann writes it."""
        return Audit(self.store.database, self.store.control_schema, "ann@elsewhere")

    async def owners(self) -> dict[str, int]:
        """How many live rows each store owns."""
        rows = await self.sql(
            "SELECT CASE WHEN v.owner = 'redis' AND v.generation = c.generation THEN 'redis' ELSE 'legacy' END AS at,"
            " count(*) FROM visits v, session_control c WHERE NOT v.deleted GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows}

    async def disagreements(self) -> list[str]:
        """What is wrong: a session without its record, with two owners, or with other data there than here."""
        control = await self.store.control_store.read()
        assert control.prefix is not None
        names = Names(control.prefix, 0)
        rows = await self.sql(
            "SELECT sid, owner, generation, version, CAST(attributes AS TEXT), expires, deleted FROM visits"
        )
        administrator = administrator_connection(self.server)
        wrong, now = [], time.time() * 1000
        for sid, owner, generation, version, data, expires, deleted in rows:
            if deleted or expires is None or expires <= now:
                continue
            fields = await administrator.call("HGETALL", names.session_key(sid))
            record = unpack_record(sid, fields) if fields else None
            in_redis = owner == "redis" and generation == control.generation
            active = record is not None and record.state == "active"
            if in_redis != active:
                wrong.append(f"{sid}: row says {owner} {generation}, Redis has {record and record.state}")
            elif active and record is not None:
                session = record.session
                if (
                    session.version < version
                    or session.data != msgspec.json.decode(data)
                    or session.expires_at < expires
                ):
                    wrong.append(f"{sid}: {session} differs from version {version}, {data}, {expires}")
        await administrator.close()
        return wrong

    async def close(self) -> None:
        """Close everything."""
        for store in self._made:
            await store.close()
            await store.connection.close()

"""The control row and the hosts' rows in the legacy store: what a bump changes, and what hosts know of each other.

Every statement is fenced by the generation that the caller has seen, so that one that was paused for hours does
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Boolean, Integer, String, and_, bindparam, literal_column, null, or_, select, text, update

from session_ops.errors import StoreUnavailableError
from session_ops.stores.legacy_errors import NOT_PREPARED, STORE, as_unprepared
from session_ops.stores.legacy_prepared import Statement, digits, into, number
from session_ops.stores.legacy_prepared import text as parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_database import Database

REMEMBERED: Final = 3
"""Automatic bumps whose times are kept: what the limit of three within ten minutes needs."""

# The system identifier tells two clusters apart, the timeline a promotion or a restore to an earlier point in time.
_IDENTITY: Final = (
    "SELECT s.system_identifier || '/' || c.timeline_id AS identity"
    " FROM pg_control_system() AS s, pg_control_checkpoint() AS c"
)

_texts = msgspec.json.Decoder(list[str]).decode
_times = msgspec.json.Decoder(list[int]).decode


class ControlRow(msgspec.Struct, frozen=True, kw_only=True):
    """All of the control row, and the legacy store's time (ms) when it was read."""

    generation: int
    prefix: str | None
    pin: str | None
    mode: str
    closing: str | None
    closing_at: int | None
    redis: str
    addresses: str
    identity: str | None
    old_prefixes: tuple[str, ...]
    bumped_at: tuple[int, ...]
    now: int


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a serving process says of itself. Times are the legacy store's, in ms."""

    host: str
    pid: int
    release: str | None
    use_redis: bool
    percent: int
    seen_at: int
    generation: int | None
    mode: str | None
    redis_good_at: int | None
    redis_good_since: int | None
    redis_bad_since: int | None
    pin: str | None
    live: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a process reports; ages are ms before the report, None for never."""

    host: str
    pid: int
    release: str
    use_redis: bool
    percent: int
    generation: int
    prefix: str | None
    mode: str
    closing: str | None
    good_age: int | None
    good_since_age: int | None
    bad_age: int | None
    pin: str | None


class ControlStore:
    """The statements. Each raises `StoreUnavailableError`, and where it changes something `OutcomeUnknownError`."""

    def __init__(self, database: Database, schema: ControlSchema) -> None:
        self._database = database
        driver, dialect = database.engine.dialect, database.dialect
        control, hosts, now = schema.control, schema.hosts, dialect.now()
        c, h = control.c, hosts.c

        def built(statement: Callable[[], Any]) -> Statement:
            return Statement(statement, driver)

        generation = c.generation == bindparam("g", type_=Integer)
        bumpable = and_(generation, c.mode != literal_column("'final'"))
        names = [name for name in ControlRow.__struct_fields__ if name != "now"]
        self._read = built(lambda: select(*(c[name].label(name) for name in names), now.label("now")))
        stale = or_(c.closing.is_(None), c.closing_at < now - number("stale"), number("stale").is_(None))
        self._close = built(
            lambda: (
                update(control)
                .where(bumpable, stale)
                .values(closing=parameter("token"), closing_at=now)
                .returning(c.generation.label("generation"))
            )
        )
        opening = {
            name: bindparam(f"new_{name}", type_=String)
            for name in ("prefix", "pin", "redis", "addresses", "identity", "old_prefixes", "bumped_at")
        }
        self._open = built(
            lambda: (
                update(control)
                .where(bumpable, c.closing == parameter("token"))
                .values(
                    generation=c.generation + digits(1), mode="mirror", closing=null(), closing_at=null(), **opening
                )
                .returning(c.generation.label("generation"))
            )
        )
        token = or_(parameter("token").is_(None), c.closing == parameter("token"))
        self._cancel = built(
            lambda: (
                update(control)
                .where(generation, c.closing.is_not(None), token)
                .values(closing=null(), closing_at=null())
                .returning(c.generation.label("generation"))
            )
        )
        # Between two modes, and never while a bump is under way
        self._turn = built(
            lambda: (
                update(control)
                .where(generation, c.mode == parameter("before"), c.closing.is_(None))
                .values(mode=parameter("after"))
                .returning(c.generation.label("generation"))
            )
        )
        self._pin = built(
            lambda: (
                update(control)
                .where(generation, c.mode == literal_column("'final'"))
                .values(pin=parameter("pin"))
                .returning(c.generation.label("generation"))
            )
        )
        self._address = built(
            lambda: (
                update(control)
                .where(c.addresses != parameter("new_addresses"))
                .values(addresses=parameter("new_addresses"))
                .returning(c.generation.label("generation"))
            )
        )
        self._report = built(lambda: self._upsert(schema))
        self._forget = built(
            lambda: hosts.delete().where(h.host == parameter("host"), h.pid == bindparam("pid", type_=Integer))
        )
        columns = [h[name].label(name) for name in HostRow.__struct_fields__ if name != "live"]
        live = (h.seen_at > now - number("lease")).label("live")
        self._hosts = built(
            lambda: select(*columns, live).where(h.seen_at > now - number("within")).order_by(h.host, h.pid)
        )
        self._who = built(lambda: text(_IDENTITY)) if dialect.name == "postgresql" else None

    def _upsert(self, schema: ControlSchema) -> Any:
        hosts, now = schema.hosts, self._database.dialect.now()
        values: dict[str, Any] = {
            name: bindparam(f"new_{name}", type_=hosts.c[name].type)
            for name in ("host", "pid", "release", "percent", "generation", "prefix", "mode", "closing", "pin")
        }
        values["use_redis"] = bindparam("new_use_redis", type_=Boolean)
        values |= {
            "seen_at": now,
            "started_at": now,
            "redis_good_at": now - number("good_age"),
            "redis_good_since": now - number("good_since_age"),
            "redis_bad_since": now - number("bad_age"),
        }
        insert = into(self._database.dialect, hosts).values(values)
        changed = {name: insert.excluded[name] for name in values if name not in ("host", "pid", "started_at")}
        return insert.on_conflict_do_update(index_elements=[hosts.c.host, hosts.c.pid], set_=changed)

    async def read(self) -> ControlRow:
        """The control row. One round trip."""
        try:
            rows = await self._database.read(self._read)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error
        if not rows:
            raise StoreUnavailableError(STORE, NOT_PREPARED)
        found = rows[0]._asdict()
        found["old_prefixes"] = tuple(_texts(found["old_prefixes"]))
        found["bumped_at"] = tuple(_times(found["bumped_at"]))
        return ControlRow(**found)

    async def close(self, g: int, token: str, *, stale: float | None = None) -> bool:
        """Step 1 of a bump: no more leases on generation `g`; False where `g` is over, or is final.

        A closing that stands is taken over; with `stale`, only one that is older than so many seconds.
        """
        milliseconds = None if stale is None else int(stale * 1000)
        return bool(await self._database.change(self._close, g=g, token=token, stale=milliseconds))

    async def open(
        self,
        seen: ControlRow,
        token: str,
        *,
        prefix: str | None,
        pin: str | None,
        redis: str,
        addresses: str,
        identity: str | None,
        automatic: bool,
    ) -> bool:
        """Step 4 of a bump: the generation after `seen` is in force; False where another token or generation stands."""
        old = [*seen.old_prefixes, *([seen.prefix] if seen.prefix else [])]
        bumped = [*seen.bumped_at, seen.now][-REMEMBERED:] if automatic else list(seen.bumped_at)
        rows = await self._database.change(
            self._open,
            g=seen.generation,
            token=token,
            new_prefix=prefix,
            new_pin=pin,
            new_redis=redis,
            new_addresses=addresses,
            new_identity=identity,
            new_old_prefixes=msgspec.json.encode(old).decode(),
            new_bumped_at=msgspec.json.encode(bumped).decode(),
        )
        return bool(rows)

    async def cancel(self, g: int, token: str | None = None) -> bool:
        """Cancel a bump of generation `g` (with `token`: only that one); whether one was under way."""
        return bool(await self._database.change(self._cancel, g=g, token=token))

    async def turn(self, g: int, before: str, after: str) -> bool:
        """The mode of generation `g` goes from `before` to `after` (section 9); False where it is another generation,
        another mode, or a bump is under way.
        """
        return bool(await self._database.change(self._turn, g=g, before=before, after=after))

    async def pin(self, g: int, pin: str) -> bool:
        """The server of generation `g` is the one with this replication id, on the way back from final; False where it
        is another generation, or not final.
        """
        return bool(await self._database.change(self._pin, g=g, pin=pin))

    async def set_addresses(self, addresses: str) -> bool:
        """Note where Redis is (HOST:PORT, comma between); whether that is new."""
        return bool(await self._database.change(self._address, new_addresses=addresses))

    async def report(self, report: Report) -> None:
        """Write this process's row."""
        fields = msgspec.structs.asdict(report)
        ages = {name: fields.pop(name) for name in ("good_age", "good_since_age", "bad_age")}
        await self._database.change(self._report, **ages, **{f"new_{name}": value for name, value in fields.items()})

    async def forget(self, host: str, pid: int) -> None:
        """Remove the row of a process that ends in order."""
        await self._database.change(self._forget, host=host, pid=pid)

    async def hosts(self, lease: float, within: float = 86_400) -> list[HostRow]:
        """The rows of processes seen within so many seconds; *live*: written less than `lease` seconds ago."""
        rows = await self._database.read(self._hosts, lease=int(lease * 1000), within=int(within * 1000))
        return [HostRow(**row._asdict()) for row in rows]

    async def identity(self) -> str | None:
        """Which database this is, where it can say: another one after a restore or a promotion."""
        if self._who is None:
            return None
        return str((await self._database.read(self._who))[0][0])

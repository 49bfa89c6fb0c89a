"""The atomic steps of the ownership protocol in SQL, under their names there (docs/ownership.md, section 4).

Each is one statement with all its fences in its own WHERE, so it holds under READ COMMITTED and against a host that was
paused for hours. `:g` is always the generation that the caller has seen, never one that the statement looks up.

GET      the control row, the canaries and the rows of sessions, in one look
INSERT   a new session, for the store that shall own it
CLAIM    the row is Redis' from here on
CAS      change a session that this store owns: WRITE its data, TOUCH its expiry, END it
APPLY    bring a row forward to what Redis has: the mirror of a write, the end of a move back or of a delete
APPLY_ABSENT  the same where the row may be missing, which is so only on the way back from final
LAPSED   rows of Redis' sessions that have expired by their date here: Redis has to be asked
GIVE     give such an end out to be told, if nobody has changed the row since it was looked at
OVER     rows of Redis' sessions that are told and long over
PURGE    remove an expired row that nobody has changed since it was looked at
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Integer,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)

from session_ops.stores.legacy_expiry import first, slid
from session_ops.stores.legacy_mirror import apply_absent, apply_many
from session_ops.stores.legacy_prepared import Statement, digits, into, number, text
from session_ops.stores.legacy_statements import PARTS, given_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect as Driver

    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_dialects import Dialect
    from session_ops.stores.legacy_schema import Schema

CONTROL: Final = ("generation", "prefix", "pin", "mode", "closing", "redis", "addresses")
"""What GET answers of the control row, in this order, the canaries behind it."""

OWNED: Final = ("owner", "generation", "deleted", "told_at")
"""What a step answers of a row behind `PARTS`."""


class OwnedStatements:
    """The steps of one repository. `ttl` and `max_lifetime` (0: none) in seconds, `margin` in ms."""

    def __init__(
        self,
        schema: Schema,
        control: ControlSchema,
        dialect: Dialect,
        driver: Driver,
        *,
        ttl: int,
        max_lifetime: int,
        margin: int,
    ) -> None:
        self._schema = schema
        self._control = control
        self._dialect = dialect
        table, c = schema.sessions, schema.sessions.c
        now = dialect.now()

        def built(statement: Callable[[], Any]) -> Statement:
            return Statement(statement, driver)

        row = [c[part].label(part) for part in PARTS] + [c[part].label(f"row_{part}") for part in OWNED]
        one, generation = c.id == text("id"), bindparam("g", type_=Integer)
        legacy: Any = literal_column("'legacy'")
        redis: Any = literal_column("'redis'")
        raised = c.version + digits(1)

        self.get = built(lambda: self._get(row))
        self.control = built(lambda: select(*self._control_columns(), now).select_from(self._controls()))
        self.insert = built(lambda: self._insert(ttl, max_lifetime).returning(*row))
        claimable = and_(c.generation <= generation, or_(c.owner == legacy, c.generation < generation))
        self.claim = built(
            lambda: (
                update(table)
                .where(one, ~c.deleted, claimable)
                .values(owner=redis, generation=generation, version=raised)
                .returning(*row)
            )
        )
        # What was given out as ended stays ended, should the clock go back
        untold = func.coalesce(c.told_at, digits(0)) == digits(0)
        cas = (
            update(table)
            .where(one, c.version == number("seen"), ~c.deleted, c.expires_at > now, untold)
            .values(version=raised, owner=legacy, generation=generation)
        )
        moved = dialect.greater(c.expires_at, slid(dialect, c.created_at, c.ttl, ttl=ttl, max_lifetime=max_lifetime))
        self.write = built(
            lambda: cas.values(
                data=dialect.data(), updated_at=now, revision=text("revision"), expires_at=moved
            ).returning(*row)
        )
        self.touch = built(lambda: cas.values(expires_at=moved).returning(*row))
        self.end = built(
            lambda: cas.values(deleted=true(), data=literal_column("'{}'"), updated_at=now).returning(c.id.label("id"))
        )
        self.apply = built(lambda: apply_many(schema, dialect, driver))
        self.apply_absent = built(lambda: apply_absent(schema, control, dialect))
        theirs = and_(c.owner == redis, c.generation == generation, ~c.deleted)
        most = bindparam("most", type_=Integer)
        lapsed = and_(theirs, c.told_at.is_(None), c.expires_at <= now)
        self.lapsed = built(lambda: select(*row).where(lapsed).order_by(c.expires_at).limit(most))
        give = update(table).where(one, c.version == number("seen"), lapsed)
        self.give = built(lambda: given_out(schema, dialect, give))
        over = and_(theirs, c.told_at > digits(0), c.expires_at < now - digits(margin))
        self.over = built(lambda: select(*row).where(over).limit(most))
        counters = schema.counters.c
        self.count_purged = built(
            lambda: (
                update(schema.counters)
                .where(counters.name == literal_column("'expired'"))
                .values(value=counters.value + digits(1))
            )
        )
        self.purge = built(lambda: delete(table).where(one, c.version == number("seen")).returning(c.id.label("id")))

    def _control_columns(self) -> list[Any]:
        control, stage = self._control.control.c, self._control.stage.c
        return [*(control[name].label(f"control_{name}") for name in CONTROL), stage.canary_ids.label("canaries")]

    def _controls(self) -> Any:
        return self._control.control.join(self._control.stage, true())

    def _get(self, row: list[Any]) -> Any:
        sessions = self._schema.sessions
        source = self._controls().outerjoin(sessions, self._dialect.among(sessions.c.id))
        return select(*self._control_columns(), self._dialect.now().label("now"), *row).select_from(source)

    def _insert(self, ttl: int, max_lifetime: int) -> Any:
        """Only where the control row allows the owner: Redis in the generation that the host knows (closing would but
        make a 503 of it), this store while the fleet mirrors.
        """
        dialect, control, now = self._dialect, self._control.control, self._dialect.now()
        own = bindparam("ttl", type_=Integer)
        values = {
            "id": text("id"),
            "version": digits(1),
            "owner": text("owner"),
            "generation": control.c.generation,
            "user_id": text("user_id"),
            "agent_id": text("agent_id"),
            "data": dialect.data(),
            "created_at": now,
            "updated_at": now,
            "revision": text("revision"),
            "ttl": own,
            "expires_at": first(dialect, own, ttl=ttl, max_lifetime=max_lifetime),
            "deleted": false(),
            "bucket": bindparam("bucket", type_=Integer),
            "told_at": null(),
        }
        known = and_(control.c.generation == bindparam("g", type_=Integer), control.c.closing.is_(None))
        allowed = case(
            (text("owner") == literal_column("'redis'"), known), else_=control.c.mode == literal_column("'mirror'")
        )
        source = select(*(value.label(name) for name, value in values.items())).select_from(control).where(allowed)
        table = self._schema.sessions
        insert = into(dialect, table).from_select([table.c[name] for name in values], source)
        return insert.on_conflict_do_nothing(index_elements=[table.c.id])

"""Every SQL statement of a legacy store, under its name in the ownership protocol where it has one.

Each changes rows by itself, with all its guards in its own WHERE, so it is correct under READ COMMITTED and needs no
transaction: the loser of two that collide looks at the row again as the winner has left it. They are built once per
repository and rendered once, for the driver; what varies are parameters. Those that change a session take `seen`, the
version that was read, or NULL where the change is right whatever the version is.

GET      a live session                           TAKE, AGAIN  give ended sessions out: new ones, unconfirmed ones
GET_MANY live sessions                            TOLD         confirm that their ends are known
INSERT   a new session                            PURGE        remove what is told and long over
CAS      change a session: all of its data        COUNT_PURGED count what PURGE has removed
MERGE    change a session: single attributes      LIST         a page of sessions
TOUCH    move a session's expiry                  END_USER     end some of a user's sessions
END      end a session                            ACTIVE, STATISTICS, LEAD, PROBE
WHY      what a change that hit no row found
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
    tuple_,
    union_all,
    update,
)

from session_ops.stores.legacy_expiry import first, slid
from session_ops.stores.legacy_prepared import Statement, digits, into, number, text
from session_ops.stores.legacy_schema import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Select
    from sqlalchemy.engine import Dialect as Driver

    from session_ops.limits import Limits
    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_dialects import Dialect
    from session_ops.stores.legacy_schema import Schema

PARTS: Final = (
    "id", "user_id", "agent_id", "created_at", "updated_at", "expires_at", "revision", "version", "ttl", "data",
)  # fmt: skip
"""What a statement answers of a session, in this order; `data` last, for those that leave it out."""


class Statements:
    """The statements of one repository."""

    def __init__(
        self,
        schema: Schema,
        dialect: Dialect,
        driver: Driver,
        *,
        ttl: int,
        max_lifetime: int,
        margin: int,
        limits: Limits,
        control: ControlSchema | None = None,
    ) -> None:
        """`ttl` and `max_lifetime` (0: none) in seconds; `margin` is how long an ended session is kept, in ms.

        With `control` Redis may own rows: those of its generation are left to it.
        """
        self._dialect = dialect
        self._schema = schema
        self._max_lifetime = max_lifetime
        self._ttl = ttl
        table, c = schema.sessions, schema.sessions.c
        now = dialect.now()

        def built(statement: Callable[[], Any]) -> Statement:
            return Statement(statement, driver)

        alive = and_(~c.deleted, c.expires_at > now)
        # What was given out as ended stays ended, should the clock go back. Said in two ways: so that the partial
        # indexes serve what looks for many rows, and so that none of them lures the planner away from the key.
        live = and_(alive, c.told_at.is_(None))
        live_by_key = and_(alive, func.coalesce(c.told_at, digits(0)) == digits(0))
        one = and_(c.id == text("id"), live_by_key)
        seen = or_(number("seen").is_(None), c.version == number("seen"))
        same = or_(text("expected").is_(None), c.revision == text("expected"))
        session = [c[part].label(part) for part in PARTS]
        bookkeeping = session[:-1]
        moved = dialect.greater(c.expires_at, slid(dialect, c.created_at, c.ttl, ttl=ttl, max_lifetime=max_lifetime))
        change = update(table).where(one, seen, same).values(version=c.version + digits(1))
        written = {"updated_at": now, "revision": text("revision"), "expires_at": moved}
        merge = change.where(dialect.fits(c.data, limits.size, limits.attributes)).values(
            data=dialect.merged(c.data), **written
        )
        ending = {
            "version": c.version + digits(1),
            "deleted": true(),
            "data": literal_column("'{}'"),
            "updated_at": now,
        }

        self.get = built(lambda: select(*session).where(one))
        self.get_many = built(lambda: select(*session).where(dialect.among(c.id), live_by_key))
        self.insert = built(lambda: self._insert().returning(*bookkeeping))
        self.cas = built(lambda: change.values(data=dialect.data(), **written).returning(*session))
        self.merge = built(lambda: merge.returning(*session))
        self.merge_briefly = built(lambda: merge.returning(*bookkeeping))
        self.touch = built(lambda: self._touch(session, one, moved))
        self.why = built(
            lambda: select(
                c.revision.label("revision"), dialect.fits(c.data, limits.size, limits.attributes).label("fits")
            ).where(one)
        )
        self.end = built(lambda: update(table).where(one, seen, same).values(ending).returning(c.id))
        self.end_user = built(lambda: self._end_user(live, ending))

        self.take = built(lambda: self._take(live))
        self.again = built(self._again)
        self.told = built(lambda: update(table).where(dialect.among(c.id), c.told_at < digits(0)).values(told_at=now))
        self._ours = c.owner == literal_column(f"'{OWNER}'")
        if control is not None:
            generation = control.control.c.generation
            self._ours = or_(self._ours, c.generation < select(generation).scalar_subquery())
        over = and_(c.told_at > digits(0), c.expires_at < now - digits(margin), self._ours)
        rows = select(c.id).where(over).limit(bindparam("most", type_=Integer)).with_for_update(skip_locked=True)
        self.purge = built(
            lambda: delete(table).where(dialect.chosen(c.id, rows), over).returning(c.deleted.label("deleted"))
        )
        counters = schema.counters
        self.count_purged = built(
            lambda: (
                update(counters)
                .where(counters.c.name == text("name"))
                .values(value=counters.c.value + number("purged"))
            )
        )
        self.active = built(lambda: select(func.count()).select_from(table).where(live))
        self.statistics = built(self._statistics)
        self.lead = built(self._lead)
        self.probe = built(lambda: select(select(*table.c).exists(), select(schema.counters.c.value).exists()))
        self._pages: dict[tuple[bool, bool, bool, bool], Statement] = {}
        self._built = built
        self._listed = select(*session).where(live)

    def page(self, *, user: bool, agent: bool, after: bool, newest: bool) -> Statement:
        """LIST, for what was asked: of a user, of an agent, after a position, newest first."""
        key = (user, agent, after, newest)
        if key not in self._pages:
            self._pages[key] = self._built(lambda: self._page(*key))
        return self._pages[key]

    def _page(self, user: bool, agent: bool, after: bool, newest: bool) -> Select[Any]:
        c = self._schema.sessions.c
        place = tuple_(c.created_at, c.id)
        query = self._listed
        if user:
            query = query.where(c.user_id == text("user_id"))
        if agent:
            query = query.where(c.agent_id == text("agent_id"))
        if after:
            last = tuple_(number("created_at"), text("id"))
            query = query.where(place < last if newest else place > last)
        order = (c.created_at.desc(), c.id.desc()) if newest else (c.created_at, c.id)
        return query.order_by(*order).limit(bindparam("most", type_=Integer))

    def _insert(self) -> Any:
        table, now = self._schema.sessions, self._dialect.now()
        own = bindparam("ttl", type_=Integer)
        values = {
            "id": text("id"),
            "version": digits(1),
            "owner": literal_column(f"'{OWNER}'"),
            "generation": digits(0),
            "user_id": text("user_id"),
            "agent_id": text("agent_id"),
            "data": self._dialect.data(),
            "created_at": now,
            "updated_at": now,
            "revision": text("revision"),
            "ttl": own,
            "expires_at": first(self._dialect, own, ttl=self._ttl, max_lifetime=self._max_lifetime),
            "deleted": false(),
            "bucket": bindparam("bucket", type_=Integer),
        }
        return into(self._dialect, table).values(values).on_conflict_do_nothing(index_elements=[table.c.id])

    def _touch(self, session: Any, one: Any, moved: Any) -> Any:
        """TOUCH writes only where the expiry moves; where the database can, it reads the session itself if not."""
        table, c = self._schema.sessions, self._schema.sessions.c
        touch = (
            update(table)
            .where(one, moved > c.expires_at)
            .values(version=c.version + digits(1), expires_at=moved)
            .returning(*session)
        )
        if not self._dialect.data_modifying_ctes:
            return touch
        touched = touch.cte("touched")
        return union_all(select(touched), select(*session).where(one, ~select(touched.c.id).exists()))

    def _end_user(self, live: Any, ending: Any) -> Any:
        """Locked in the order of ids, or two of them that collide could deadlock."""
        table, c = self._schema.sessions, self._schema.sessions.c
        born = func.coalesce(number("born"), self._dialect.now())
        mine = and_(c.user_id == text("user_id"), c.created_at <= born, live)
        rows = select(c.id).where(mine).order_by(c.id).limit(bindparam("most", type_=Integer)).with_for_update()
        return (
            update(table)
            .where(self._dialect.chosen(c.id, rows), mine)
            .values(ending)
            .returning(self._dialect.now().label("now"))
        )

    def _take(self, live: Any) -> Any:
        """Ends that nobody was told of, oldest first. A row that Redis owns ends there and not by its date here."""
        table, c, now = self._schema.sessions, self._schema.sessions.c, self._dialect.now()
        ours, most = self._ours, bindparam("most", type_=Integer)
        untold = c.told_at.is_(None)
        parts: list[Any] = [
            select(c.id.label("id"), at.label("at")).where(which, untold, ours).order_by(at).limit(most).subquery()
            for at, which in ((c.updated_at, c.deleted), (c.expires_at, and_(~c.deleted, c.expires_at <= now)))
        ]
        every = union_all(*(select(part.c.id, part.c.at) for part in parts)).subquery()
        rows = select(every.c.id).order_by(every.c.at, every.c.id).limit(most)
        return given_out(
            self._schema, self._dialect, update(table).where(self._dialect.chosen(c.id, rows), untold, ~live, ours)
        )

    def _again(self) -> Any:
        """Ends that were given out before `before` and never confirmed, longest ago first."""
        table, c = self._schema.sessions, self._schema.sessions.c
        given = and_(c.told_at < digits(0), c.told_at > -number("before"))
        rows = select(c.id).where(given).order_by(c.told_at.desc(), c.id).limit(bindparam("most", type_=Integer))
        return given_out(self._schema, self._dialect, update(table).where(self._dialect.chosen(c.id, rows), given))

    def _statistics(self) -> Any:
        """Counts of the three parts of the table, each by an index of its own, and what cleanup has removed."""
        c, counters = self._schema.sessions.c, self._schema.counters
        now = select(self._dialect.now()).scalar_subquery()  # once, and not for every row
        parts: list[Any] = [
            select(
                literal_column("''").label("name"),
                func.count().label("rows"),
                func.count().filter(c.deleted).label("deleted"),
                func.count().filter(and_(~c.deleted, taken)).label("expired"),
                func.count().filter(and_(~c.deleted, c.expires_at > now)).label("active"),
            ).where(where)
            for where, taken in (
                (c.told_at.is_(None), false()),
                (c.told_at < digits(0), true()),
                (c.told_at > digits(0), true()),
            )
        ]
        purged = select(counters.c.name, counters.c.value, null(), null(), null())
        return union_all(*parts, purged)

    def _lead(self) -> Any:
        leads, now = self._schema.leads, self._dialect.now()
        until = now + number("ms")
        statement = into(self._dialect, leads).values(task=text("task"), holder=text("holder"), until=until)
        return statement.on_conflict_do_update(
            index_elements=[leads.c.task],
            set_={"holder": statement.excluded.holder, "until": statement.excluded.until},
            where=or_(leads.c.holder == statement.excluded.holder, leads.c.until <= now),
        ).returning(leads.c.task)


def given_out(schema: Schema, dialect: Dialect, chosen: Any) -> Any:
    """The UPDATE `chosen` marks ended sessions as given out to be told, and answers them."""
    c, now = schema.sessions.c, dialect.now()
    ended_at = case((c.deleted, c.updated_at), else_=c.expires_at)
    return chosen.values(told_at=-now).returning(
        *(c[part].label(part) for part in ("id", "user_id", "agent_id", "deleted")),
        ended_at.label("ended_at"),
        now.label("now"),
    )

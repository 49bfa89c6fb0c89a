"""An application with a table of its own, which calls the parts of a session otherwise than we do."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from session_ops.migration.prepare import Preparation, Prepared
from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_columns import read_columns
from session_ops.stores.legacy_database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

COLUMNS = "id=sid,user_id=uid,data=attributes,expires_at=expires"

FAR = 9_000_000_000_000
"""An expiry that no test lives to see."""

_TABLE = (
    "CREATE TABLE {table} (sid VARCHAR(64) PRIMARY KEY, uid TEXT NOT NULL, attributes {data} NOT NULL,"
    " expires BIGINT NOT NULL, ip TEXT)"
)
_VISITS = re.compile(r"(?<![.\w])visits(?!\w)")
# Times and random words that differ from run to run.
_MOMENT = re.compile(r"\b\d{13}\b|'[0-9a-f]{16}'")


class Application:
    """The application's database: its table `visits`, in a namespace of its own where there are any."""

    def __init__(self, url: str, namespace: str | None) -> None:
        self.url = url
        self.namespace = namespace
        self.database = Database(url, deadline=10)
        self.table = f"{namespace}.visits" if namespace else "visits"

    @property
    def postgresql(self) -> bool:
        return self.database.dialect.name == "postgresql"

    async def sql(self, *statements: str) -> Sequence[Any]:
        """Run statements as the application does, which knows nothing of us; the rows of the last."""
        async with self.database.engine.connect() as connection:
            for statement in statements:
                result = await connection.exec_driver_sql(_VISITS.sub(self.table, statement))
                rows = result.all() if result.returns_rows else ()
        return rows

    async def make(self, rows: int = 0, data: str | None = None, table: str = _TABLE) -> None:
        """Make the application's table with sessions `s1`, `s2`, ... that end in a far future."""
        data = data or ("JSONB" if self.postgresql else "TEXT")
        await self.sql(table.format(table="visits", data=data))
        if rows:
            numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})"
            await self.sql(
                f"{numbers.format(rows=rows)} INSERT INTO visits (sid, uid, attributes, expires)"
                f" SELECT CAST('s' || n AS TEXT), 'user' || (n - n / 5 * 5), '{{\"step\":1}}', {FAR} FROM n"
                if not self.postgresql
                else "INSERT INTO visits (sid, uid, attributes, expires)"
                f" SELECT 's' || n, 'user' || mod(n, 5), '{{\"step\":1}}', {FAR} FROM generate_series(1, {rows}) n"
            )

    def preparation(self, columns: str = COLUMNS, **settings: Any) -> Preparation:
        return Preparation(self.database, self.table, columns, who="ann", **settings)

    async def prepare(self, **settings: Any) -> Prepared:
        return await self.preparation(**settings).run(execute=True)

    async def undo(self, *, with_audit: bool = True, **settings: Any) -> Prepared:
        return await self.preparation(**settings).undo(execute=True, with_audit=with_audit)

    def repository(self, **settings: Any) -> LegacySessionRepository:
        return LegacySessionRepository(self.database, table=self.table, columns=read_columns(COLUMNS), **settings)

    async def shape(self) -> list[str]:
        """Everything that the catalogue says of the namespace, without what differs from run to run."""
        if not self.postgresql:
            rows = await self.sql("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY 1, 2")
            return [_MOMENT.sub("?", " ".join(str(part) for part in row)) for row in rows]
        n = f"'{self.namespace}'"
        rows = await self.sql(
            "SELECT 'column', table_name, column_name, data_type, is_nullable, column_default"
            f" FROM information_schema.columns WHERE table_schema = {n}"
            f" UNION ALL SELECT 'index', i.indexname, i.indexdef, x.indisvalid::text, '', '' FROM pg_indexes i"
            f" JOIN pg_index x ON x.indexrelid = format('%%I.%%I', i.schemaname, i.indexname)::regclass"
            f" WHERE schemaname = {n}"
            " UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(t.oid), tgenabled::text, '', '' FROM pg_trigger t"
            f" JOIN pg_class c ON c.oid = tgrelid WHERE c.relnamespace = {n}::regnamespace AND NOT tgisinternal"
            " UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid), convalidated::text, '', ''"
            f" FROM pg_constraint WHERE connamespace = {n}::regnamespace"
            " UNION ALL SELECT 'function', proname, prosrc, '', '', '' FROM pg_proc"
            f" WHERE pronamespace = {n}::regnamespace"
            " ORDER BY 1, 2, 3"
        )
        return [_MOMENT.sub("?", " ".join(str(part) for part in row)) for row in rows]

    @contextlib.asynccontextmanager
    async def unguarded(self) -> AsyncIterator[Any]:
        """A connection for which the guard does not count: a test's own hand in the table."""
        async with self.database.engine.connect() as connection:
            triggers: list[Any] = []
            if self.postgresql:
                await connection.exec_driver_sql("SET session_replication_role = replica")
            else:
                found = await connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
                triggers = list(found.all())
                for name, _ in triggers:
                    await connection.exec_driver_sql(f"DROP TRIGGER {name}")
            yield connection
            if self.postgresql:
                await connection.exec_driver_sql("SET session_replication_role = origin")
            for _, sql in triggers:
                await connection.exec_driver_sql(sql)

"""How sessions lie in SQL: the table, how its columns are called, its indexes, and the two small tables beside it.

Columns are called by what they mean (`Columns`), because an application's own table may call them otherwise.
`told_at` is the outbox of ended sessions, one number so that cleanup alone ever writes it: NULL while nobody was told,
minus the time (ms) since the end has been given out, plus the time once the agent manager has confirmed it. Every row
is in exactly one of these three parts, and each part has its own partial indexes, so that cleanup never wades through
rows that it is done with and a count of live sessions reads an index alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from session_ops.stores.legacy_columns import Columns

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["COUNTERS", "OWNER", "SCHEMA_LOCK", "Columns", "Schema", "insert_into", "lock_schema"]

OWNER = "legacy"
"""The owner of a row that this store may change."""

COUNTERS = ("expired", "deleted")
"""What cleanup counts when it removes rows; what is still there is counted where it lies."""

# Two processes that create the schema at once would collide in PostgreSQL's catalogue even with IF NOT EXISTS.
SCHEMA_LOCK = 0x5E5510

# Of the table's name in its indexes' names: PostgreSQL cuts names to 63 bytes.
_NAME = 50

# Live rows are updated in place (HOT) where their page has room; a session's size changes with its data.
_ROOM = {"fillfactor": 85}


class Schema:
    """The tables of a legacy store. `sessions.c` goes by our names, whatever the database calls the columns."""

    def __init__(self, table: str = "sessions", columns: Columns | None = None) -> None:
        """`table` may carry a schema in front (`app.sessions`); the small tables then stand there as well."""
        namespace, _, name = table.rpartition(".")
        names = columns or Columns()
        self.metadata = MetaData(schema=namespace or None)
        exact = String(128).with_variant(String(128, collation="C"), "postgresql")
        json = Text().with_variant(JSONB(), "postgresql")
        self.sessions = Table(
            name,
            self.metadata,
            Column(names.id, exact, key="id", primary_key=True),
            Column(names.version, BigInteger, key="version", nullable=False, server_default=text("1")),
            Column(names.owner, String(8), key="owner", nullable=False, server_default=OWNER),
            Column(names.generation, Integer, key="generation", nullable=False, server_default=text("0")),
            Column(names.user_id, String(256), key="user_id", nullable=False),
            Column(names.agent_id, String(256), key="agent_id"),
            Column(names.data, json, key="data", nullable=False),
            Column(names.created_at, BigInteger, key="created_at", nullable=False),
            Column(names.updated_at, BigInteger, key="updated_at", nullable=False),
            Column(names.revision, String(16), key="revision", nullable=False),
            Column(names.ttl, Integer, key="ttl"),
            Column(names.expires_at, BigInteger, key="expires_at", nullable=False),
            Column(names.deleted, Boolean, key="deleted", nullable=False, server_default=false()),
            Column(names.bucket, SmallInteger, key="bucket", nullable=False),
            Column(names.told_at, BigInteger, key="told_at"),
            postgresql_with=_ROOM,
        )
        self.counters = Table(
            "session_counters",
            self.metadata,
            Column("name", String(16), primary_key=True),
            Column("value", BigInteger, nullable=False),
        )
        self.leads = Table(
            "session_leads",
            self.metadata,
            Column("task", String(64), primary_key=True),
            Column("holder", String(256), nullable=False),
            Column("until", BigInteger, nullable=False),
        )
        self._index(name)

    def _index(self, name: str) -> None:
        c = self.sessions.c
        untold, told = c.told_at.is_(None), c.told_at > literal_column("0")
        # `deleted` in an index makes the counts of `statistics` index-only.
        for part, columns, where in (
            ("created", (c.created_at, c.id), untold),
            ("user", (c.user_id, c.created_at, c.id), untold),
            ("agent", (c.agent_id, c.created_at, c.id), untold),
            ("expiry", (c.expires_at, c.deleted), untold),
            ("ended", (c.updated_at,), and_(c.deleted, untold)),
            ("given", (c.told_at, c.deleted), c.told_at < literal_column("0")),
            ("told", (c.expires_at, c.deleted), told),
        ):
            Index(f"{name[:_NAME]}_{part}", *columns, postgresql_where=where, sqlite_where=where)

    def create(self, connection: Connection) -> None:
        """Make whatever of the tables is missing. Repeatable, and safe to run on several hosts at once."""
        lock_schema(connection)
        self.metadata.create_all(connection)
        rows = [{"name": name, "value": 0} for name in COUNTERS]
        connection.execute(insert_into(connection, self.counters).values(rows).on_conflict_do_nothing())


def lock_schema(connection: Connection) -> None:
    """Until the transaction ends nobody else makes tables of ours; it may take its time."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")


def insert_into(connection: Connection, table: Table) -> Any:
    """The database's own INSERT, which knows ON CONFLICT."""
    return insert_postgresql(table) if connection.dialect.name == "postgresql" else insert_sqlite(table)

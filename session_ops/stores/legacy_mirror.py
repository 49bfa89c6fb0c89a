"""APPLY in SQL: many rows brought forward by one statement, and the single row that may be missing.

Written as text: what one database calls a record set another calls a table of JSON values, and there is no third way
that both share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy
from sqlalchemy import Integer, String, Text, and_, bindparam, case, false, literal_column, or_, select

from session_ops.stores.legacy_prepared import into, number, text
from session_ops.stores.legacy_rows import bucket_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Dialect as Driver

    from session_ops.records import Record
    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_dialects import Dialect
    from session_ops.stores.legacy_schema import Schema

_encode = msgspec.json.Encoder().encode

# Each copy is an object of these; `data` is JSON as text, so that no database reads numbers in it on the way.
_POSTGRESQL: Final = """
WITH copies AS (
  SELECT * FROM json_to_recordset(CAST(:copies AS json)) AS
    v(id text, version bigint, state text, data text, expires_at bigint, updated_at bigint, revision text)
), locked AS MATERIALIZED (
  SELECT s.{id} AS id FROM {table} AS s WHERE s.{id} = ANY (ARRAY(SELECT id FROM copies)) ORDER BY s.{id} FOR UPDATE
)
UPDATE {table} AS s SET {changes}
FROM copies AS v JOIN locked AS l ON l.id = v.id
WHERE s.{id} = v.id AND s.{generation} = :g AND s.{version} < v.version
RETURNING s.{id} AS id
"""

_SQLITE: Final = """
UPDATE {table} AS s SET {changes}
FROM (
  SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.version') AS version,
    json_extract(value, '$.state') AS state, json_extract(value, '$.data') AS data,
    json_extract(value, '$.expires_at') AS expires_at, json_extract(value, '$.updated_at') AS updated_at,
    json_extract(value, '$.revision') AS revision
  FROM json_each(:copies)
) AS v
WHERE s.{id} = v.id AND s.{generation} = :g AND s.{version} < v.version
RETURNING {id} AS id
"""


def apply_many(schema: Schema, dialect: Dialect, driver: Driver) -> Any:
    """APPLY for the parameters `copies` (see `pack_copies`) and `g`; answers the ids of the rows that it changed.

    Rows are locked in the order of their ids, or two of these that collide could deadlock. No id may come twice:
    PostgreSQL would take an arbitrary one.
    """
    quote = driver.identifier_preparer.quote
    names = {part: quote(schema.sessions.c[part].name) for part in schema.sessions.c.keys()}  # noqa: SIM118 - columns, not names, are what iterating gives
    postgresql = dialect.name == "postgresql"
    # An application's own column may be json or text, to which jsonb is assigned as it is
    as_data, greatest = ("CAST({} AS jsonb)", "GREATEST") if postgresql else ("{}", "MAX")
    data, kept = as_data.format("v.data"), as_data.format(f"s.{names['data']}")
    changes = {
        "version": "v.version",
        "data": f"CASE v.state WHEN 'deleted' THEN '{{}}' ELSE COALESCE({data}, {kept}) END",
        "expires_at": f"{greatest}(s.{names['expires_at']}, v.expires_at)",
        "updated_at": f"COALESCE(v.updated_at, s.{names['updated_at']})",
        "revision": f"COALESCE(v.revision, s.{names['revision']})",
        "owner": f"CASE v.state WHEN 'active' THEN s.{names['owner']} ELSE 'legacy' END",
        "deleted": f"(s.{names['deleted']} OR v.state = 'deleted')",
    }
    statement = (_POSTGRESQL if postgresql else _SQLITE).format(
        table=driver.identifier_preparer.format_table(schema.sessions),
        changes=", ".join(f"{names[part]} = {value}" for part, value in changes.items()),
        **{part: names[part] for part in ("id", "version", "generation")},
    )
    return sqlalchemy.text(statement).bindparams(bindparam("copies", type_=Text), bindparam("g", type_=Integer))


def apply_absent(schema: Schema, control: ControlSchema, dialect: Dialect) -> Any:
    """APPLY of one active or deleted record (the parameters of `absent_parameters`) whose row may be missing.

    Inserts only while the control row is final in this generation: at any other time a missing row was purged.
    """
    table, row = schema.sessions, control.control
    generation, state = bindparam("g", type_=Integer), text("state")
    deleted = state == literal_column("'deleted'")
    values: dict[str, Any] = {
        "id": text("id"),
        "version": number("version"),
        "owner": case((deleted, literal_column("'legacy'")), else_=literal_column("'redis'")),
        "generation": generation,
        "user_id": text("user_id"),
        "agent_id": bindparam("agent_id", type_=String),
        "data": dialect.data(),
        "created_at": number("created_at"),
        "updated_at": number("updated_at"),
        "revision": text("revision"),
        "ttl": bindparam("ttl", type_=Integer),
        "expires_at": number("expires_at"),
        "deleted": case((deleted, sqlalchemy.true()), else_=false()),
        "bucket": bindparam("bucket", type_=Integer),
    }
    allowed = and_(row.c.generation == generation, row.c.mode == literal_column("'final'"))
    source = select(*(value.label(name) for name, value in values.items())).select_from(row).where(allowed)
    insert = into(dialect, table).from_select([table.c[name] for name in values], source)
    new, c = insert.excluded, table.c
    return insert.on_conflict_do_update(
        index_elements=[c.id],
        set_={
            c.version: new.version,
            c.data: new.data,
            c.expires_at: dialect.greater(c.expires_at, new.expires_at),
            c.updated_at: new.updated_at,
            c.revision: new.revision,
            c.owner: case((deleted, literal_column("'legacy'")), else_=c.owner),
            c.deleted: or_(c.deleted, new.deleted),
        },
        where=and_(c.generation == generation, c.version < new.version),
    ).returning(c.id.label("id"))


def pack_copies(records: Iterable[Record], dialect: Dialect) -> str:
    """The parameter `copies` of APPLY."""
    copies: list[dict[str, Any]] = []
    for record in records:
        session = record.session
        copy: dict[str, Any] = {
            "id": session.id,
            "version": session.version,
            "state": record.state,
            "expires_at": session.expires_at,
        }
        if record.filled:
            copy["updated_at"] = session.updated_at
            copy["revision"] = session.revision
            copy["data"] = dialect.document(_encode(session.data).decode())
        copies.append(copy)
    return _encode(copies).decode()


def absent_parameters(record: Record, dialect: Dialect) -> dict[str, Any]:
    """The parameters of APPLY_ABSENT, without the generation."""
    session = record.session
    return {
        "id": session.id,
        "version": session.version,
        "state": record.state,
        "user_id": session.user_id,
        "agent_id": session.agent_id,
        "data": dialect.document(_encode(session.data).decode()),
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "revision": session.revision,
        "ttl": session.ttl,
        "expires_at": session.expires_at,
        "bucket": bucket_of(session.id),
    }

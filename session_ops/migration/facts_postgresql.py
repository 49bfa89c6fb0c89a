"""What PostgreSQL's catalogue says of a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from session_ops.migration.facts import ColumnFacts, Facts, IndexFacts, Kind
from session_ops.migration.names import CHECK, TRIGGERS

if TYPE_CHECKING:
    from session_ops.migration.names import Names
    from session_ops.migration.work import Work

OLDEST: Final = 130_000
"""13: what the repository itself asks for. Since 11 a column with a constant default does not rewrite the table, and
since 12 SET NOT NULL believes a proven constraint."""

NOW: Final = "CAST(floor(EXTRACT(EPOCH FROM now()) * 1000) AS BIGINT)"

_KINDS: Final[dict[str, tuple[Kind, int]]] = {
    "text": ("text", 0),
    "character varying": ("text", 0),
    "jsonb": ("json", 0),
    "json": ("json", 0),
    "smallint": ("integer", 16),
    "integer": ("integer", 32),
    "bigint": ("integer", 64),
    "boolean": ("boolean", 0),
}
_LENGTH = re.compile(r"^(.*?)(?:\((\d+)\))?$")
_RELATIONS: Final = {
    "v": "a view",
    "m": "a materialized view",
    "p": "a partitioned table",
    "f": "a foreign table",
    "S": "a sequence",
}


async def read_relation(work: Work, names: Names) -> Facts:
    """What the catalogue says. A handful of short queries, no lock that anybody would notice."""
    version = int(await work.value("SHOW server_version_num"))
    now = int(await work.value(f"SELECT {NOW}"))
    if version < OLDEST:
        return Facts(now=now, refused=(f"PostgreSQL {version // 10_000} is too old; 13 or later",))
    namespace = names.namespace or await work.value("SELECT current_schema()")
    found = await work.rows(
        "SELECT c.oid, c.relkind, pg_has_role(c.relowner, 'USAGE') AS owner, pg_get_userbyid(c.relowner) AS owner_name,"
        " c.relpersistence, c.relispartition, current_user AS me"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :namespace AND c.relname = :table",
        namespace=namespace,
        table=names.table,
    )
    elsewhere = await work.value(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass(:table) AND n.nspname <> :namespace",
        table=names.sessions,
        namespace=namespace,
    )
    refused = [
        f"LEGACY_TABLE: {names.table} stands in another schema; name it with its schema, {elsewhere}.{names.table}"
        for _ in (elsewhere,)
        if elsewhere
    ]
    refused += await _rights(work, names, namespace)
    if not found:
        return Facts(now=now, refused=tuple(refused), **await _ours(work, namespace))
    relation = found[0]
    if relation.relkind != "r" or relation.relispartition:
        kind = _RELATIONS.get(relation.relkind, "a partition")
        refused.append(f"{names.sessions} is {kind}; only an ordinary table can be prepared")
    if not relation.owner:
        refused.append(
            f"no right to change {names.sessions}: it belongs to {relation.owner_name};"
            f" GRANT {names.plain(relation.owner_name)} TO {names.plain(relation.me)}, or run this as the owner"
        )
    oid = relation.oid
    columns = await _columns(work, oid)
    indexes, key = await _indexes(work, oid)
    return Facts(
        now=now,
        exists=True,
        refused=tuple(refused),
        columns=columns,
        key=key,
        indexes=indexes,
        guard=await _guard(work, oid),
        check=await _check(work, oid),
        **await _ours(work, namespace),
    )


async def _rights(work: Work, names: Names, namespace: str | None) -> list[str]:
    if namespace is None:
        return ["no schema of search_path exists: name the table with its schema in LEGACY_TABLE"]
    exists = await work.value("SELECT oid FROM pg_namespace WHERE nspname = :namespace", namespace=namespace)
    if exists is None:
        return [f"LEGACY_TABLE: there is no schema {namespace}"]
    if not await work.value("SELECT has_schema_privilege(:namespace, 'CREATE')", namespace=namespace):
        me = await work.value("SELECT current_user")
        return [
            f"no right to make tables in schema {namespace}: GRANT CREATE ON SCHEMA {names.plain(namespace)} TO {me}"
        ]
    return []


async def _columns(work: Work, oid: int) -> dict[str, ColumnFacts]:
    rows = await work.rows(
        "SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull, atthasdef OR attidentity <> ''"
        " AS has_default, attgenerated <> '' AS computed FROM pg_attribute"
        " WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        oid=oid,
    )
    return {row.attname: _column(row) for row in rows}


def _column(row: Any) -> ColumnFacts:
    matched = _LENGTH.match(row.type)
    bare, length = (matched[1], matched[2]) if matched else (row.type, None)
    kind, bits = _KINDS.get(bare, ("other", 0))
    return ColumnFacts(
        name=row.attname,
        type=row.type,
        kind=kind,
        bits=bits,
        length=int(length) if length and kind == "text" else None,
        nullable=not row.attnotnull,
        default=bool(row.has_default),
        computed=bool(row.computed),
    )


async def _indexes(work: Work, oid: int) -> tuple[dict[str, IndexFacts], tuple[str, ...] | None]:
    rows = await work.rows(
        "SELECT c.relname, i.indisvalid AND i.indisready AS valid, i.indisunique AND i.indimmediate AS is_unique,"
        " i.indisprimary, i.indpred IS NOT NULL AS partial,"
        " ARRAY(SELECT coalesce(a.attname, '(expression)') FROM unnest(i.indkey) WITH ORDINALITY k (number, place)"
        "  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number"
        "  WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = :oid",
        oid=oid,
    )
    indexes = {
        row.relname: IndexFacts(
            name=row.relname,
            columns=tuple(row.columns),
            partial=row.partial,
            unique=row.is_unique,
            valid=row.valid,
        )
        for row in rows
    }
    return indexes, next((tuple(row.columns) for row in rows if row.indisprimary), None)


async def _guard(work: Work, oid: int) -> tuple[str, ...]:
    """The comments of the guard's triggers, each of which is a fingerprint; a disabled one has another."""
    rows = await work.rows(
        "SELECT t.tgname, CASE WHEN t.tgenabled IN ('O', 'A') THEN obj_description(t.oid, 'pg_trigger')"
        " ELSE 'disabled' END AS said FROM pg_trigger t"
        " WHERE t.tgrelid = :oid AND t.tgname = ANY(:names) ORDER BY t.tgname",
        oid=oid,
        names=list(TRIGGERS),
    )
    return tuple(f"{row.tgname}: {row.said}" for row in rows)


async def _check(work: Work, oid: int) -> Literal["absent", "unproven", "proven"]:
    proven = await work.value(
        "SELECT convalidated FROM pg_constraint WHERE conrelid = :oid AND conname = :name", oid=oid, name=CHECK
    )
    return "absent" if proven is None else "proven" if proven else "unproven"


async def _ours(work: Work, namespace: str | None) -> dict[str, Any]:
    rows = await work.rows(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :namespace AND c.relkind = 'r' AND c.relname LIKE :ours",
        namespace=namespace,
        ours=r"session\_%",
    )
    return {"beside": frozenset(row.relname for row in rows)}

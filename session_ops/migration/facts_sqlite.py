"""What SQLite's catalogue says of a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from session_ops.migration.facts import ColumnFacts, Facts, IndexFacts, Kind
from session_ops.migration.names import TRIGGERS, literal

if TYPE_CHECKING:
    from session_ops.migration.names import Names
    from session_ops.migration.work import Work

NOW: Final = "CAST(round((julianday('now') - 2440587.5) * 864e5) AS INTEGER)"

_LENGTH = re.compile(r"\((\d+)\)")


async def read_file(work: Work, names: Names) -> Facts:
    """What the catalogue says."""
    now = int(await work.value(f"SELECT {NOW}"))
    if names.namespace:
        return Facts(now=now, refused=("LEGACY_TABLE: SQLite has no schemas; name the table alone",))
    catalogue = await work.rows("SELECT type, name, tbl_name, sql FROM sqlite_master")
    tables = {row.name: row for row in catalogue if row.type in ("table", "view")}
    beside = frozenset(tables)
    relation = tables.get(names.table)
    if relation is None:
        return Facts(now=now, beside=beside)
    refused = []
    sql = relation.sql or ""
    if relation.type == "view" or re.match(r"\s*CREATE\s+VIRTUAL", sql, re.IGNORECASE):
        refused.append(f"{names.sessions} is no ordinary table; only an ordinary table can be prepared")
    described = await work.rows(f"PRAGMA table_xinfo({names.sessions})")
    columns = {
        row.name: ColumnFacts(
            name=row.name,
            type=row.type or "no type",
            kind=_kind(row.type),
            length=_length(row.type),
            nullable=not row.notnull and not row.pk,
            default=row.dflt_value is not None or (row.pk == 1 and row.type.upper() == "INTEGER"),
            computed=row.hidden in (2, 3),
        )
        for row in described
    }
    key = tuple(row.name for row in sorted(described, key=lambda row: int(row.pk)) if row.pk)
    return Facts(
        now=now,
        exists=True,
        refused=tuple(refused),
        columns=columns,
        key=key or None,
        indexes=await _indexes(work, names),
        guard=tuple(sorted(row.sql for row in catalogue if row.type == "trigger" and row.name in TRIGGERS)),
        check="proven",  # the guard's own triggers see to it
        beside=beside,
    )


async def _indexes(work: Work, names: Names) -> dict[str, IndexFacts]:
    found = {}
    for row in await work.rows(f"PRAGMA index_list({names.sessions})"):
        parts = await work.rows(f"PRAGMA index_info({literal(row.name)})")
        found[row.name] = IndexFacts(
            name=row.name,
            columns=tuple(part.name or "(expression)" for part in parts),
            partial=bool(row.partial),
            unique=bool(row.unique),
        )
    return found


def _kind(declared: str) -> Kind:
    """What the column keeps as it is given, by SQLite's rules of affinity (sqlite.org/datatype3.html, 3.1)."""
    name = declared.upper()
    if "BOOL" in name:
        return "boolean"
    if "INT" in name:
        return "integer"
    if any(each in name for each in ("CHAR", "CLOB", "TEXT")):
        return "text"
    return "json" if "JSON" in name else "other"


def _length(declared: str) -> int | None:
    matched = _LENGTH.search(declared)
    return int(matched[1]) if matched else None

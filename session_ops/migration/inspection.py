"""Reads what there is: the application's table, and what prepare has made so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import func, select

from session_ops.migration.facts import Facts, Made
from session_ops.migration.facts_postgresql import read_relation
from session_ops.migration.facts_sqlite import read_file

if TYPE_CHECKING:
    from session_ops.migration.names import Names
    from session_ops.migration.work import Work


async def inspect(work: Work, names: Names) -> Facts:
    """Everything that planning needs. Reads the catalogue and our own small tables."""
    facts = await (read_relation(work, names) if work.postgresql else read_file(work, names))
    single = set()
    for table in names.control.single:
        if table.name in facts.beside and await work.value(_text(names, select(func.count()).select_from(table))):
            single.add(table.name)
    changes: dict[str, object] = {"single": frozenset(single)}
    if names.columns.id in facts.columns and not facts.refused:
        bucket = facts.columns.get(names.columns.bucket)
        if bucket is None or bucket.nullable:
            changes["unfilled"] = await _is_unfilled(work, names, has_bucket=bucket is not None)
    if names.prepared.name in facts.beside:
        made = await work.rows(_text(names, select(names.prepared.c.kind, names.prepared.c.name)))
        changes["prepared"] = frozenset(Made(kind=row.kind, name=row.name) for row in made)
    if names.control.stage.name in single:
        stage = names.control.stage.c
        [row] = await work.rows(_text(names, select(stage.stage, stage.use_redis, stage.percent)))
        changes |= {"stage": row.stage, "use_redis": bool(row.use_redis), "percent": row.percent}
    if names.control.control.name in single:
        control = names.control.control.c
        [row] = await work.rows(_text(names, select(control.generation, control.mode, control.redis)))
        changes |= {"generation": row.generation, "mode": row.mode, "redis": row.redis}
    return msgspec.structs.replace(facts, **changes)


async def _is_unfilled(work: Work, names: Names, *, has_bucket: bool) -> bool:
    session_id = names.columns.id
    where = f"{names.plain(session_id)} IS NOT NULL" + (f" AND {names.column('bucket')} IS NULL" if has_bucket else "")
    return bool(await work.rows(f"SELECT 1 FROM {names.sessions} WHERE {where} LIMIT 1"))


def _text(names: Names, statement: object) -> str:
    return str(statement.compile(dialect=names.driver))  # type: ignore[attr-defined]
